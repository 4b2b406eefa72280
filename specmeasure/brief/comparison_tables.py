"""The tables of a comparison, and how its differences and sizes are spoken."""

from collections.abc import Sequence
from dataclasses import replace

from specmeasure.brief.names import plain
from specmeasure.brief.numbers import NOT_APPLICABLE, byte_size, count, quantity, rate, speedup
from specmeasure.brief.tables import Footnotes, Table
from specmeasure.records.comparison import Candidate, Difference, SliceLeader
from specmeasure.records.estimates import Estimate, Interval

_YES_NO = {True: "yes", False: "no", None: NOT_APPLICABLE}


def candidate_table(candidates: Sequence[Candidate], notes: Footnotes) -> Table:
    """Every candidate, the winner first."""
    columns = (
        "Candidate",
        "Run",
        "Verdict",
        "Decode speedup",
        "Drafts accepted",
        "τ",
        "Tokens per target pass",
        "Extra memory",
        "On the front",
    )
    rows = tuple(
        (
            plain(one.name),
            plain(one.run),
            one.verdict.value,
            notes.cell(speedup, one.decode_speedup),
            notes.cell(rate, one.draft_acceptance_rate),
            notes.cell(quantity, one.mean_acceptance_length),
            notes.cell(quantity, one.tokens_per_target_pass),
            extra_memory(one),
            _YES_NO[one.on_front],
        )
        for one in candidates
    )
    return Table(columns=columns, rows=rows)


def difference_table(differences: Sequence[Difference], notes: Footnotes) -> Table:
    """The winner against every other."""
    columns = ("Winner against", "Speed, its / theirs", "Acceptance, points", "τ", "Told apart")
    rows = tuple(
        (
            plain(one.second),
            notes.cell(speedup, one.speedup_ratio),
            notes.cell(points, one.acceptance),
            notes.cell(quantity, one.length),
            _YES_NO[one.told_apart],
        )
        for one in differences
    )
    return Table(columns=columns, rows=rows)


def leader_table(leaders: Sequence[SliceLeader], notes: Footnotes) -> Table:
    """The fastest candidate on each slice."""
    axis = plain(leaders[0].axis).capitalize() if leaders else "Slice"
    columns = (axis, "Prompts", "Fastest", "Decode speedup", "Runner-up", "Lead", "Told apart")
    rows = tuple(
        (
            plain(one.name),
            count(one.num_prompts),
            NOT_APPLICABLE if one.leader is None else plain(one.leader),
            notes.cell(speedup, one.decode_speedup),
            NOT_APPLICABLE if one.runner_up is None else plain(one.runner_up),
            notes.cell(speedup, one.lead),
            _YES_NO[one.told_apart],
        )
        for one in leaders
    )
    return Table(columns=columns, rows=rows)


def points(estimate: Estimate | None) -> str:
    """A difference of rates in percentage points.

    >>> points(Interval(value=-0.04, low=-0.06, high=-0.02, level=0.95, num_clusters=60))
    '-4.0 [-6.0, -2.0]'
    """
    return quantity(_scaled(estimate, 100))


def change_in_points(estimate: Interval, *, up: str, down: str, same: str) -> str:
    """A difference of rates, said upwards or downwards where its interval lies beside 0.

    >>> fall = Interval(value=-0.04, low=-0.06, high=-0.02, level=0.95, num_clusters=60)
    >>> change_in_points(fall, up="rose {} points", down="fell {} points", same="kept, {} points")
    'fell 4.0 points [2.0, 6.0]'
    """
    saying = up if estimate.low > 0 else down if estimate.high < 0 else same
    sign = -1 if saying is down else 1
    value, bracket, bounds = points(_scaled(estimate, sign)).partition(" [")
    return f"{saying.format(value)}{bracket}{bounds}"


def extra_memory(one: Candidate) -> str:
    """Memory beside the target, signed."""
    sign = "+" if (one.extra_memory_bytes or 0) > 0 else ""
    return f"{sign}{byte_size(one.extra_memory_bytes)}"


def _scaled(estimate: Estimate | None, factor: float) -> Estimate | None:
    if not isinstance(estimate, Interval):
        return estimate
    low, high = sorted((factor * estimate.low, factor * estimate.high))
    return replace(estimate, value=factor * estimate.value, low=low, high=high)
