"""Every arm by category, source, language, length, turn, sampling, worker and the user's fields.

Looking at many slices finds differences by luck alone, so intervals take Holm's levels (Holm 1979)
over all measured slices of all arms: ordered by their evidence against "no change" (a speedup of
1.00), the j-th of m is looked at with an error of α / (m − j + 1) while each before it showed a
change; the rest share the level of the first that did not. A slice's interval then excludes 1.00
exactly where Holm's test rejects, and under no change any does with a chance of about α at most:
2.6 % in simulations of 10 slices of 12 prompts with heavy-tailed lengths. The levels hold against
1.00 alone: for other thresholds stands a second interval at Bonferroni's level; all of a run's hold
at once in 95 to 97 % of simulated workloads (docs/calibration.md). Slices of too few prompts say
so and take no look.
"""

from bisect import bisect
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from specmeasure.estimate import latency
from specmeasure.estimate.blocks import Ints
from specmeasure.estimate.drafting import rate_and_length
from specmeasure.estimate.intervals import Intervals, Spread
from specmeasure.estimate.pairing import Names, Pairs
from specmeasure.estimate.trials import NO_WORKER, Trials, numbered, numbered_together, renumbered
from specmeasure.records.estimates import WORKER_AXIS, SliceEstimates, Unmeasured
from specmeasure.records.plan import Sampling, TrialKey
from specmeasure.records.trace import TrialRecord

_BANDS = (64, 256, 1024, 4096, 16384)  # prompt tokens; the last band is open
_LABELS = ("category", "source", "language")
# a field of the user's can have these names, too
_COMPUTED = ("length", "turn", "sampling", WORKER_AXIS)
_NO_CHANGE = 1.0


