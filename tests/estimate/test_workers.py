"""Runs of several workers: pairs, slices, paces, and whether the workers agree."""

from dataclasses import replace

import numpy as np
import pytest

from specmeasure.api.reports import conclude
from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.intervals import Intervals, Spread
from specmeasure.estimate.pairing import pair_trials
from specmeasure.estimate.steadiness import steadiness
from specmeasure.estimate.summary import estimate
from specmeasure.estimate.workers import chance_of_differing
from specmeasure.records.estimates import Interval, Steadiness
from specmeasure.records.machine import Fleet, Worker
from specmeasure.records.plan import BASELINE
from specmeasure.records.trace import Trace
from tests.fakes import (
    DRAFT_4,
    make_block,
    make_environment,
    make_manifest,
    make_plan,
    make_trial,
)

SHARES = (30, 20, 10)  # prompts of each worker


def run_of(*, speedups=(1.5, 1.5, 1.5), paces=(1.0, 2.0, 0.5), cpus=("a", "a", "a"), pools=False):
    """Three workers of unlike pace, each with its own prompts, with noise of 5 %."""
    rng = np.random.default_rng(0)
    plan = make_plan(BASELINE, DRAFT_4)
    workers = np.repeat(np.arange(3), SHARES)
    trials = []
    for number, worker in enumerate(workers.tolist()):
        for arm, seconds in ((BASELINE, 1.0), (DRAFT_4, 1 / speedups[worker])):
            blocks = (
                [make_block(4, 1, draft_s=0.1, verify_s=0.3)]
                if arm is DRAFT_4
                else [make_block(0, 0)] * 2
            )
            decode_s = paces[worker] * seconds * rng.lognormal(0, 0.05)
            trials.append(
                make_trial(f"p{number}", *blocks, arm=arm.name, worker=worker, decode_s=decode_s)
            )
    machines = tuple(
        Worker(number=number, node=f"node-{number}", environment=make_environment(cpu=cpu))
        for number, cpu in enumerate(cpus)
    )
    manifest = make_manifest(
        plan,
        [],
        num_planned_trials=len(trials),
        fleet=Fleet(address="local", num_workers=3, pools_hardware=pools),
        workers=machines,
    )
    return Trace(manifest=manifest, trials=tuple(trials), sealed=True)


def test_trials_of_different_workers_are_no_pair():
    """A prompt that one worker decoded with the target, another with drafts, has no speedup."""
    base = [make_trial(name, arm=BASELINE.name, worker=0) for name in ("a", "b")]
    own = [make_trial("a", worker=1), make_trial("b", worker=0)]

    assert ["b"] == [trial.key.prompt_id for trial in pair_trials(base, own).arm.flat]


def test_each_worker_is_a_slice():
    """The speedup of every worker stands beside that of all."""
    [arm] = estimate(run_of(), Intervals()).arms
    found = {one.name: one.num_prompts for one in arm.slices if one.axis == "worker"}

    assert {"0": 30, "1": 20, "2": 10} == found
    assert isinstance(arm.decode_speedup, Interval)


def test_one_worker_is_no_axis():
    """A run on one worker has no slices by worker, and nothing to say of their differences."""
    trace = run_of()
    alone = replace(trace, trials=tuple(replace(trial, worker=0) for trial in trace.trials))
    [arm] = estimate(alone, Intervals()).arms

    assert "worker" not in {one.axis for one in arm.slices}
    assert arm.chance_of_workers is None


def test_unlike_hardware_is_not_pooled_unless_asked():
    """Two kinds of machine give no one speedup; the message names them and the flag."""
    with pytest.raises(
        InsufficientEvidence,
        match=r"worker 0 on node-0: a, .*worker 2 on node-2: b, .*--pool-hardware",
    ):
        estimate(run_of(cpus=("a", "a", "b")), Intervals())

    [arm] = estimate(run_of(cpus=("a", "a", "b"), pools=True), Intervals()).arms
    assert isinstance(arm.decode_speedup, Interval)


def test_pooling_can_be_asked_for_afterwards():
    """Whoever reads a run may pool what its plan did not."""
    report = conclude(run_of(cpus=("a", "a", "b")), pools_hardware=True)

    assert isinstance(report.estimates.arms[0].decode_speedup, Interval)


def test_a_worker_that_measured_nothing_does_not_matter():
    """Hardware counts where it decoded: a worker that died before its first trial did not."""
    trace = run_of(cpus=("a", "a", "b"))
    kept = tuple(trial for trial in trace.trials if trial.worker != 2)

    assert estimate(replace(trace, trials=kept), Intervals()).num_prompts == 50


def test_workers_that_differ_are_told_from_luck():
    """Speedups of 1.5 and 1.2 at 5 % of noise are no luck; equal ones may be."""
    [alike] = estimate(run_of(), Intervals()).arms
    [unlike] = estimate(run_of(speedups=(1.5, 1.5, 1.2)), Intervals()).arms

    assert alike.chance_of_workers > 0.05
    assert unlike.chance_of_workers < 0.001


def test_alike_workers_differ_by_chance_alone():
    """Of workers that are alike the p-value is uniform: 5 % of runs are below 0.05."""
    rng = np.random.default_rng(4)
    chances = []
    for _ in range(2000):
        own = [rng.normal(1.5, 0.1, number) for number in (8, 12, 30)]
        chances.append(
            chance_of_differing(
                [
                    Spread(
                        value=float(one.mean()),
                        standard_error=float(one.std(ddof=1) / np.sqrt(len(one))),
                        num_prompts=len(one),
                    )
                    for one in own
                ]
            )
        )

    assert 0.035 <= np.mean(np.array(chances) < 0.05) <= 0.07


def test_unlike_paces_of_workers_are_no_steps():
    """Each worker has its own pace; where the next one's cycles begin is said."""
    found = steadiness(run_of().trials)

    assert isinstance(found, Steadiness)
    assert () == found.steps
    assert (30, 50) == found.worker_starts
    assert 60 == len(found.pace)
    assert 1.0 == pytest.approx(np.median(found.pace[:30]))
    assert 1.0 == pytest.approx(np.median(found.pace[30:50]))
