"""Suffix lookup in real runs and replays of the embedded target, with and without past outputs."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from specmeasure import demo
from specmeasure.api import runs
from specmeasure.api.replay_reports import conclude_replay
from specmeasure.api.replays import start_replay
from specmeasure.corpus import load_corpus
from specmeasure.engines.models import LoadedModels
from specmeasure.errors import SpecmeasureError
from specmeasure.records.plan import BASELINE, Arm, Method, ModelOptions, NgramPick, Plan
from specmeasure.records.replay import ReplayRequest
from specmeasure.records.request import Request
from specmeasure.records.trace import BlockRecord, Trace, TrialRecord
from specmeasure.run.watch import Watchers

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("timed_briefly")]

K = 6
SUFFIX = Arm(name="suffix", method=Method.SUFFIX, num_speculative_tokens=K)
EARLIEST = Arm(
    name="ngram", method=Method.NGRAM, num_speculative_tokens=K, max_ngram=3, min_ngram=1
)
LATEST = replace(EARLIEST, name="ngram latest", ngram_pick=NgramPick.LATEST)
OPTIONS = ModelOptions(device="cpu", dtype="float32", num_threads=1)


def past_arm(source: Path | str) -> Arm:
    return replace(SUFFIX, name="suffix past", past_outputs=str(source))


def request_for(prompts: Path, *arms: Arm, include_text: bool = False) -> Request:
    plan = Plan(
        target=demo.TARGET,
        arms=(BASELINE, *arms),
        max_new_tokens=24,
        include_text=include_text,
        options=OPTIONS,
    )
    return Request(plan=plan, sources=(str(prompts),))


def write_prompts(path: Path, texts: Iterable[str]) -> Path:
    rows = [{"id": f"p{place}", "turns": [text]} for place, text in enumerate(texts)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def drafted(trials: Iterable[TrialRecord], arm: Arm) -> dict[str, list[tuple[int, int]]]:
    """Drafts and kept drafts of every pass, by prompt."""

    def said(block: BlockRecord) -> tuple[int, int]:
        return block.num_draft_tokens, block.num_accepted_tokens

    return {
        one.key.prompt_id: [said(block) for block in one.blocks]
        for one in trials
        if one.key.arm == arm.name
    }


@dataclass(frozen=True)
class Before:
    """What was asked before, and what was recorded of it."""

    prompts: Path
    run: Path
    trace: Trace


@pytest.fixture(scope="module")
def texts() -> list[str]:
    shipped = load_corpus(["prompts/maths.jsonl", "prompts/code.jsonl"]).prompts
    return [one.messages[0].content for one in shipped[::12]]


@pytest.fixture(scope="module")
def before(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Before:
    folder = tmp_path_factory.mktemp("before")
    prompts = write_prompts(folder / "prompts.jsonl", texts)
    trace = runs.start(request_for(prompts, include_text=True), folder / "run")
    return Before(prompts, folder / "run", trace)


def test_output_is_the_targets(before: Before, texts: list[str], tmp_path: Path):
    """Every lookup's greedy answers are the baseline's, also to what was asked before."""
    prompts = write_prompts(
        tmp_path / "prompts.jsonl", [texts[0], *(f"{text} Why?" for text in texts[:3])]
    )
    arms = (EARLIEST, LATEST, SUFFIX, past_arm(before.run))
    trace = runs.start(request_for(prompts, *arms), tmp_path / "run")
    answers: dict[str, set[str | None]] = {}
    for one in trace.trials:
        answers.setdefault(one.key.prompt_id, set()).add(one.ids_hash)

    assert [1] * len(answers) == [len(hashes) for hashes in answers.values()]
    assert not [one.error for one in trace.trials if one.failed]
    for arm in arms:
        assert sum(kept for passes in drafted(trace.trials, arm).values() for _, kept in passes)


def test_an_answer_never_helps_itself(before: Before, texts: list[str], tmp_path: Path):
    """A past of one's own answer drafts as no past, pass by pass; one of others' does not."""
    alone = write_prompts(tmp_path / "alone.jsonl", texts[:1])
    runs.start(request_for(alone, include_text=True), tmp_path / "own")
    with_own = past_arm(tmp_path / "own")
    with_others = replace(past_arm(before.run), name="suffix others")
    trace = runs.start(request_for(alone, SUFFIX, with_own, with_others), tmp_path / "run")
    without, own, others = (drafted(trace.trials, arm) for arm in (SUFFIX, with_own, with_others))

    assert without == own
    assert without != others


def test_a_resumed_run_drafts_alike(before: Before, texts: list[str], tmp_path: Path):
    """Interrupted and gone on with, all blocks are those of a run in one piece."""
    prompts = write_prompts(tmp_path / "prompts.jsonl", [f"{text} Why?" for text in texts[:2]])
    arm = past_arm(before.run)
    request = request_for(prompts, SUFFIX, arm)
    whole = runs.start(request, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        runs.start(request, tmp_path / "cut", watchers=Watchers(trial=_stop_after(4)))
    resumed = runs.resume(tmp_path / "cut")

    assert resumed.sealed
    assert drafted(whole.trials, arm) == drafted(resumed.trials, arm)


def _stop_after(num_trials: int) -> Callable[[], None]:
    left = [num_trials]

    def tell() -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    return tell


def test_a_replay_knows_every_pass(before: Before, texts: list[str], tmp_path: Path):
    """Replayed lookups predict the real runs at the best K: the same answers, as many passes."""
    prompts = write_prompts(tmp_path / "prompts.jsonl", [f"{text} Why?" for text in texts[:4]])
    request = ReplayRequest(
        request=request_for(prompts, LATEST, SUFFIX, past_arm(before.run)),
        num_confirmed=3,
        batch_size=4,
    )
    folder = tmp_path / "replay"
    trace = start_replay(request, folder)
    agreements = conclude_replay(trace, folder).agreements

    assert {"ngram latest", "suffix", "suffix past"} == {one.candidate for one in agreements}
    for one in agreements:
        assert (4, 0) == (one.num_same_answers, one.num_other_answers)
        assert one.num_same_answers == one.num_equal_counts


def test_memory_of_the_past_is_counted(before: Before, tmp_path: Path):
    """Its index is the arm's own memory, and a baseline's is not touched by it."""
    prompts = write_prompts(tmp_path / "prompts.jsonl", ["How many are there?"])
    arm = past_arm(before.run)
    trace = runs.start(request_for(prompts, SUFFIX, arm), tmp_path / "run")
    size = {one.key.arm: one.model_bytes or 0 for one in trace.trials}
    loaded = LoadedModels.load(request_for(prompts, arm).plan, most_threads=1)

    assert size["baseline"] == size["suffix"]
    assert loaded.past_bytes(arm) == size["suffix past"] - size["suffix"] > 0


def test_recorded_responses_are_a_past(before: Before, texts: list[str], tmp_path: Path):
    """Responses beside plain questions help other chats, and no chat about the same question."""
    tokenizer = LoadedModels.load(request_for(before.prompts).plan, most_threads=1).tokenizer
    replies = [
        tokenizer.decode(one.token_ids, skip_special_tokens=True) for one in before.trace.trials
    ]
    rows = [{"prompt": text, "response": one} for text, one in zip(texts, replies, strict=True)]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (tmp_path / "others.jsonl").write_text("\n".join(map(json.dumps, rows[1:])) + "\n")
    prompts = write_prompts(tmp_path / "prompts.jsonl", texts[:1])
    arm = past_arm(tmp_path / "all.jsonl")
    others = replace(past_arm(tmp_path / "others.jsonl"), name="suffix others")
    trace = runs.start(request_for(prompts, SUFFIX, arm, others), tmp_path / "run")

    assert drafted(trace.trials, others) == drafted(trace.trials, arm)
    assert drafted(trace.trials, SUFFIX) != drafted(trace.trials, arm)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("a run without text", "--include-text"),
        ("prompts without responses", "no recorded responses"),
        ("nothing", "nothing"),
    ],
)
def test_what_is_no_past_is_said(written: str, said: str, texts: list[str], tmp_path: Path):
    """One clear error that names the source and the remedy, before any weights are read."""
    prompts = write_prompts(tmp_path / "prompts.jsonl", texts[:1])
    source = tmp_path / "nothing"
    if written == "a run without text":
        source = tmp_path / "run"
        runs.start(request_for(prompts), source)
    elif written == "prompts without responses":
        source = prompts

    with pytest.raises(SpecmeasureError, match=said) as raised:
        runs.start(request_for(prompts, past_arm(source)), tmp_path / "out")

    assert source.name in str(raised.value)
    assert texts[0][:20] not in str(raised.value)
