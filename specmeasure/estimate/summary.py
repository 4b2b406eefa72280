"""From a trace to all of its estimates."""

from dataclasses import replace
from operator import attrgetter

import numpy as np

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate import acceptance, latency
from specmeasure.estimate.accuracy import accuracy
from specmeasure.estimate.arms import Measured, alone, beside_baseline, windows_of
from specmeasure.estimate.counts import refuse_contradictions, with_silent_requests
from specmeasure.estimate.crowding import crowded_trials
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.lossy_drift import lossy_drift
from specmeasure.estimate.one_piece import in_one_piece, streamed
from specmeasure.estimate.pairing import pair_trials
from specmeasure.estimate.sampled_drift import sampled_losslessness
from specmeasure.estimate.slices import slice_arms
from specmeasure.estimate.steadiness import steadiness
from specmeasure.estimate.trials import Table, Trials, num_distinct
from specmeasure.estimate.ways import compare_ways
from specmeasure.estimate.workers import refuse_unlike_workers
from specmeasure.records.estimates import Estimate, Estimates, Unmeasured
from specmeasure.records.plan import BASELINE_AGAIN, TrialKey
from specmeasure.records.trace import Trace

UNCOUNTED = "the server does not say how many tokens it sent"


def estimate(trace: Trace, intervals: Intervals) -> Estimates:
    """Everything that the trace can say, with intervals over prompts, or windows of a server.

    Of a run at several loads, one is given at a time: see ``load_curve.at_load``.

    Raises:
        InsufficientEvidence: nothing was recorded, nothing succeeded, or counts do not add up.
    """
    plan = trace.manifest.plan
    by_arm = _by_arm(trace)
    baseline = plan.arms[0]
    table = by_arm[baseline.name].table
    if table.is_grouped:
        intervals = replace(intervals, cluster="window")
    answered = by_arm[baseline.name].answered().places
    if not len(answered):
        errors = [trial.error for own in by_arm.values() for trial in own if trial.error]
        raise InsufficientEvidence(
            f"no baseline trial succeeded among {len(trace.trials)} recorded"
            + (f"; the first failure: {errors[0]}" if errors else ".")
        )
    _refuse_wrong_counts(trace, table)
    refuse_unlike_workers(trace.manifest, table.worker)
    pairs = {
        arm.name: pair_trials(by_arm[baseline.name], by_arm[arm.name])
        for arm in plan.speculative_arms
    }
    measured = Measured(trace=trace, by_arm=by_arm, untimed=_untimed(trace, table))
    slices = slice_arms(pairs, intervals, measured.untimed)
    again = by_arm[BASELINE_AGAIN.name]
    undrafted = Trials.joined([by_arm[baseline.name], again])
    candidates = [
        replace(
            beside_baseline(arm, measured, pairs[arm.name], intervals),
            slices=slices[arm.name],
            sampled_losslessness=sampled_losslessness(by_arm[arm.name], undrafted),
            drift=lossy_drift(by_arm[arm.name], intervals) if arm.lossy else None,
            accuracy=accuracy(pairs[arm.name], plan.answer_check, intervals),
        )
        for arm in plan.speculative_arms
    ]
    return Estimates(
        num_prompts=num_distinct(table.prompt[answered]),
        num_planned_trials=trace.manifest.num_planned_trials,
        num_recorded_trials=len(trace.trials),
        num_void_trials=trace.num_void,
        noise_floor=_noise_floor(measured, intervals),
        baseline=replace(
            alone(baseline, measured, intervals),
            sampled_losslessness=sampled_losslessness(by_arm[baseline.name], again),
        ),
        arms=tuple(candidates),
        steadiness=steadiness(streamed(Trials.all_of(table), measured.untimed)),
        crowding=crowded_trials(Trials.all_of(table), trace.manifest, intervals),
        ways=compare_ways(trace, candidates, intervals),
        num_resamples=intervals.num_resamples,
        seed=intervals.seed,
    )


def _by_arm(trace: Trace) -> dict[str, Trials]:
    """Each arm's trials; an answer whose tokens nobody counted has failed for our purposes."""
    records = list(trace.trials)
    for place, count in enumerate(map(attrgetter("num_emitted_tokens"), trace.trials)):
        if count is None and not records[place].failed:
            records[place] = replace(records[place], error=UNCOUNTED)
    table = Table(records)
    places = {name: np.flatnonzero(table.arm == number) for name, number in table.arms.items()}
    nothing = np.zeros(0, dtype=np.int64)
    planned = [arm.name for arm in (*trace.manifest.plan.arms, BASELINE_AGAIN)]
    places = dict.fromkeys(planned, nothing) | places
    if table.is_served.any():
        for arm in trace.manifest.plan.speculative_arms:
            own = places[arm.name].tolist()
            told = with_silent_requests([records[place] for place in own], windows_of(trace, arm))
            for place, trial in zip(own, told, strict=True):
                records[place] = trial
        table = Table(records)
    return {name: Trials(table, own) for name, own in places.items()}


def _untimed(trace: Trace, table: Table) -> frozenset[TrialKey]:
    """In process every pass is timed where it is made."""
    return in_one_piece(trace) if table.is_served.any() else frozenset()


def _refuse_wrong_counts(trace: Trace, table: Table) -> None:
    answered = Trials.all_of(table).answered()
    acceptance.refuse_uneven_sums(answered.where(~table.is_served))
    most_drafts = {arm.name: arm.num_speculative_tokens for arm in trace.manifest.plan.arms}
    for trial in answered.where(table.is_served):
        refuse_contradictions(trial, most_drafts.get(trial.key.arm, 0))


def _noise_floor(measured: Measured, intervals: Intervals) -> Estimate:
    by_arm = measured.by_arm
    pairs = pair_trials(by_arm[measured.baseline.name], by_arm[BASELINE_AGAIN.name])
    if not len(pairs.arm):
        return Unmeasured(reason="the run has no second baseline (A/A) arm")
    timed = pairs.apart_from(measured.untimed)
    return latency.decode_speedup(
        latency.times(timed.baseline), latency.times(timed.arm), intervals
    )
