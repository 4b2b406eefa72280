"""Each trial's pace: its decode time beside what its arm takes for such passes.

Seconds per token would mix in acceptance, seconds per pass the number of drafts and the context.
Here a pass counts as the arm's own median pass with as many drafts, and what a longer context
costs is taken out. What is left is the machine, and what this trial alone met.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from specmeasure.estimate.blocks import Floats, Ints, Part
from specmeasure.estimate.latency import times
from specmeasure.estimate.trials import Rows, Trials, numbered, renumbered
from specmeasure.records.trace import TrialRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Paces:
    """Trials, or windows, in the order of recording."""

    log_pace: Floats  # [T] 0 is the arm's median
    cycle: Ints  # [T] from 0: the prompt's turn in one repeat, or the group of the window
    arm: Ints  # [T]
    worker: Ints  # [T]


def trial_paces(trials: Sequence[TrialRecord]) -> Paces:
    """The paces of trials that decoded for some time, more than one token each.

    What a pass usually takes, what context costs and an arm's median are each worker's own.

    Formula: log(decode seconds / Σ over passes of the arm's median seconds of a pass with as many
    drafts) − slope · context length − the arm's median of it.
    """
    own = Trials.of(trials)
    table, places = own.table, own.places
    arm = renumbered(table.arm[places])
    worker = renumbered(table.worker[places])
    group = renumbered(arm + (int(arm.max(initial=0)) + 1) * worker)
    log_pace = np.log(table.decode_s[places] / _usual_seconds(own, group))
    context = table.num_asked[places] + table.num_emitted[places] / 2
    for number in range(int(group.max(initial=-1)) + 1):
        same = group == number
        level = log_pace[same] - _slope(context[same], log_pace[same]) * context[same]
        log_pace[same] = level - np.median(level)
    return Paces(
        log_pace=log_pace,
        cycle=renumbered(table.context[places]),
        arm=arm,
        worker=worker,
    )


def window_paces(trials: Sequence[TrialRecord]) -> Paces:
    """The paces of windows of requests that decoded for some time, one for each arm and group.

    Formula: log(Σ decode seconds / Σ tokens after the first) − the median of it over windows of
    the same arm and load.
    """
    own = Trials.of(trials)
    arm, cluster = (numbers[own.places] for numbers in (own.table.arm, own.table.cluster))
    rows = Rows.grouped(own, arm + (int(arm.max(initial=0)) + 1) * cluster)
    spent = times(rows)
    log_pace = np.log(spent.decode_s / spent.num_decoded)
    firsts = [row[0].key for row in rows]
    kind = numbered((key.arm, key.load) for key in firsts)
    log_pace -= group_medians(log_pace, kind)[kind]
    return Paces(
        log_pace=log_pace,
        cycle=renumbered(rows.firsts(own.table.cluster)),
        arm=renumbered(rows.firsts(own.table.arm)),
        worker=np.zeros(len(rows), dtype=np.int64),
    )


def group_medians(values: Floats, group: Ints) -> Floats:
    """The median of the values [N] of each group, groups numbered from 0 without a gap."""
    ordered = values[np.lexsort((values, group))]
    ends = np.bincount(group).cumsum()
    starts = np.concatenate(([0], ends[:-1]))
    return np.asarray((ordered[(starts + ends - 1) // 2] + ordered[(starts + ends) // 2]) / 2)


def _usual_seconds(trials: Trials, group: Ints) -> Floats:
    """What a trial's passes usually take in its group; its number of tokens where that is unknown.

    Groups are the arms, of each worker. The prefill is no such pass.
    """
    parts = list(_timed_passes(trials, group))
    usual = _kind_medians(parts)
    total = np.concatenate([np.zeros(0), *(one.part.sums(usual[one.kind]) for one in parts)])
    tokens = trials.table.num_emitted[trials.places] - 1
    return np.where(total > 0, total, tokens)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Passes:
    """Some of the passes, by kind."""

    part: Part
    kind: Ints  # [B] 0: a prefill; else of one group and one number of drafts
    seconds: Floats  # [B]


def _timed_passes(trials: Trials, group: Ints) -> Iterator[_Passes]:
    width = int(trials.table.block_sums.most_drafted.max(initial=0)) + 1
    num_kinds = 1 + width * (int(group.max(initial=0)) + 1)
    narrow = np.min_scalar_type(num_kinds)  # few bits sort in linear time
    for part in trials.table.blocks.at(trials.places).parts():
        of_trial = 1 + width * group[part.first_trial : part.first_trial + len(part.sizes)]
        kind = np.repeat(of_trial.astype(narrow), part.sizes) + part.num_drafted.astype(narrow)
        kind[part.is_prefill] = 0
        yield _Passes(part=part, kind=kind, seconds=part.draft_s + part.verify_s)


def _kind_medians(parts: Sequence[_Passes]) -> Floats:
    """The median seconds of each kind of pass; 0 of prefills, and of kinds that do not occur."""
    by_kind: defaultdict[int, list[Floats]] = defaultdict(list)
    for one in parts:  # each small enough for the processor's cache, where sorting is fast
        ordered = one.seconds[np.argsort(one.kind, kind="stable")]
        ends = np.bincount(one.kind, minlength=1).cumsum().tolist()
        for number, (start, end) in enumerate(pairwise(ends), start=1):
            if end > start:
                by_kind[number].append(ordered[start:end])
    medians = np.zeros(max(by_kind, default=0) + 1)
    for number, seconds in by_kind.items():
        medians[number] = np.median(np.concatenate(seconds), overwrite_input=True)
    return medians


def _slope(context: Floats, log_pace: Floats) -> float:
    """What one more token of context adds, from neighbours in time.

    Least absolute deviations through the origin over differences of neighbours: a machine that
    changes its pace once moves one difference, not the slope.
    """
    run, rise = np.diff(context), np.diff(log_pace)
    slopes = rise[run != 0] / run[run != 0]
    if not len(slopes):
        return 0.0
    order = slopes.argsort()
    weight = np.abs(run[run != 0])[order].cumsum()
    return float(slopes[order][np.searchsorted(weight, weight[-1] / 2)])
