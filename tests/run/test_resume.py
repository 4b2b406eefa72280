"""What an interrupted run decodes again, and what it does not."""

from collections import Counter
from dataclasses import replace

import pytest

from specmeasure.records.plan import Sampling, TrialKey
from specmeasure.run.recorder import Recorder
from tests.fakes import (
    FakeEngine,
    MemoryJournal,
    make_chat,
    make_plan,
    make_prompts,
    planned_keys,
    recorded_trace,
)

SAMPLED = Sampling(temperature=0.8)


def resumed(plan, prompts, kept, **changes):
    """A second session over the kept trials; returns its engine and all records."""
    engine = FakeEngine(plan=plan, **changes)
    journal = MemoryJournal({trial.key: trial for trial in kept})
    recorded = {trial.key: replace(trial, blocks=()) for trial in kept}
    Recorder(plan, engine, journal, recorded).record(prompts)
    return engine, journal.trials


def whole_run(plan, prompts):
    return recorded_trace(FakeEngine(plan=plan), prompts).trials


def unaudited(trials):
    return [replace(trial, checks=None) for trial in trials]


@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED])
def test_a_finished_run_decodes_nothing(sampling):
    """With every trial recorded there is nothing left to do."""
    plan = make_plan(sampling=sampling)
    prompts = [*make_prompts(3), make_chat("talk", 2)]
    trials = whole_run(plan, prompts)

    engine, records = resumed(plan, prompts, trials)

    assert [] == engine.calls
    assert {trial.key: trial for trial in trials} == records


@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED])
@pytest.mark.parametrize("num_kept", range(19))
def test_every_cut_ends_in_the_same_run(sampling, num_kept):
    """Wherever the first session stopped, the two together recorded what one would have."""
    plan = make_plan(sampling=sampling, num_repeats=2)
    prompts = [*make_prompts(1), make_chat("talk", 2)]
    trials = whole_run(plan, prompts)
    last_turn = num_kept - num_kept % 6  # audits are written when a turn is done
    kept = [*trials[:last_turn], *unaudited(trials[last_turn:num_kept])]

    _, records = resumed(plan, prompts, kept)

    assert {trial.key: trial for trial in trials} == records


def test_whole_prompts_are_not_decoded_again():
    """A session that stopped between prompts repeats none of them."""
    plan = make_plan()
    prompts = make_prompts(4)

    engine, _ = resumed(plan, prompts, whole_run(plan, prompts)[:6])

    assert 6 == len(engine.calls)


@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED])
def test_a_half_finished_turn_is_decoded_again_for_its_audits(sampling):
    """The ids of recorded trials were not kept, so their answers are decoded once more."""
    plan = make_plan(sampling=sampling)
    prompts = make_prompts(1)

    engine, records = resumed(plan, prompts, unaudited(whole_run(plan, prompts)[:2]))

    assert {"baseline A/A": 1, "baseline": 1, "draft k=4": 1} == Counter(
        call.arm for call in engine.calls
    )
    assert None not in {trial.checks for trial in records.values()}


@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED])
def test_a_finished_turn_without_audits_is_audited(sampling):
    """An interruption between the last trial and its audit leaves nothing unchecked."""
    plan = make_plan(sampling=sampling)
    prompts = make_prompts(2)
    trials = whole_run(plan, prompts)

    _, records = resumed(plan, prompts, [*unaudited(trials[:3]), *trials[3:]])

    assert {trial.key: trial for trial in trials} == records


def test_a_finished_turn_is_decoded_again_for_its_reply():
    """Of a turn that is done, the next turn needs the baseline's answer and nothing else."""
    plan = make_plan()
    prompts = [make_chat("talk", 2)]

    engine, _ = resumed(plan, prompts, whole_run(plan, prompts)[:3])

    assert ["baseline"] == [call.arm for call in engine.calls[:-3]]


def test_half_a_sampled_turn_is_not_decoded_again():
    """Audited already, and without later turns, recorded trials are left alone."""
    plan = make_plan(sampling=SAMPLED)
    prompts = make_prompts(1)

    engine, _ = resumed(plan, prompts, whole_run(plan, prompts)[:2])

    assert ["baseline A/A"] == [call.arm for call in engine.calls]


def test_failed_rows_are_not_tried_again():
    """A failure is a result: resuming does not repeat it."""
    plan = make_plan()
    prompts = make_prompts(2)
    engine = FakeEngine(plan=plan, failures={"p0": RuntimeError("no")})
    trials = recorded_trace(engine, prompts).trials

    engine, records = resumed(plan, prompts, trials[:3])

    p1 = tuple(engine.context_ids(prompts[1], []))
    assert [p1] * 3 == [call.context_ids for call in engine.calls]
    assert 3 == sum(trial.failed for trial in records.values())


def test_another_answer_is_not_audited_as_the_recorded_one():
    """An answer that cannot be decoded again has no audit, rather than another answer's."""
    plan = make_plan()
    prompts = make_prompts(1)
    kept = unaudited(whole_run(plan, prompts)[:2])

    engine, records = resumed(plan, prompts, kept, seed=1)  # another target: other answers

    assert {None} == {trial.audit for trial in records.values()}
    assert 0 == engine.num_audits
    assert kept == [records[trial.key] for trial in kept]


def test_a_lost_reply_ends_the_conversation():
    """Where the baseline's reply cannot be had again, later turns are rows that say so."""
    plan = make_plan()
    prompts = [make_chat("talk", 2)]

    _, records = resumed(plan, prompts, whole_run(plan, prompts)[:3], seed=1)

    reason = (
        "talks.jsonl:talk: turn 2 follows a reply that the baseline did not give, or did not give "
        "again after an interruption"
    )
    assert {reason} == {trial.error for key, trial in records.items() if key.turn == 1}


def test_progress_counts_recorded_trials_too():
    """A progress bar over a resumed run ends at the planned number."""
    plan = make_plan()
    prompts = [*make_prompts(3), make_chat("talk", 2)]
    kept = whole_run(plan, prompts)[:7]
    told: list[TrialKey] = []

    Recorder(
        plan,
        FakeEngine(plan=plan),
        MemoryJournal({trial.key: trial for trial in kept}),
        {trial.key: trial for trial in kept},
        told.append,
    ).record(prompts)

    assert sorted(planned_keys(plan, prompts)) == sorted(told)
