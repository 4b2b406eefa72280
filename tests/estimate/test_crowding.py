from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from specmeasure import api
from specmeasure.estimate.crowding import cochran_q, crowded_trials, says_crowded
from specmeasure.estimate.intervals import Intervals
from specmeasure.records.estimates import CrowdedArm, Interval, Unmeasured
from specmeasure.records.machine import Crowding, Worker
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN
from tests.fakes import (
    DRAFT_4,
    FakeEngine,
    Machine,
    make_environment,
    make_plan,
    make_prompts,
    recorded_trace,
)

QUIET = Crowding(other_cores=0.2, stalled_share=0.01)
CROWDED = Crowding(other_cores=3.0, stalled_share=0.4)  # beside 2 threads on 4 cores
INTERVALS = Intervals()


@pytest.fixture(scope="module")
def unwatched():
    """Forty prompts with three arms, twice."""
    plan = make_plan(BASELINE, DRAFT_4, BASELINE_AGAIN, num_repeats=2)
    engine = FakeEngine(plan=plan, seed=3, machine=Machine(noise=0.001))
    return recorded_trace(engine, make_prompts(40))


def seen(trace, crowding_of):
    """The trace with what a meter saw around each trial."""
    trials = (replace(trial, crowding=crowding_of(trial)) for trial in trace.trials)
    return replace(trace, trials=tuple(trials))


def of_run(trace):
    """What a whole run says of other work."""
    return crowded_trials(trace.trials, trace.manifest, INTERVALS)


def test_unwatched_trials_are_unknown_not_quiet(unwatched):
    """A trace of an older version, or of a system that tells nothing."""
    nothing = seen(unwatched, lambda _: Crowding())

    for trace in (unwatched, nothing):
        found = of_run(trace)
        assert Unmeasured(reason="no trial was watched for other work") == found


def test_a_quiet_run_has_no_crowded_trial(unwatched):
    """Nothing to average over, nothing to test."""
    found = of_run(seen(unwatched, lambda _: QUIET))

    assert (240, 0.0, 4) == (found.num_trials, found.crowded_share, found.num_cores)
    assert (None, None, None) == (found.other_cores, found.stalled_share, found.p_value)
    assert "no A/A pair was crowded by other work" == found.crowded_noise_floor.reason


def test_crowded_trials_are_counted_by_arm_and_averaged(unwatched):
    """What others did in quiet trials is not mixed in; failed and unwatched trials do not count."""

    def crowding_of(trial):
        if trial.key.prompt_id == "p0":
            return None
        is_so = trial.key.arm == "draft k=4" and trial.key.repeat == 0
        return replace(CROWDED, other_cores=2.8 + trial.key.repeat) if is_so else QUIET

    trace = seen(unwatched, crowding_of)
    failed = replace(trace.trials[-1], error="lost")
    found = of_run(replace(trace, trials=(*trace.trials[:-1], failed)))

    assert (39 * 6 - 1, 39 / (39 * 6 - 1)) == (found.num_trials, found.crowded_share)
    assert (pytest.approx(2.8), pytest.approx(0.4)) == (found.other_cores, found.stalled_share)
    assert CrowdedArm(name="draft k=4", num_trials=78, crowded_share=0.5) in found.arms
    assert found.p_value < 1e-6


def test_arms_that_take_turns_are_crowded_alike(unwatched):
    """Other work that comes for a stretch of trials meets all of them."""
    place = {trial.key: number for number, trial in enumerate(unwatched.trials)}
    trace = seen(unwatched, lambda t: CROWDED if place[t.key] % 30 < 11 else QUIET)
    found = of_run(trace)

    assert found.p_value is None or found.p_value > 0.05


def test_the_noise_is_told_with_and_without_other_work(unwatched):
    """Crowded pairs of baselines differ by what other work did to them, quiet ones do not."""
    rng = np.random.default_rng(5)

    def slowed(trial):
        crowded = int(trial.key.prompt_id[1:]) < 20
        times = float(np.exp(rng.normal(0, 0.3))) if crowded else 1.0
        crowding = CROWDED if crowded else QUIET
        return replace(trial, crowding=crowding, decode_s=trial.decode_s * times)

    trace = replace(unwatched, trials=tuple(map(slowed, unwatched.trials)))
    found = of_run(trace)
    crowded, quiet = found.crowded_noise_floor, found.quiet_noise_floor

    assert (20, 20) == (crowded.num_clusters, quiet.num_clusters)
    assert width(crowded) > 5 * width(quiet)
    assert quiet.low <= 1 <= quiet.high


def width(interval: Interval) -> float:
    return interval.high - interval.low


