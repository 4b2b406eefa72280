"""Candidates of one run or of several on the same prompts: differences, leaders, and the front.

A prompt is left out or kept whole, with what both candidates did on it, so that what makes it easy
for both cancels. Candidates of one run share its baseline, which cancels too; across runs each
speedup is over its own run's baseline.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from specmeasure.estimate import acceptance, latency
from specmeasure.estimate.blocks import Ints
from specmeasure.estimate.intervals import (
    MIN_PROMPTS,
    Floats,
    Intervals,
    Spread,
    too_few,
)
from specmeasure.estimate.one_piece import in_one_piece
from specmeasure.estimate.pairing import Names, Pairs, pair_trials
from specmeasure.estimate.shared_prompts import Context, Run, context_of, timing_obstacle
from specmeasure.estimate.slices import find_axes, slice_names
from specmeasure.estimate.strata import Strata
from specmeasure.estimate.trials import strata_of
from specmeasure.records.comparison import Difference, SliceLeader
from specmeasure.records.estimates import Estimate, Unmeasured
from specmeasure.records.plan import Arm
from specmeasure.records.trace import Manifest, TrialRecord

# What a candidate and its baseline took and gave in one answer:
_BASE_S, _BASE_TOKENS, _ARM_S, _ARM_TOKENS, _ACCEPTED, _DRAFTED, _BLOCKS = range(7)
_TIMES = [_BASE_S, _BASE_TOKENS, _ARM_S, _ARM_TOKENS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """A candidate's answers beside its run's baseline."""

    name: str
    manifest: Manifest  # of its run
    pairs: Pairs
    places: Mapping[Context, int]  # of the answers in
    rows: Floats  # [answers, 7]
    workers: Ints  # [answers]


def enter(name: str, run: Run, arm: Arm) -> Entrant:
    """What an arm did in a run, as far as it and the baseline answered."""
    baseline = run.trace.manifest.plan.arms[0]
    both = pair_trials(_trials(run, baseline.name), _trials(run, arm.name))
    pairs = both.apart_from(in_one_piece(run.trace))
    answers = pairs.arm.one_by_one()
    plain = latency.times(pairs.baseline.one_by_one())
    spent = latency.times(answers)
    counts = acceptance.count_acceptance(answers, arm.draft_depth)
    columns = (
        *(plain.decode_s, plain.num_decoded, spent.decode_s, spent.num_decoded),
        *(counts.num_accepted, counts.num_drafted, counts.num_drafted_blocks),
    )
    return Entrant(
        name=name,
        manifest=run.trace.manifest,
        pairs=pairs,
        places={context_of(trial): place for place, trial in enumerate(answers.flat)},
        rows=np.column_stack(columns),
        workers=strata_of(answers),
    )


def compare_all(entrants: Sequence[Entrant], intervals: Intervals) -> tuple[Difference, ...]:
    """Every candidate against every later one, at the level at which all pairs hold together.

    The best was picked after looking, so its differences alone are as many looks as all pairs.
    """
    pairs = list(combinations(entrants, 2))
    look = intervals.corrected(len(pairs))
    return tuple(compare(first, second, look) for first, second in pairs)


def compare(first: Entrant, second: Entrant, look: Intervals) -> Difference:
    """One candidate against another on the answers that both gave."""
    ratio = _speedup_ratio(first, second, look)
    both = _paired(first, second)
    return Difference(
        first=first.name,
        second=second.name,
        speedup_ratio=look.around(ratio) if isinstance(ratio, Spread) else ratio,
        acceptance=_accepted_per(_DRAFTED, both, look, most=1.0),
        length=_accepted_per(_BLOCKS, both, look),
    )


def find_leaders(
    entrants: Sequence[Entrant], trials: Sequence[TrialRecord], intervals: Intervals
) -> tuple[SliceLeader, ...]:
    """The fastest candidate on each slice of the first axis that cuts these trials."""
    slices = _slices(entrants, trials, intervals)
    speed_look = intervals.corrected(sum(len(one.speeds) for one in slices))
    num_pairs = len(entrants) * (len(entrants) - 1) // 2  # the two were picked after looking
    lead_look = intervals.corrected(sum(len(one.speeds) > 1 for one in slices) * num_pairs)
    return tuple(_leader(one, speed_look, lead_look) for one in slices)


def pareto_front(places: Mapping[str, tuple[float, int]]) -> frozenset[str]:
    """Names by speed and size: those that none equals in both and beats in one.

    >>> sorted(pareto_front({"a": (1.5, 200), "b": (1.2, 0), "c": (1.4, 300), "d": (1.2, 0)}))
    ['a', 'b', 'd']
    """
    return frozenset(
        name
        for name, (speed, size) in places.items()
        if not any(
            faster >= speed and smaller <= size and (faster, smaller) != (speed, size)
            for faster, smaller in places.values()
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Speed:
    entrant: Entrant
    spread: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    axis: str
    name: str
    contexts: frozenset[Context]
    speeds: tuple[_Speed, ...]  # of those measured there, fastest first


def _trials(run: Run, arm: str) -> list[TrialRecord]:
    return [trial for trial in run.trace.trials if trial.key.arm == arm]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paired:
    """Sums by prompt, [n, 7] each, over the answers that both gave."""

    ours: Floats
    theirs: Floats
    strata: Strata  # [n] a number for each pair of workers


def _paired(first: Entrant, second: Entrant, within: Collection[Context] | None = None) -> _Paired:
    both = [
        context
        for context in first.places
        if context in second.places and (within is None or context in within)
    ]
    numbers = {name: n for n, name in enumerate(dict.fromkeys(one.prompt_id for one in both))}
    prompts = [numbers[context.prompt_id] for context in both]
    sums = np.zeros((2, len(numbers), _BLOCKS + 1))
    workers = np.zeros((2, len(numbers)), dtype=np.int64)
    for side, number, entrant in zip(sums, workers, (first, second), strict=True):
        answers = [entrant.places[context] for context in both]
        np.add.at(side, prompts, entrant.rows[answers])
        number[prompts] = entrant.workers[answers]
    _, strata = np.unique(workers, axis=1, return_inverse=True)
    return _Paired(ours=sums[0], theirs=sums[1], strata=strata)


def _speedup_ratio(
    first: Entrant,
    second: Entrant,
    intervals: Intervals,
    within: Collection[Context] | None = None,
) -> Spread | Unmeasured:
    """Formula: (Σ baseline s / Σ baseline tokens) / (Σ s / Σ tokens), over the second's same."""
    obstacle = timing_obstacle(first.manifest, second.manifest)
    if obstacle is not None:
        return Unmeasured(reason=obstacle)
    both = _paired(first, second, within)
    sums = np.hstack([side[:, _TIMES] for side in (both.ours, both.theirs)])
    long_enough = (sums[:, 1::2] > 0).all(axis=1)  # all four answers of the prompt
    return intervals.spread(
        _ratio_of_speedups, *sums[long_enough].T, strata=both.strata[long_enough]
    )


