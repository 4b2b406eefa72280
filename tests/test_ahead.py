"""What is settled before weights are read: which prompts fit, and what they will need."""

from dataclasses import replace
from pathlib import Path

import pytest

from specmeasure import api, demo
from specmeasure.api.ahead import longest_prompts, look_ahead
from specmeasure.corpus.load import load_corpus
from specmeasure.engines import loading, memory
from specmeasure.engines.ahead import ModelsAhead
from specmeasure.errors import ModelError, OutOfMemory, UnreadableCorpus
from specmeasure.records.corpus import AskedSampling, CorpusOptions, Message, Prompt
from specmeasure.records.plan import BASELINE, Arm, Method, ModelOptions, Plan
from specmeasure.trace import store

DRAFTING = Arm(
    name="draft k=2", method=Method.DRAFT_MODEL, num_speculative_tokens=2, draft=demo.DRAFT
)
PLAN = Plan(
    target=demo.TARGET,
    arms=(BASELINE, DRAFTING),
    max_new_tokens=4,
    options=ModelOptions(device="cpu", num_threads=1),
)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("def one():\ndef a_much_longer_function_name(value, other):\n")
    return path


def ahead_of(path: Path, plan: Plan = PLAN):
    options = CorpusOptions()
    return look_ahead(plan, load_corpus([str(path)], options), options)


def no_weights(*_: object, **__: object) -> None:
    raise AssertionError("weights were read")


def test_nothing_is_loaded(prompts: Path, monkeypatch: pytest.MonkeyPatch):
    """Tokenizer and configs tell which prompts fit and what each arm will need."""
    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", no_weights)
    found = ahead_of(prompts)

    assert 2 == len(found.prompts)
    assert found.memory is not None
    assert ["baseline", "draft k=2"] == [need.arm for need in found.memory.needs]
    assert () == found.warnings


def test_a_run_keeps_what_was_predicted(prompts: Path, tmp_path: Path):
    """The manifest holds it, as it is read back."""
    run = tmp_path / "run"
    api.start(api.Request(plan=PLAN, sources=(str(prompts),)), run)
    kept = store.read_trace(run).manifest.memory

    assert kept is not None
    assert "cpu" == kept.device
    assert replace(kept, free_bytes=None) == replace(ahead_of(prompts).memory, free_bytes=None)


def test_what_cannot_fit_is_refused_before_weights_are_read(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With the longest prompts by their places; no folder is left behind."""
    monkeypatch.setattr(memory, "free_bytes", lambda _: 2**20)
    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", no_weights)
    run = tmp_path / "run"
    with pytest.raises(OutOfMemory, match=r"prompts\.txt:2 with \d+, .*prompts\.txt:1 with"):
        api.start(api.Request(plan=PLAN, sources=(str(prompts),)), run)

    assert not run.exists()


def test_what_may_not_fit_is_kept_as_a_warning(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A run that goes on says in its brief that memory was short."""
    found = ahead_of(prompts).memory
    assert found is not None
    monkeypatch.setattr(memory, "free_bytes", lambda _: found.largest.total_bytes)
    trace = api.start(api.Request(plan=PLAN, sources=(str(prompts),)), tmp_path / "run")

    assert any(one.startswith("Memory may run out:") for one in trace.manifest.warnings)


def test_weights_that_are_there_already_are_free_again(prompts: Path):
    """A target that is in memory is not needed twice."""
    options = CorpusOptions()
    corpus = load_corpus([str(prompts)], options)
    plain, held = (look_ahead(PLAN, corpus, options, held_bytes=size).memory for size in (0, 2**50))

    assert plain is not None
    assert held is not None
    assert held.free_bytes >= 2**50 > plain.free_bytes


def test_prompts_without_tokens_are_told_before_weights_are_read(tmp_path: Path):
    """A budget that no prompt leaves room for is the corpus's fault, not the models'."""
    path = tmp_path / "prompts.txt"
    path.write_text("def one():\n")
    with pytest.raises(UnreadableCorpus, match="pass the models' context"):
        ahead_of(path, replace(PLAN, max_new_tokens=10**6))


def test_drafts_that_are_not_there_are_told_first(prompts: Path):
    """Before a prompt is counted."""
    missing = replace(DRAFTING, draft="/no/such/draft")
    with pytest.raises(ModelError, match="/no/such/draft"):
        ahead_of(prompts, replace(PLAN, arms=(BASELINE, missing)))


def test_later_turns_stand_behind_whole_answers():
    """Earlier replies are taken at their budget, and what a row asks for is its budget."""
    talk = tuple(Message(role="user", content="def one():") for _ in range(3))
    chat = Prompt(prompt_id="1", category="c", source="f:1", messages=talk)
    short = replace(chat, prompt_id="2", source="f:2", asked=AskedSampling(max_tokens=1))
    models = ModelsAhead.read(PLAN)
    longest, shorter = longest_prompts([short, chat], models)

    assert ["f:1", "f:2"] == [longest.place, shorter.place]
    assert 2 * 4 - 2 * 1 == longest.num_prompt_tokens - shorter.num_prompt_tokens
    assert (4, 1) == (longest.num_new_tokens, shorter.num_new_tokens)
