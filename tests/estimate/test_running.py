import random
from dataclasses import replace

import pytest

from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.load_curve import at_load
from specmeasure.estimate.running import RunningSums
from specmeasure.estimate.summary import estimate
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN, Sampling
from specmeasure.records.serving import Evidence
from tests.fakes import (
    DRAFT_2,
    DRAFT_4,
    NGRAM_4,
    FakeEngine,
    Traffic,
    make_block,
    make_chat,
    make_plan,
    make_prompts,
    make_trial,
    recorded_trace,
)
from tests.simulated_load import Server, serving_trace

PROMPTS = [*make_prompts(20), make_chat("talk", 3)]
SHORT = Traffic(lengths=(2, 3, 30))  # some answers have nothing after their first token


def running(trace):
    """Every arm's numbers after the last trial, by arm."""
    sums = RunningSums(trace.manifest.plan.arms)
    for trial in trace.trials:
        sums.add(trial)
    return {arm.name: arm for arm in sums.arms}


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.8)])
@pytest.mark.parametrize("num_repeats", [1, 2])
def test_they_end_at_the_estimates(sampling, num_repeats):
    """After the last trial: the ratio of sums, τ and the noise floor, as estimated from all."""
    arms = (BASELINE, DRAFT_4, NGRAM_4, BASELINE_AGAIN)
    plan = make_plan(*arms, sampling=sampling, num_repeats=num_repeats)
    trace = recorded_trace(FakeEngine(plan=plan, traffic=SHORT), PROMPTS)
    estimates = estimate(trace, Intervals(num_resamples=10))
    found = running(trace)

    for arm in estimates.arms:
        assert pytest.approx(arm.decode_speedup.value) == found[arm.name].decode_speedup
        assert (
            pytest.approx(arm.mean_acceptance_length.value)
            == found[arm.name].mean_acceptance_length
        )
    floor = found[BASELINE_AGAIN.name]
    assert pytest.approx(estimates.noise_floor.value) == floor.decode_speedup


def test_failures_are_counted_and_left_out():
    """Of pairs that both answered, as the estimates."""
    failures = {"p1": ValueError("no"), "talk": ValueError("no")}
    engine = FakeEngine(
        plan=make_plan(BASELINE, DRAFT_4, DRAFT_2, BASELINE_AGAIN),
        failures=failures,
        failing_arms=frozenset({DRAFT_4.name}),
    )
    trace = recorded_trace(engine, PROMPTS)
    found = running(trace)
    arm = estimate(trace, Intervals(num_resamples=10)).arms[0]

    assert (23, 4) == (found[DRAFT_4.name].num_trials, found[DRAFT_4.name].num_failed_trials)
    assert (23, 0) == (found[DRAFT_2.name].num_trials, found[DRAFT_2.name].num_failed_trials)
    assert pytest.approx(arm.decode_speedup.value) == found[DRAFT_4.name].decode_speedup


def test_the_order_of_arms_does_not_matter():
    """A baseline that comes last pairs with all that came before it."""
    trace = recorded_trace(FakeEngine(plan=make_plan()), PROMPTS)
    by_prompt = {}
    for trial in trace.trials:
        by_prompt.setdefault(trial.key.prompt_id, []).append(trial)
    for trials in by_prompt.values():
        random.Random(1).shuffle(trials)
    mixed = replace(trace, trials=tuple(t for trials in by_prompt.values() for t in trials))

    assert running(trace)[DRAFT_4.name].decode_speedup == pytest.approx(
        running(mixed)[DRAFT_4.name].decode_speedup
    )


def test_unknown_is_not_a_number():
    """Before a pair there is no speedup, before a draft no τ; the baseline has neither."""
    sums = RunningSums((BASELINE, DRAFT_4))
    before = sums.arms
    sums.add(make_trial("p", make_block(4, 2)))
    alone = sums.arms
    sums.add(make_trial("p", make_block(0, 0), make_block(0, 0), make_block(0, 0), arm="baseline"))
    paired = sums.arms

    assert [(0, None, None)] * 2 == [
        (arm.num_trials, arm.mean_acceptance_length, arm.decode_speedup) for arm in before
    ]
    assert (1, None, None) == (
        alone[1].num_trials,
        alone[1].mean_acceptance_length,
        alone[1].decode_speedup,
    )
    assert (3.0, 1.0) == (paired[1].mean_acceptance_length, paired[1].decode_speedup)
    assert (None, None) == (paired[0].mean_acceptance_length, paired[0].decode_speedup)


def test_under_load_they_end_at_the_estimates():
    """Of the load that is being measured, windows in whatever order."""
    trace = serving_trace(Server(), seed=3)
    by_arm = sorted(trace.trials, key=lambda trial: trial.key.arm)
    apart = replace(trace, trials=tuple(sorted(by_arm, key=lambda trial: trial.key.load)))
    last = trace.trials[-1].key.load
    (arm,) = estimate(at_load(trace, last), Intervals(num_resamples=10)).arms

    for found in (running(trace), running(apart)):
        assert pytest.approx(arm.decode_speedup.value) == found[arm.name].decode_speedup
    found = running(trace)[arm.name]
    assert pytest.approx(arm.mean_acceptance_length.value) == found.mean_acceptance_length
    assert 3 * 80 == found.num_trials


@pytest.mark.parametrize("evidence", [Evidence.COUNTERS, Evidence.NONE])
def test_blocks_that_a_server_does_not_tell_give_no_length(evidence):
    """Speed so far, and no τ."""
    trace = serving_trace(Server(speedups={4: 1.2}), evidence=evidence)
    found = running(trace)[DRAFT_4.name]

    assert (None, float) == (found.mean_acceptance_length, type(found.decode_speedup))
