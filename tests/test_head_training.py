"""Training heads end to end on the embedded target: answers, steps, interruptions, both layouts."""

import dataclasses
import json
import os
import signal

import pytest

from specmeasure.api.head_training import read_training, resume_heads, train_heads
from specmeasure.engines.heads import load_heads
from specmeasure.engines.loading import load_tokenizer
from specmeasure.engines.models import LoadedModels
from specmeasure.errors import InsufficientEvidence, UnreadableCorpus, UnreadableTrace, UsageError
from specmeasure.records.corpus import CorpusOptions
from specmeasure.records.heads_training import HeadSettings, HeadTrainingRequest
from specmeasure.records.plan import (
    BASELINE,
    GREEDY,
    Arm,
    Method,
    ModelOptions,
    Plan,
    TrialKey,
)
from specmeasure.records.replay import Answer
from specmeasure.records.request import Request
from specmeasure.records.trace import FinishReason
from specmeasure.run.head_training import HeadsTraining, split_answers
from specmeasure.run.watch import Watchers
from specmeasure.trace.replays import ReplayJournal

PLAN = Plan(
    target="embedded:target",
    arms=(BASELINE,),
    max_new_tokens=12,
    options=ModelOptions(device="cpu", num_threads=1),
)
SETTINGS = HeadSettings(
    num_heads=2, num_epochs=2, batch_size=2, num_checks=3, steps_per_checkpoint=3
)
NUM_PROMPTS = 8
MEDUSA, VLLM = "medusa_lm_head.safetensors", "vllm/model.safetensors"


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A request over eight short prompts."""
    path = tmp_path_factory.mktemp("corpus") / "prompts.jsonl"
    rows = [
        {"id": f"p{i}", "prompt": f"I need a table for {i + 2}.", "response": f"For {i + 2}, yes."}
        for i in range(NUM_PROMPTS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return HeadTrainingRequest(
        request=Request(
            plan=PLAN,
            sources=(str(path),),
            options=CorpusOptions(field="prompt", response_field="response", chat="chat"),
        ),
        settings=SETTINGS,
    )


@pytest.fixture(scope="module")
def undisturbed(asked, tmp_path_factory):
    """The folder of a training in one piece, with what was told along it."""
    folder, told = tmp_path_factory.mktemp("heads"), []
    watchers = Watchers(
        stage=told.append,
        warning=lambda text: told.append(f"warning: {text}"),
        planned=lambda total: told.append(("planned", total)),
        trial=lambda: told.append("trial"),
    )
    return folder, train_heads(asked, folder, watchers=watchers), told


def stop_at(num_trials, how):
    """Watchers that do something at the n-th trial."""
    seen = []

    def trial():
        seen.append(1)
        if len(seen) == num_trials:
            how()

    return Watchers(trial=trial)


class PowerCut(BaseException):
    """Not an error that anybody catches."""


def cut_power():
    raise PowerCut


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def test_both_layouts_hold_the_same_heads(undisturbed):
    """FasterDecoding's file and vLLM's load to equal weights."""
    folder, _, _ = undisturbed
    target = LoadedModels.load(PLAN, most_threads=1).target
    ours = load_heads(str(folder), PLAN.options, target).state_dict()
    theirs = load_heads(str(folder / "vllm"), PLAN.options, target).state_dict()

    assert 2 * 3 == len(ours)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)


def test_the_folder_says_what_was_trained(undisturbed, asked):
    """training.json reads back as what was returned; counts add up."""
    folder, trained, _ = undisturbed

    assert trained == read_training(folder)
    assert asked == trained.request
    assert trained.is_finished
    assert NUM_PROMPTS == trained.learnt.num_prompts + trained.held_out.num_prompts
    assert (1, 1) == (trained.held_out.num_prompts, len(trained.held_out_prompts))
    assert 2 * 4 == trained.num_steps
    assert [0, 2, 5, 8] == [check.step for check in trained.checks]
    assert trained.checks[-1].losses[0] < trained.checks[0].losses[0]


def test_answers_and_checkpoints_go_once_the_heads_are_there(undisturbed):
    """No token of an answer is left in the folder."""
    folder, _, _ = undisturbed
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    assert {"training.json", "config.json", MEDUSA, "vllm/config.json", VLLM} == files
    assert "table for" not in (folder / "training.json").read_text()


def test_what_goes_on_is_told(undisturbed):
    """A bar for answers, a bar for steps, and the accuracy along the way."""
    _, _, told = undisturbed

    assert [("planned", NUM_PROMPTS), ("planned", 8)] == [t for t in told if isinstance(t, tuple)]
    assert NUM_PROMPTS + 8 == told.count("trial")
    checks = [line for line in told if str(line).startswith("step ")]
    assert 4 == len(checks)
    assert "step 0 of 8: held out, by head: top-1" in checks[0]
    assert checks[-1].endswith("0 s left")
    assert any("fewer than 20,000" in str(line) for line in told)


@pytest.mark.parametrize("num_trials", [3, NUM_PROMPTS + 1, NUM_PROMPTS + 5])
def test_a_training_that_was_cut_off_ends_as_if_it_had_not_been(
    asked, undisturbed, tmp_path, num_trials
):
    """Cut while answering, before the first checkpoint or after it: the same bits, both files."""
    folder, trained, _ = undisturbed
    with pytest.raises(PowerCut):
        train_heads(asked, tmp_path, watchers=stop_at(num_trials, cut_power))
    assert not read_training(tmp_path).is_finished
    resumed = resume_heads(tmp_path)

    for name in (MEDUSA, VLLM):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()
    assert trained.checks == resumed.checks
    assert trained.held_out_prompts == resumed.held_out_prompts


def test_ctrl_c_leaves_a_checkpoint_of_the_step_in_hand(asked, undisturbed, tmp_path):
    """The step ends, is kept, and the training goes on from there to the same bits."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_heads(asked, tmp_path, watchers=stop_at(NUM_PROMPTS + 4, press_ctrl_c))

    assert before == signal.getsignal(signal.SIGINT)
    lines = []
    resume_heads(tmp_path, watchers=Watchers(stage=lines.append))
    assert "going on after step 4" in lines
    expected = (undisturbed[0] / MEDUSA).read_bytes()
    assert expected == (tmp_path / MEDUSA).read_bytes()


