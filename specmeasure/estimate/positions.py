"""Acceptance by draft position, from whatever tells it.

A server that tells every block is as good as blocks recorded here. Of histograms and of counters by
position nobody knows how many drafts a block had; they say what each position was asked where every
block had K, and between two bounds where a few had fewer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from specmeasure.estimate.counts import num_drafted_blocks
from specmeasure.estimate.intervals import Floats, Intervals
from specmeasure.records.estimates import Estimate, Unmeasured
from specmeasure.records.trace import DraftCounts

MOST_MISSING = 0.2  # of K drafts a block; with more, nobody knows what the positions were asked

CountRows = list[list[DraftCounts]]  # by cluster
Curve = Callable[[Floats, Floats, Intervals], list[Estimate]]  # of kept and asked, [n, K] each


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """By draft position: blocks that were asked, and blocks that kept it.

    ``asked_least`` is below ``asked_most`` where some blocks had fewer than K drafts and nobody
    knows which: a block that kept all it had was not asked further.
    """

    kept: Floats  # [K]
    asked_most: Floats  # [K]
    asked_least: Floats  # [K]
    num_missing: int  # drafts short of K a block, where they are of unknown blocks


def positions(counts: DraftCounts, most_drafts: int) -> Positions | None:
    """Of one request, or of one window; None: the positions are not told, or drafts pass K."""
    if counts.steps is not None:
        return _by_step(counts.steps, most_drafts)
    kept, num_blocks = _kept(counts, most_drafts), num_drafted_blocks(counts)
    if kept is None or num_blocks is None:
        return None
    num_missing = most_drafts * num_blocks - counts.num_draft_tokens
    if num_missing < 0:
        return None
    asked = np.concatenate(([float(num_blocks)], kept[:-1]))
    short_of = most_drafts - np.arange(most_drafts)  # drafts, of a block that had i alone
    unasked = np.minimum(num_missing // short_of, asked - kept)
    unasked[0] = 0.0  # a block without any draft is none
    return Positions(
        kept=kept, asked_most=asked, asked_least=asked - unasked, num_missing=num_missing
    )


def _by_step(steps: Sequence[tuple[int, int]], most_drafts: int) -> Positions:
    kept, asked = np.zeros(most_drafts), np.zeros(most_drafts)
    for drafted, accepted in steps:
        kept[:accepted] += 1
        asked[: min(drafted, accepted + 1)] += 1
    return Positions(kept=kept, asked_most=asked, asked_least=asked, num_missing=0)


def _kept(counts: DraftCounts, most_drafts: int) -> Floats | None:
    """[K] blocks that kept draft i + 1; None: not told, or of more than K drafts."""
    told: Sequence[int]
    if not counts.num_accepted_tokens:  # servers leave positions out that nothing reached
        return np.zeros(most_drafts)
    if counts.accepted_by_position is not None:
        told = counts.accepted_by_position
    elif counts.histogram is not None:
        told = np.cumsum(counts.histogram[:0:-1])[::-1].tolist()
    else:
        return None
    if any(told[most_drafts:]):
        return None
    kept = np.zeros(most_drafts)
    kept[: len(told)] = told[:most_drafts]
    return kept


def by_position(
    curve: Curve, sources: Sequence[CountRows], most_drafts: int, intervals: Intervals
) -> tuple[Estimate, ...]:
    """A curve by draft position; between two bounds where a few blocks were short of K drafts.

    By the first source that tells positions; empty where none does.
    """
    why = None
    for rows in sources:
        found = [[positions(counts, most_drafts) for counts in row] for row in rows]
        told = [[one for one in row if one is not None] for row in found]
        if [len(row) for row in told] != [len(row) for row in rows]:
            continue
        missing = sum(one.num_missing for row in told for one in row)
        if missing > MOST_MISSING * _most(rows, most_drafts):
            why = Unmeasured(
                reason=f"blocks had fewer than K = {most_drafts} drafts, and the server does not "
                "tell which"
            )
            continue
        return tuple(_bounded(curve, told, intervals, is_exact=not missing))
    return (why,) * most_drafts if why else ()


def _most(rows: CountRows, most_drafts: int) -> int:
    """Drafts, had every block had K."""
    return most_drafts * sum(num_drafted_blocks(counts) or 0 for row in rows for counts in row)


def _bounded(
    curve: Curve, told: Sequence[Sequence[Positions]], intervals: Intervals, *, is_exact: bool
) -> list[Estimate]:
    kept, most, least = (
        np.array([sum((getattr(one, name) for one in row), start=_nothing(told)) for row in told])
        for name in ("kept", "asked_most", "asked_least")
    )
    low = curve(kept, most, intervals)
    if is_exact:
        return low
    return [
        _between(one, other) for one, other in zip(low, curve(kept, least, intervals), strict=True)
    ]


def _nothing(told: Sequence[Sequence[Positions]]) -> Floats:
    return np.zeros(next(len(one.kept) for row in told for one in row))


def _between(low: Estimate, high: Estimate) -> Estimate:
    """The interval that holds both, around their middle."""
    if isinstance(low, Unmeasured):
        return low
    if isinstance(high, Unmeasured):
        return high
    return replace(low, value=(low.value + high.value) / 2, high=high.high)