class Sliced(Protocol):
    """What belongs to slices: a trial, or an answer that is replayed."""

    @property
    def key(self) -> TrialKey: ...
    @property
    def labels(self) -> dict[str, str]: ...
    @property
    def num_prompt_tokens(self) -> int | None: ...
    @property
    def sampling(self) -> Sampling: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One arm on one slice, with its speedup before any level is chosen."""

    arm: str
    axis: str
    name: str
    pairs: Pairs
    speedup: Spread | Unmeasured


def slice_arms(
    pairs_by_arm: Mapping[str, Pairs],
    intervals: Intervals,
    untimed: Container[TrialKey] = frozenset(),  # their answers count, their speed does not
) -> dict[str, tuple[SliceEstimates, ...]]:
    """The slices of every arm, axis by axis, in order of first appearance."""
    compared = Trials.joined([pairs.baseline.flat for pairs in pairs_by_arm.values()])
    axes = find_axes(compared)  # the same for all arms, so that they compare
    parts = [
        part
        for arm, pairs in pairs_by_arm.items()
        for called in (names_by_axis(pairs.arm.flat),)
        for axis in axes
        if axis in called
        for part in _parts(arm, axis, pairs.split(called[axis]), intervals, untimed)
    ]
    measured = [part.speedup for part in parts if isinstance(part.speedup, Spread)]
    levels = holm_levels([spread.p_value(_NO_CHANGE) for spread in measured], intervals.level)
    untaken = iter(levels)
    slices: dict[str, list[SliceEstimates]] = {arm: [] for arm in pairs_by_arm}
    all_looks = intervals.corrected(len(measured))
    for part in parts:
        is_look = isinstance(part.speedup, Spread)
        look = replace(intervals, level=next(untaken)) if is_look else intervals
        slices[part.arm].append(_estimates(part, look, all_looks))
    return {arm: tuple(found) for arm, found in slices.items()}


def find_axes(trials: Sequence[Sliced]) -> list[str]:
    """Axes that cut these trials, each in a way of its own; the first of equal ones stands."""
    cuts: dict[bytes, str] = {}
    for axis, called in names_by_axis(trials).items():
        numbers = renumbered(called.numbers)
        if numbers.any():
            cuts.setdefault(numbers.tobytes(), axis)
    return list(cuts.values())


def names_by_axis(trials: Sequence[Sliced]) -> dict[str, Names]:
    """What each of these trials is called, axis by axis in order of first appearance.

    Trials are alike in few ways: names are looked up once for each.
    """
    kind = _kinds(trials)
    _, firsts = np.unique(kind, return_index=True)
    examples = [slice_names(trials[place]) for place in firsts.tolist()]
    found = {}
    for axis in dict.fromkeys(axis for names in examples for axis in names):
        called = Names.of([names.get(axis) for names in examples])
        found[axis] = Names(called.names, called.numbers[kind])
    return found


def slice_names(trial: Sliced) -> dict[str, str]:
    """The slices that a trial belongs to, by axis; an axis that does not know it is left out."""
    own = {axis: name for axis in _LABELS if (name := trial.labels.get(axis)) is not None}
    length = {}
    if trial.num_prompt_tokens is not None:
        length = {"length": _band(trial.num_prompt_tokens)}
    worker = _worker(trial)
    known = {
        **own,
        **length,
        "turn": str(trial.key.turn + 1),
        "sampling": str(trial.sampling),
        **({} if worker is None else {WORKER_AXIS: str(worker)}),
    }
    fields = {
        f"field {axis}" if axis in _COMPUTED else axis: name
        for axis, name in trial.labels.items()
        if axis not in own
    }
    return {**known, **fields}


def _worker(trial: Sliced) -> int | None:
    """That measured a trial; answers that are replayed have none."""
    return trial.worker if type(trial) is TrialRecord else None


def _kinds(trials: Sequence[Sliced]) -> Ints:
    """The number of each trial's kind: ``slice_names`` calls those of one kind alike.

    Records of one trace share their labels.
    """
    if isinstance(trials, Trials):
        table, places = trials.table, trials.places
        bands = np.searchsorted(_BANDS, table.num_asked[places], side="right") + 1
        return numbered_together(
            table.labels[places],
            bands * table.asked_is_known[places],
            table.turn[places],
            table.sampling[places],
            table.worker[places] - NO_WORKER,
        )
    return numbered(
        (
            id(trial.labels),
            None if (length := trial.num_prompt_tokens) is None else bisect(_BANDS, length),
            trial.key.turn,
            id(trial.sampling),
            _worker(trial),
        )
        for trial in trials
    )


def holm_levels(p_values: Sequence[float], level: float) -> list[float]:
    """The confidence level of each look, so that together they err as often as one at ``level``.

    >>> [round(one, 4) for one in holm_levels([0.3, 0.001, 0.02], 0.95)]
    [0.95, 0.9833, 0.975]
    """
    num_looks = len(p_values)
    levels = [level] * num_looks
    error, rejecting = 1 - level, True
    for rank, place in enumerate(sorted(range(num_looks), key=lambda look: p_values[look])):
        if rejecting:
            error = (1 - level) / (num_looks - rank)
            rejecting = p_values[place] < error
        levels[place] = 1 - error
    return levels


def _band(num_tokens: int) -> str:
    low = 0
    for high in _BANDS:
        if num_tokens < high:
            return f"{low:,}–{high - 1:,} tokens" if low else f"under {high} tokens"
        low = high
    return f"{low:,} tokens and more"


def _parts(
    arm: str,
    axis: str,
    split: Mapping[str, Pairs],
    intervals: Intervals,
    untimed: Container[TrialKey],
) -> list[_Part]:
    parts = []
    for name, own in split.items():
        timed = own.apart_from(untimed)
        speedup = latency.decode_spread(
            latency.times(timed.baseline), latency.times(timed.arm), intervals
        )
        parts.append(_Part(arm=arm, axis=axis, name=name, pairs=own, speedup=speedup))
    return sorted(parts, key=_shortest) if axis == "length" else parts


def _shortest(part: _Part) -> int:
    rows = part.pairs.arm
    return int(rows.table.num_asked[rows.places].min())


def _estimates(part: _Part, look: Intervals, all_looks: Intervals) -> SliceEstimates:
    rate, length = rate_and_length(part.pairs.arm, all_looks)
    speedup = part.speedup
    return SliceEstimates(
        axis=part.axis,
        name=part.name,
        num_prompts=part.pairs.num_prompts,
        decode_speedup=look.around(speedup) if isinstance(speedup, Spread) else speedup,
        decode_speedup_corrected=(
            all_looks.around(speedup) if isinstance(speedup, Spread) else speedup
        ),
        mean_acceptance_length=length,
        draft_acceptance_rate=rate,
    )
