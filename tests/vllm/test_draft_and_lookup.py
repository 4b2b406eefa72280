"""A real vLLM with a draft model and with prompt lookup, against our own engine in this process."""

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from specmeasure.engines.transformers import TransformersEngine
from specmeasure.records.corpus import AskedSampling
from specmeasure.records.plan import Arm, Method
from specmeasure.records.serving import Evidence
from specmeasure.records.trace import FinishReason, Observation, Trace
from specmeasure.trace import store
from tests.vllm.windows import (
    by_counters,
    by_histogram,
    by_steps,
    speculative_windows,
    summed,
    writers,
)

pytestmark = pytest.mark.vllm
PLACES = (16, 19, 21, 26, 28, 34)  # of these prompts some answers end by themselves
DRAFTED = ("draft k=4", "ngram k=4")


@pytest.fixture(scope="module")
def folder(measured, questions) -> Path:
    rows = [{"turns": [questions[place]]} for place in PLACES]
    pair = ("--target", "embedded:target", "--draft", "embedded:draft", "--ngram")
    return measured(rows, *pair, "--max-new-tokens", "40")


@pytest.fixture(scope="module")
def trace(folder) -> Trace:
    return store.read_trace(folder)


@pytest.fixture(scope="module")
def observed(trace) -> dict[tuple[str, str], Observation]:
    """What the engine in this process makes of the same ids, by arm and prompt."""
    options = replace(trace.manifest.plan.options, device="cpu")
    plan = replace(trace.manifest.plan, serving=None, options=options)
    engine = TransformersEngine.load(plan)
    settings = plan.settings_for(AskedSampling())
    contexts = {trial.key.prompt_id: trial.prompt_ids for trial in trace.trials}
    return {
        (arm.name, prompt_id): engine.observe(ids, arm, settings)
        for arm in plan.arms
        for prompt_id, ids in contexts.items()
    }


def arm_of(trace: Trace, name: str) -> Arm:
    return next(arm for arm in trace.manifest.plan.arms if arm.name == name)


def test_what_was_planned_is_recorded(trace):
    """Every request of every window, and none failed."""
    assert trace.sealed
    assert trace.manifest.num_planned_trials == len(trace.trials)
    assert [] == [trial.error for trial in trace.trials if trial.failed]


def test_the_servers_are_what_was_asked_for(trace):
    """K by their own word, ids given, every block told; the baseline drafts nothing."""
    facts = {one.arm: one for one in trace.manifest.servers}

    assert {"baseline", *DRAFTED} == set(facts)
    assert all(one.gives_ids for one in facts.values())
    assert [4, 4] == [facts[name].num_speculative_tokens for name in DRAFTED]
    assert Evidence.BLOCKS == facts[DRAFTED[0]].evidence
    assert Evidence.NONE == facts["baseline"].evidence
    drafting = [trial.counts for trial in trace.trials if trial.key.arm in DRAFTED]
    assert {Evidence.BLOCKS} == {one.evidence for one in drafting if one.num_draft_tokens}


def test_blocks_histograms_and_counters_are_the_same_drafts(trace):
    """In every window at every load: drafted, accepted, blocks, and accepted by position."""
    windows = speculative_windows(trace)

    assert 2 * 2 * 2 == len(windows)
    for window, trials in windows:
        counted = by_counters(window.counters)
        assert counted == summed(trials, by_steps) == summed(trials, by_histogram)
        assert counted[0] > 0


def test_emitted_tokens_are_what_the_servers_counted(trace):
    """Of every arm; all of a window's traffic is ours."""
    emitted = defaultdict(int)
    for trial in trace.trials:
        emitted[trial.key.load, trial.group, trial.key.arm] += len(trial.token_ids)

    for window in trace.windows:
        key = window.key
        assert emitted[key.load, key.group, key.arm] == window.num_emitted_tokens
        assert window.num_emitted_tokens == window.num_counted_tokens


def test_answers_are_as_long_as_their_blocks(trace):
    """The first token, and each block's accepted drafts and one more, less what the end cut."""
    drafted = [trial for trial in trace.trials if trial.key.arm == DRAFTED[0]]

    for trial in drafted:
        steps = trial.counts.steps
        implied = 1 + sum(accepted + 1 for _, accepted in steps)
        assert 0 <= implied - len(trial.token_ids) <= steps[-1][1]


def test_every_greedy_answer_is_the_targets_own(trace, folder):
    """All are audited, and all are identical, whatever the load."""
    audits = [trial.audit for trial in trace.trials]
    arms = json.loads((folder / "estimates.json").read_text())["arms"]

    assert all(audit.num_checked_tokens > 0 for audit in audits)
    assert not any(audit.suspects or audit.divergence for audit in audits)
    for arm in arms:
        losslessness = arm["losslessness"]
        assert losslessness["num_trials"] == losslessness["num_identical"] == arm["num_trials"] > 0


def test_tokens_equal_those_of_the_engine_in_process(trace, observed):
    """Every request of every arm at every load, and how it ended."""
    for trial in trace.trials:
        ours = observed[trial.key.arm, trial.key.prompt_id]

        assert ours.token_ids == trial.token_ids
        assert ours.finish_reason == trial.finish_reason
    reasons = {one.finish_reason for one in observed.values()}
    assert {FinishReason.EOS, FinishReason.BUDGET} == reasons


def test_blocks_equal_those_of_the_engine_in_process(trace, observed):
    """One by one, drafted and accepted, but for the last.

    At the budget specmeasure shortens the last draft to what can be emitted, and at an end of the
    text it stops counting there; vLLM drafts K and counts all that the target accepts.
    """
    num_cut = 0
    for trial in trace.trials:
        if trial.key.arm not in DRAFTED:
            continue
        ours = observed[trial.key.arm, trial.key.prompt_id].blocks
        uncut = [
            (block.num_draft_tokens, block.num_accepted_tokens)
            for block in ours[1:-1]  # the first one is the prefill
            if block.num_draft_tokens
        ]
        theirs = list(trial.counts.steps or ())
        last = theirs[len(uncut) :]

        assert uncut == theirs[: len(uncut)]
        assert len(last) <= 1
        if arm_of(trace, trial.key.arm).method is Method.DRAFT_MODEL:
            assert 1 == len(last)
        for drafted, accepted in last:
            expected = min(accepted, ours[-1].num_draft_tokens)
            assert ours[-1].num_draft_tokens <= drafted
            assert ours[-1].num_accepted_tokens <= expected
            assert ours[-1].truncated or ours[-1].num_accepted_tokens == expected
            num_cut += ours[-1].num_accepted_tokens < accepted
    assert num_cut > 0


def test_no_process_is_left(folder):
    """Neither a server, nor an engine below it, nor who watches over them."""
    assert len(list((folder / "servers").glob("*.log"))) == 3
    assert [] == writers(folder)