def test_a_finished_training_is_returned_as_it_is(undisturbed):
    """Resuming it loads no model."""
    folder, trained, _ = undisturbed
    lines = []

    assert trained == resume_heads(folder, watchers=Watchers(stage=lines.append))
    assert [] == lines


def test_recorded_responses_are_learnt_as_they_are(asked, tmp_path, monkeypatch):
    """With references, heads learn the corpus's own responses."""
    seen = []

    def train(self, trained, prompts):
        with ReplayJournal(self.folder) as journal:
            _, split = self._answers(trained, prompts, journal)
        seen.extend([*split.learnt, *split.held_out])
        return trained

    monkeypatch.setattr(HeadsTraining, "train", train)
    train_heads(dataclasses.replace(asked, use_references=True), tmp_path)
    tokenizer = load_tokenizer(PLAN.target, PLAN.options)
    said = {tokenizer.decode(list(one.token_ids)) for one in seen}
    assert {f"For {i + 2}, yes." for i in range(NUM_PROMPTS)} == said


def test_no_prompt_is_on_both_sides():
    """The split goes by what a prompt says: equal prompts and all turns stay together."""
    answers = [stated(f"p{i}", f"{i % 40:03d}", turn) for i in range(60) for turn in (0, 1)]
    split = split_answers(answers, 0.25)
    learnt, held_out = (
        {one.prompt_hash for one in side} for side in (split.learnt, split.held_out)
    )

    assert set() == learnt & held_out
    assert (30, 10) == (len(learnt), len(held_out))
    assert len(answers) == len(split.learnt) + len(split.held_out)


