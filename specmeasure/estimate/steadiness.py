"""How steady the machine was: its pace by cycle, lasting steps, trials out of line.

A cycle is one prompt's turn in one repeat, all arms back to back; on a server, one window of each
arm. Nothing is removed for what is found here, and nothing here knows why a machine changed its
pace.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from specmeasure.estimate.blocks import Flags, Floats, Ints
from specmeasure.estimate.pace import Paces, group_medians, trial_paces, window_paces
from specmeasure.estimate.steps import NORMAL, find_steps
from specmeasure.estimate.trials import Table, Trials
from specmeasure.records.estimates import Outlier, SpeedStep, Steadiness, Unmeasured
from specmeasure.records.trace import TrialRecord

MIN_CYCLES = 20
MIN_TRIALS = 3  # of a cycle, for one of them to be out of line with the others
SMALLEST_STEP = 1.05  # ratio of paces; paired times hardly feel smaller ones
OUTLIER_RATIO = 1.5
OUTLIER_DEVIATIONS = 6.0
MOST_LISTED = 10


def steadiness(trials: Sequence[TrialRecord]) -> Steadiness | Unmeasured:
    """The pace of the machine over the run, from trials in the order of recording.

    Cycles without an answer of more than one token are not counted. A trial whose clock stood
    still or went back is an outlier with the ratio 0. Requests that share a server share its pace,
    too, and as the load on it differs within a window, none is called an outlier.
    """
    own = Trials.of(trials).answered()
    table = own.table
    longer = own.where(table.num_emitted > 1)
    if table.is_grouped:
        return _steadiness_of_windows(longer.where(table.decode_s != 0))
    clocks = _clock_troubles(longer)
    timed = longer.where((table.decode_s != 0) & ~_goes_back(table))
    paces = trial_paces(timed)
    num_cycles = int(paces.cycle.max(initial=-1)) + 1
    if num_cycles < MIN_CYCLES:
        return _too_few(num_cycles, "cycles")
    by_cycle = group_medians(paces.log_pace, paces.cycle)
    workers = _workers_of_cycles(paces)
    by_cycle -= group_medians(by_cycle, workers)[workers]
    outliers = [*clocks, *_outliers(timed, paces, by_cycle)]
    by_cycle = by_cycle[np.argsort(workers, kind="stable")]
    starts = np.bincount(workers).cumsum()[:-1]
    return Steadiness(
        pace=tuple(np.exp(by_cycle).tolist()),
        steps=tuple(
            replace(step, cycle=start + step.cycle)
            for start, part in zip([0, *starts.tolist()], np.split(by_cycle, starts), strict=True)
            for step in _steps(part)
        ),
        outliers=tuple(outliers[:MOST_LISTED]),
        num_outliers=len(outliers),
        num_slow_cycles=int((by_cycle > math.log(OUTLIER_RATIO)).sum()),
        worker_starts=tuple(starts.tolist()),
    )


def _workers_of_cycles(paces: Paces) -> Ints:
    """A cycle is measured by one worker."""
    workers = np.empty(int(paces.cycle.max()) + 1, dtype=np.int64)
    workers[paces.cycle] = paces.worker
    return workers


def _steadiness_of_windows(trials: Trials) -> Steadiness | Unmeasured:
    paces = window_paces(trials)
    num_windows = int(paces.cycle.max(initial=-1)) + 1
    if num_windows < MIN_CYCLES:
        return _too_few(num_windows, "windows")
    by_window = group_medians(paces.log_pace, paces.cycle)
    by_window -= np.median(by_window)
    return Steadiness(
        pace=tuple(np.exp(by_window).tolist()),
        steps=_steps(by_window),
        outliers=(),
        num_outliers=0,
        num_slow_cycles=int((by_window > math.log(OUTLIER_RATIO)).sum()),
    )


def _too_few(number: int, cycles: str) -> Unmeasured:
    return Unmeasured(
        reason=f"the machine's pace needs {MIN_CYCLES} {cycles} or more, this run has {number}"
    )


def _steps(by_cycle: Floats) -> tuple[SpeedStep, ...]:
    """Lasting changes, each with the median pace after it over the one before it."""
    places = find_steps(by_cycle, math.log(SMALLEST_STEP))
    levels = [float(np.median(part)) for part in np.split(by_cycle, places)]
    return tuple(
        SpeedStep(cycle=place, ratio=math.exp(after - before))
        for place, before, after in zip(places, levels[:-1], levels[1:], strict=True)
    )


def _outliers(trials: Trials, paces: Paces, by_cycle: Floats) -> list[Outlier]:
    """Trials far from the others of their cycle, farthest first.

    Far is by more than half, and by more than 6 robust standard deviations of the arm's own trials
    (median absolute deviation; the middle trial of a cycle is no deviation).
    """
    apart = paces.log_pace - by_cycle[paces.cycle]
    apart[np.bincount(paces.cycle)[paces.cycle] < MIN_TRIALS] = 0.0
    usual = np.zeros(int(paces.arm.max()) + 1)
    for arm in range(len(usual)):
        own = apart[(paces.arm == arm) & (apart != 0)]
        usual[arm] = NORMAL * np.median(np.abs(own)) if len(own) else 0.0
    far = np.abs(apart) > np.maximum(math.log(OUTLIER_RATIO), OUTLIER_DEVIATIONS * usual[paces.arm])
    places = np.flatnonzero(far)
    ordered = places[np.argsort(-np.abs(apart[places]), kind="stable")]
    return [
        Outlier(place=_place(trials[place]), ratio=float(np.exp(apart[place])))
        for place in ordered.tolist()
    ]


def _clock_troubles(trials: Trials) -> list[Outlier]:
    """Trials whose clock went back or stood still."""
    table = trials.table
    back, still = _goes_back(table), table.decode_s == 0
    found = []
    for place in trials.places[(back | still)[trials.places]].tolist():
        why = "its clock went back" if back[place] else "its clock stood still"
        found.append(Outlier(place=f"{_place(table.records[place])}: {why}", ratio=0.0))
    return found


def _goes_back(table: Table) -> Flags:
    """Whether a time of the trial, or of one of its passes, is below 0."""
    return np.minimum(np.minimum(table.decode_s, table.ttft_s), table.block_sums.least_s) < 0


def _place(trial: TrialRecord) -> str:
    key = trial.key
    repeat = f", repeat {key.repeat + 1}" if key.repeat else ""
    return f"{key.prompt_id}, turn {key.turn + 1}{repeat}, {key.arm}"