def _ratio_of_speedups(*sums: Floats) -> Floats:
    ours, theirs = (
        (base_s / base_tokens) / (arm_s / arm_tokens)
        for base_s, base_tokens, arm_s, arm_tokens in (sums[:4], sums[4:])
    )
    return ours / theirs


def _accepted_per(unit: int, both: _Paired, look: Intervals, *, most: float = math.inf) -> Estimate:
    """Formula: Σ accepted / Σ units of the one − the same of the other."""
    ours, theirs = both.ours, both.theirs
    has_units = [side[:, unit] > 0 for side in (ours, theirs)]
    fewest = min(int(flags.sum()) for flags in has_units)
    if fewest < MIN_PROMPTS:
        return too_few(fewest)
    counted = has_units[0] | has_units[1]
    columns = (side[counted][:, [_ACCEPTED, unit]] for side in (ours, theirs))
    found = look.spread(
        lambda accepted, units, other, other_units: accepted / units - other / other_units,
        *np.hstack(list(columns)).T,
        weights=(ours + theirs)[counted, unit],
        strata=both.strata[counted],
    )
    return look.around(found, least=-most, most=most) if isinstance(found, Spread) else found


def _slices(
    entrants: Sequence[Entrant], trials: Sequence[TrialRecord], intervals: Intervals
) -> list[_Slice]:
    """What ``trials`` are called decides, for all runs: another target may count other lengths."""
    of_turns = {(trial.key.prompt_id, trial.key.turn): trial for trial in trials}
    axis = next(iter(find_axes(list(of_turns.values()))), None)
    if axis is None:
        return []
    names = {context_of(trial): slice_names(trial).get(axis) for trial in trials}
    speeds: dict[str, list[_Speed]] = {name: [] for name in names.values() if name is not None}
    for entrant in entrants:
        called = [names.get(context_of(trial)) for trial in entrant.pairs.arm.flat]
        parts = entrant.pairs.split(Names.of(called))
        for name, own in parts.items():
            spread = latency.decode_spread(
                latency.times(own.baseline), latency.times(own.arm), intervals
            )
            if isinstance(spread, Spread):
                speeds[name].append(_Speed(entrant=entrant, spread=spread))
    return [
        _Slice(
            axis=axis,
            name=name,
            contexts=frozenset(context for context, own in names.items() if own == name),
            speeds=tuple(sorted(found, key=lambda speed: -speed.spread.value)),
        )
        for name, found in speeds.items()
    ]


def _leader(one: _Slice, speed_look: Intervals, lead_look: Intervals) -> SliceLeader:
    num_prompts = len({context.prompt_id for context in one.contexts})
    best, second = (*one.speeds, None, None)[:2]
    return SliceLeader(
        axis=one.axis,
        name=one.name,
        num_prompts=num_prompts,
        leader=best.entrant.name if best else None,
        decode_speedup=speed_look.around(best.spread) if best else too_few(num_prompts),
        runner_up=second.entrant.name if second else None,
        lead=_lead(one, best, second, lead_look) if best and second else None,
    )


def _lead(one: _Slice, best: _Speed, second: _Speed, look: Intervals) -> Estimate:
    """Few prompts can be most of a slice: the smaller effective number of both counts."""
    found = _speedup_ratio(best.entrant, second.entrant, look, one.contexts)
    if isinstance(found, Unmeasured):
        return found
    effective = (speed.spread.num_effective_prompts or math.inf for speed in (best, second))
    return look.around(replace(found, num_effective_prompts=min(effective)))
