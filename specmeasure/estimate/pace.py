"""Each trial's pace: its decode time beside what its arm takes for such passes.

Seconds per token would mix in acceptance, seconds per pass the number of drafts and the context.
Here a pass counts as the arm's own median pass with as many drafts, and what a longer context
costs is taken out. What is left is the machine, and what this trial alone met.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specmeasure.estimate.intervals import Floats
from specmeasure.estimate.latency import times
from specmeasure.estimate.pairing import Cluster, cluster_of
from specmeasure.records.trace import TrialRecord

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paces:
    """Trials, or windows, in the order of recording."""

    log_pace: Floats  # [T] 0 is the arm's median
    cycle: Ints  # [T] from 0: the prompt's turn in one repeat, or the group of the window
    arm: Ints  # [T]


def trial_paces(trials: Sequence[TrialRecord]) -> Paces:
    """The paces of trials that decoded for some time, more than one token each.

    Formula: log(decode seconds / Σ over passes of the arm's median seconds of a pass with as many
    drafts) − slope · context length − the arm's median of it.
    """
    arm = _numbered([trial.key.arm for trial in trials])
    seconds = np.array([trial.decode_s or 0.0 for trial in trials])
    log_pace = np.log(seconds / _usual_seconds(trials, arm))
    context = np.array(
        [(t.num_prompt_tokens or 0) + (t.num_emitted_tokens or 0) / 2 for t in trials]
    )
    for number in range(int(arm.max(initial=-1)) + 1):
        own = arm == number
        level = log_pace[own] - _slope(context[own], log_pace[own]) * context[own]
        log_pace[own] = level - np.median(level)
    keys = [trial.key for trial in trials]
    cycle = _numbered([(key.prompt_id, key.turn, key.repeat) for key in keys])
    return Paces(log_pace=log_pace, cycle=cycle, arm=arm)


def window_paces(trials: Sequence[TrialRecord]) -> Paces:
    """The paces of windows of requests that decoded for some time, one for each arm and group.

    Formula: log(Σ decode seconds / Σ tokens after the first) − the median of it over windows of
    the same arm and load.
    """
    rows: defaultdict[tuple[str, Cluster], list[TrialRecord]] = defaultdict(list)
    for trial in trials:
        rows[trial.key.arm, cluster_of(trial)].append(trial)
    spent = times(list(rows.values()))
    log_pace = np.log(spent.decode_s / spent.num_decoded)
    kind = _numbered([(arm, row[0].key.load) for (arm, _), row in rows.items()])
    log_pace -= group_medians(log_pace, kind)[kind]
    return Paces(
        log_pace=log_pace,
        cycle=_numbered([cluster for _, cluster in rows]),
        arm=_numbered([arm for arm, _ in rows]),
    )


def group_medians(values: Floats, group: Ints) -> Floats:
    """The median of the values [N] of each group, groups numbered from 0 without a gap."""
    ordered = values[np.lexsort((values, group))]
    ends = np.bincount(group).cumsum()
    starts = np.concatenate(([0], ends[:-1]))
    return np.asarray((ordered[(starts + ends - 1) // 2] + ordered[(starts + ends) // 2]) / 2)


def _usual_seconds(trials: Sequence[TrialRecord], arm: Ints) -> Floats:
    """What a trial's passes usually take in its arm; its number of tokens where that is unknown."""
    passes = [block for trial in trials for block in trial.blocks[1:]]
    trial_of = np.repeat(np.arange(len(trials)), [max(0, len(t.blocks) - 1) for t in trials])
    num_drafts = np.fromiter((b.num_draft_tokens for b in passes), np.int64, len(passes))
    seconds = np.fromiter((b.draft_s + b.verify_s for b in passes), np.float64, len(passes))
    kinds = arm[trial_of] * (num_drafts.max(initial=0) + 1) + num_drafts
    _, kinds = np.unique(kinds, return_inverse=True)
    usual = group_medians(seconds, kinds)[kinds] if passes else seconds
    totals = np.bincount(trial_of, weights=usual, minlength=len(trials))
    tokens = np.array([(trial.num_emitted_tokens or 0) - 1 for trial in trials], dtype=float)
    return np.where(totals > 0, totals, tokens)


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


def _numbered(names: Sequence[object]) -> Ints:
    """The number of each name, in order of first appearance."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
