"""Which slices gain, which lose, and what follows for routing.

Reads intervals that were corrected for the number of looks; corrects nothing itself.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from specmeasure.brief.headline import axis_to_route
from specmeasure.brief.joined import JoinedArm
from specmeasure.brief.names import listed, plain
from specmeasure.brief.numbers import count
from specmeasure.brief.tables import Footnotes, Table, slice_table
from specmeasure.records.estimates import Interval, SliceEstimates

_MOST_ROWS = 20
_MOST_ON_A_PAGE = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceTable:
    """One axis of one arm, its largest slices first to be kept."""

    axis: str
    table: Table
    left_out: str | None  # how many slices have no row


def write_slice_tables(arm: JoinedArm, notes: Footnotes) -> tuple[SliceTable, ...]:
    """A table for each axis."""
    axes = dict.fromkeys(part.axis for part in arm.estimates.slices)
    return tuple(_slice_table(arm, axis, notes, at_most=_MOST_ROWS) for axis in axes)


def write_telling_slices(arm: JoinedArm, notes: Footnotes) -> SliceTable | None:
    """The axis to route by, or else the first that has several slices, cut to a page."""
    parts = [part for part in arm.estimates.slices if part.is_of_traffic]
    sizes = Counter(part.axis for part in parts)
    several = [part.axis for part in parts if sizes[part.axis] > 1]
    axis = axis_to_route(arm.measured_slices) or next(iter(several or sizes), None)
    return None if axis is None else _slice_table(arm, axis, notes, at_most=_MOST_ON_A_PAGE)


def write_gains(slices: Sequence[SliceEstimates]) -> str:
    """The slices whose interval lies on one side of 1.00, and the advice where both sides do."""
    measured = [(part, part.decode_speedup) for part in slices]
    gains = [part for part, found in measured if isinstance(found, Interval) and found.low > 1]
    losses = [part for part, found in measured if isinstance(found, Interval) and found.high < 1]
    if not gains and not losses:
        return "No slice's interval excludes 1.00: neither gain nor loss is shown for any alone."
    said = (
        [f"Faster, intervals above 1.00: {_by_axis(gains)}."]
        if gains
        else ["No slice's interval lies above 1.00."]
    )
    said += (
        [f"Slower, intervals below 1.00: {_by_axis(losses)}."] if losses else ["None lies below."]
    )
    return " ".join([*said, *_advice(gains, losses)])


def write_correction(arms: Sequence[JoinedArm]) -> str:
    """How many looks the intervals of slices were corrected for."""
    looks = [
        part
        for arm in arms
        for part in arm.estimates.slices
        if isinstance(part.decode_speedup, Interval)
    ]
    return (
        f"Intervals of slices take Holm's levels over {count(len(looks), 'measured slice')} of "
        f"{count(len(arms), 'arm')}: were there no change anywhere, any of them would exclude "
        "1.00 in about 5 % of runs or fewer (family-wise)."
    )


def _slice_table(arm: JoinedArm, axis: str, notes: Footnotes, *, at_most: int) -> SliceTable:
    parts = [part for part in arm.estimates.slices if part.axis == axis]
    largest = sorted(parts, key=lambda part: -part.num_prompts)[:at_most]
    return SliceTable(
        axis=plain(axis),
        table=slice_table(arm, [part for part in parts if part in largest], notes),
        left_out=_left_out(axis, len(parts) - len(largest)),
    )


def _left_out(axis: str, num_slices: int) -> str | None:
    if not num_slices:
        return None
    return f"And {count(num_slices, 'smaller slice')} by {plain(axis)}."


def _by_axis(parts: Sequence[SliceEstimates]) -> str:
    axes = dict.fromkeys(part.axis for part in parts)
    return "; ".join(
        f"{plain(axis)} {listed([plain(part.name) for part in parts if part.axis == axis])}"
        for axis in axes
    )


def _advice(gains: Sequence[SliceEstimates], losses: Sequence[SliceEstimates]) -> list[str]:
    gaining = {part.axis for part in gains if part.is_of_traffic}
    axis = next((part.axis for part in losses if part.axis in gaining), None)
    if axis is None:
        return []
    fast, slow = (
        listed([plain(part.name) for part in parts if part.axis == axis])
        for parts in (gains, losses)
    )
    return [f"Route by {plain(axis)}: speculation for {fast}, the plain target for {slow}."]