def test_the_noise_of_all_pairs_is_the_noise_floor(unwatched):
    """With every pair on one side, it is the A/A that stands in the brief."""
    trace = seen(unwatched, lambda _: CROWDED)
    estimates = api.conclude(trace).estimates

    assert "all A/A pairs were" in estimates.crowding.quiet_noise_floor.reason
    assert estimates.noise_floor.value == pytest.approx(
        estimates.crowding.crowded_noise_floor.value
    )
    assert estimates.noise_floor.low == pytest.approx(estimates.crowding.crowded_noise_floor.low)


def test_a_run_without_a_second_baseline_has_no_noise_to_tell():
    """The reason is said."""
    plan = make_plan(BASELINE, DRAFT_4)
    trace = recorded_trace(FakeEngine(plan=plan, seed=3), make_prompts(8))
    found = of_run(seen(trace, lambda _: CROWDED))

    assert "no second baseline" in found.crowded_noise_floor.reason
    assert "no second baseline" in found.quiet_noise_floor.reason


def test_each_workers_trials_are_judged_by_its_own_machine(unwatched):
    """Three busy cores crowd a machine of four, and not one of sixteen."""
    machines = [make_environment(num_cores=number) for number in (4, 16)]
    workers = tuple(
        Worker(number=number, node="n", environment=machine)
        for number, machine in enumerate(machines)
    )
    trials = tuple(
        replace(trial, worker=int(trial.key.prompt_id[1:]) % 2, crowding=Crowding(other_cores=3.0))
        for trial in unwatched.trials
    )
    manifest = replace(unwatched.manifest, workers=workers)
    found = of_run(replace(unwatched, manifest=manifest, trials=trials))

    assert (240, 0.5) == (found.num_trials, found.crowded_share)
    assert found.num_cores is None


def test_columns_say_what_single_trials_say():
    """Each sign told or not, at its limit and beside it."""
    seen = [
        Crowding(other_cores=other, stalled_share=stalled)
        for other in (None, 0.0, 2.5, 2.5000001)
        for stalled in (None, 0.0, 0.1, 0.1000001)
    ]
    columns = (
        np.array([getattr(one, name) for one in seen], dtype=float)
        for name in ("other_cores", "stalled_share")
    )
    found = says_crowded(*columns, np.full(16, 2.0), np.full(16, 4.0))

    assert [bool(one.is_crowded(2, 4)) for one in seen] == found.tolist()


def test_cochrans_q_by_hand():
    """Cochran 1950: rows that are all alike say nothing; k = 3, columns 6, 2, 1 of 8 mixed rows."""
    rows = [[1, 0, 0]] * 5 + [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    mixed = np.array(rows, dtype=bool)
    alike = np.array([[1, 1, 1], [0, 0, 0]] * 50, dtype=bool)
    columns, ones = mixed.sum(axis=0), mixed.sum(axis=1)
    q = 2 * (3 * (columns**2).sum() - 81) / (3 * 9 - (ones**2).sum())

    assert [6, 2, 1] == columns.tolist()
    assert pytest.approx(stats.chi2.sf(q, 2)) == cochran_q(np.vstack([mixed, alike]))


def test_two_arms_are_mcnemars_test():
    """With two columns Q is (b − c)² / (b + c)."""
    rows = np.array([[1, 0]] * 19 + [[0, 1]] * 6, dtype=bool)

    assert pytest.approx(stats.chi2.sf((19 - 6) ** 2 / 25, 1)) == cochran_q(rows)


@pytest.mark.parametrize("rows", [[[1, 0, 0]] * 7, [[1, 1], [0, 0]] * 99, [[1]] * 99])
def test_too_little_that_differs_is_no_test(rows):
    """Fewer than 24 cells in mixed rows, or one arm."""
    assert cochran_q(np.array(rows, dtype=bool)) is None


def test_other_work_that_knows_no_arms_is_seldom_called_unequal():
    """Stretches of trials that begin and end anywhere, over arms in turn: 5 % at the 5 % level."""
    rng = np.random.default_rng(11)
    p_values = [cochran_q(stretches(rng, num_cycles=200, num_arms=3)) for _ in range(600)]
    told = np.array([p for p in p_values if p is not None])

    assert len(told) > 500
    assert (told < 0.05).mean() < 0.1
    assert (told < 0.01).mean() < 0.03


def stretches(rng, num_cycles, num_arms):
    """Crowded and quiet stretches of about 7 and 15 trials, by [cycles, arms]."""
    lengths = rng.geometric([[1 / 15, 1 / 7]] * num_cycles * num_arms).ravel()
    is_so = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)[: num_cycles * num_arms]
    cycles = is_so.reshape(num_cycles, num_arms)
    return np.array([np.roll(cycle, number) for number, cycle in enumerate(cycles)])