def test_the_split_does_not_hang_on_the_order():
    """The same prompts in another order fall on the same sides."""
    answers = [stated(f"p{i}", f"{(7 * i) % 20:03d}") for i in range(20)]
    sides = [
        {one.key.prompt_id for one in split_answers(order, 0.2).held_out}
        for order in (answers, answers[::-1])
    ]

    assert sides[0] == sides[1]
    assert 4 == len(sides[0])


@pytest.mark.parametrize(("num_prompts", "num_held_out"), [(2, 1), (3, 1), (100, 5)])
def test_both_sides_have_a_prompt(num_prompts, num_held_out):
    """At least one prompt is held out and at least one is learnt from."""
    split = split_answers([stated(f"p{i}", f"{i:03d}") for i in range(num_prompts)], 0.05)

    assert (num_prompts - num_held_out, num_held_out) == (len(split.learnt), len(split.held_out))


def test_one_prompt_is_too_few():
    """There is nothing to check the heads on."""
    with pytest.raises(InsufficientEvidence, match="Give more prompts"):
        split_answers([stated("p0", "a"), stated("p1", "a")], 0.5)


def stated(prompt_id, prompt_hash, turn=0):
    return Answer(
        key=TrialKey(prompt_id=prompt_id, turn=turn, repeat=0, arm="baseline"),
        labels={},
        prompt_hash=prompt_hash,
        sampling=GREEDY,
        max_new_tokens=4,
        num_prompt_tokens=1,
        num_tokens=1,
        finish_reason=FinishReason.BUDGET,
        ids_hash="",
    )


def test_a_folder_with_heads_is_not_overwritten(asked, undisturbed):
    """Unless it is to be replaced."""
    with pytest.raises(UsageError, match="already holds trained heads"):
        train_heads(asked, undisturbed[0])


def test_a_folder_without_a_training_cannot_be_resumed(tmp_path):
    """The message says which folder would do."""
    with pytest.raises(UnreadableTrace, match=r"no training\.json there"):
        resume_heads(tmp_path)


def test_other_prompts_do_not_finish_a_training(asked, tmp_path):
    """A training ends on the prompts that it began on."""
    with pytest.raises(PowerCut):
        train_heads(asked, tmp_path / "heads", watchers=stop_at(1, cut_power))
    other = tmp_path / "other.jsonl"
    other.write_text('{"prompt": "Something else?"}\n{"prompt": "Or this."}\n')

    with pytest.raises(UsageError, match="the prompts are not those"):
        resume_heads(tmp_path / "heads", (str(other),))


def test_speculative_arms_have_no_place_here(asked, tmp_path):
    """Heads learn what the target says alone."""
    arm = Arm(
        name="ngram k=4", method=Method.NGRAM, num_speculative_tokens=4, max_ngram=4, min_ngram=2
    )
    plan = dataclasses.replace(PLAN, arms=(BASELINE, arm))
    request = dataclasses.replace(asked, request=dataclasses.replace(asked.request, plan=plan))

    with pytest.raises(UsageError, match="leave out other arms"):
        train_heads(request, tmp_path)


def test_contexts_too_long_for_the_target_are_refused(asked, tmp_path):
    """None of the prompts fits with its budget: one clear error, nothing is trained."""
    plan = dataclasses.replace(PLAN, max_new_tokens=2048)
    request = dataclasses.replace(asked, request=dataclasses.replace(asked.request, plan=plan))

    with pytest.raises(UnreadableCorpus, match="context of 2048 tokens"):
        train_heads(request, tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_heads", 0),
        ("num_epochs", 0),
        ("held_out_share", 0.0),
        ("held_out_share", 1.0),
        ("learning_rate", 0.0),
        ("num_layers", -1),
        ("warmup_share", 1.0),
    ],
)
def test_settings_out_of_range_are_refused(field, value):
    """A setting that cannot be trained with is refused where it is stated."""
    with pytest.raises(ValueError, match=field):
        HeadSettings(**{field: value})
