"""The figure of a comparison: what each candidate gains, against the memory that it takes.

Draws what was estimated; a candidate whose speed or memory is not known is left out.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from specmeasure.brief.canvas import Look, assign_looks, blank_figure, styled, to_svg
from specmeasure.brief.names import listed, shortened
from specmeasure.brief.numbers import TIMES, count, level
from specmeasure.records.comparison import Candidate, Comparison
from specmeasure.records.estimates import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

_MOST_DOTS = 12
_GREY = "#555555"
_MIB = 2**20
_NEAR = 0.04  # of the width: sizes that look the same
_STEP_PT = 8


def pareto_figure(comparison: Comparison) -> bytes | None:
    """Decode speedup with its interval against extra memory; None when no candidate is placed."""
    placed = [one for one in comparison.candidates if one.on_front is not None]
    if not placed:
        return None
    with styled():
        return to_svg(_chart(placed[:_MOST_DOTS], num_left_out=max(0, len(placed) - _MOST_DOTS)))


def _chart(candidates: Sequence[Candidate], *, num_left_out: int) -> "Figure":
    from matplotlib.transforms import offset_copy

    figure, axes = blank_figure(height=3.8)
    axes.axhline(1.0, color=_GREY, linewidth=1)
    _draw_front(axes, candidates)
    looks, shifts = assign_looks(one.name for one in candidates), _shifts(candidates)
    for one, shift_pt in zip(candidates, shifts, strict=True):
        _draw(
            axes,
            one,
            looks[one.name],
            offset_copy(axes.transData, figure, shift_pt, units="points"),
        )
    speeds = [s for one in candidates if isinstance(s := one.decode_speedup, Interval)]
    _set_limits(axes, [_place(one)[0] for one in candidates], speeds)
    levels = " and ".join(dict.fromkeys(level(s.level) for s in speeds))
    axes.set_xlabel("Memory beside the target (MiB)")
    axes.set_ylabel(f"Decode speedup ({TIMES}),\n{levels} intervals")
    axes.grid(alpha=0.3)
    title = f"best {len(candidates)}, {count(num_left_out)} left out" if num_left_out else None
    figure.legend(loc="outside lower center", ncols=2, title=title)
    front = listed([shortened(one.name, at_most=28) for one in candidates if one.on_front])
    figure.suptitle(f"Beaten by none in speed and memory: {front}", x=0.01, ha="left")
    return figure


def _draw_front(axes: "Axes", candidates: Sequence[Candidate]) -> None:
    """A line of steps: the speed that so much memory buys."""
    corners = sorted(_place(one) for one in candidates if one.on_front)
    axes.step(
        [size for size, _ in corners],
        [speed for _, speed in corners],
        where="post",
        color=_GREY,
        linewidth=1,
        linestyle=":",
    )


def _draw(axes: "Axes", one: Candidate, look: Look, transform: "Transform") -> None:
    if not isinstance(one.decode_speedup, Interval):
        return
    size, speed = _place(one)
    axes.errorbar(
        [size],
        [speed],
        yerr=[[speed - one.decode_speedup.low], [one.decode_speedup.high - speed]],
        label=shortened(one.name),
        color=look.colour,
        marker=look.marker,
        markersize=4.5,
        markerfacecolor=look.colour if one.on_front else "white",
        linestyle="none",
        transform=transform,
    )


def _set_limits(axes: "Axes", sizes: Sequence[float], speeds: Sequence[Interval]) -> None:
    """By hand: what is moved to the side scales no axis."""
    width = max(sizes) - min(sizes) or 1.0
    axes.set_xlim(min(sizes) - 0.1 * width, max(sizes) + 0.1 * width)
    high = min(max(s.high for s in speeds), 2 * max(s.value for s in speeds))  # wide ones run off
    low = max(0.0, min(1.0, *(s.low for s in speeds)))
    axes.set_ylim(low - 0.05 * (high - low), max(high, 1.0) + 0.05 * (high - low))


def _shifts(candidates: Sequence[Candidate]) -> list[float]:
    """Points to the side, so that candidates of about one size do not cover one another."""
    sizes = [_place(one)[0] for one in candidates]
    width = _NEAR * (max(sizes) - min(sizes)) or 1.0
    groups = [[other for other in sizes if abs(other - size) < width] for size in sizes]
    ranks = [
        sum(abs(other - size) < width for other in sizes[:place])
        for place, size in enumerate(sizes)
    ]
    return [
        _STEP_PT * (rank - (len(group) - 1) / 2) for rank, group in zip(ranks, groups, strict=True)
    ]


def _place(one: Candidate) -> tuple[float, float]:
    speed = one.decode_speedup.value if isinstance(one.decode_speedup, Interval) else 0.0
    return (one.extra_memory_bytes or 0) / _MIB, speed
