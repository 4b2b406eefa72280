"""The figure of the machine's own pace over the run: steps and noise that no arm explains."""

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from specmeasure.brief.canvas import GREY, Picture, blank_figure, note, set_title, styled
from specmeasure.brief.numbers import TIMES, count
from specmeasure.records.estimates import Estimates, SpeedStep, Steadiness

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_POINTS = 400  # with more cycles, medians and extremes of neighbours
_MOST_STEPS = 8  # that are labelled


def drift_figure(estimates: Estimates) -> Picture | None:
    """Pace by cycle, its steps marked; None where it was not looked at."""
    found = estimates.steadiness
    if not isinstance(found, Steadiness) or not found.pace:
        return None
    with styled():
        return Picture.of(_chart(found))


def _chart(found: Steadiness) -> "Figure":
    figure, axes = blank_figure(height=3.0)
    size = -(-len(found.pace) // _MOST_POINTS)
    groups = [found.pace[at : at + size] for at in range(0, len(found.pace), size)]
    places = [1 + size * index + (len(group) - 1) / 2 for index, group in enumerate(groups)]
    middles = [median(group) for group in groups]
    axes.axhline(1.0, color=GREY, linewidth=1)
    if size > 1:
        axes.fill_between(
            places,
            [min(group) for group in groups],
            [max(group) for group in groups],
            color="#0072B2",
            alpha=0.2,
            linewidth=0,
        )
    axes.plot(
        places,
        middles,
        color="#0072B2",
        marker="o" if len(places) <= 60 else "",
        markersize=3.5,
        linewidth=1.2,
    )
    _set_limits(axes, found.pace)
    for step in found.steps[:_MOST_STEPS]:
        _mark(axes, step)
    _mark_workers(axes, found)
    grouped = f", medians of {size}, band: all" if size > 1 else ""
    axes.set_xlabel(f"Cycle: a prompt's turn, all arms back to back{grouped}")
    axes.set_ylabel("Seconds per token,\nmedian of the run = 1")
    axes.grid(axis="y", alpha=0.3)
    set_title(figure, _title(found))
    return figure


def _set_limits(axes: "Axes", pace: Sequence[float]) -> None:
    """At least 10 % either way, so that a quiet machine looks quiet."""
    axes.set_xlim(0.5, len(pace) + 0.5)
    low, high = min(0.9, *pace), max(1.1, *pace)
    room = 0.1 * (high - low)
    axes.set_ylim(max(0.0, low - room), high + 2 * room)


def _mark(axes: "Axes", step: SpeedStep) -> None:
    place = step.cycle + 0.5  # before the first cycle at the new pace, counted from 1
    axes.axvline(place, color="#D55E00", linewidth=1.2, linestyle="--")
    said = f" {TIMES}{step.ratio:.2f}"
    note(axes, said, (place, 0.98), coordinates=("data", "axes fraction"), align=("left", "top"))


def _mark_workers(axes: "Axes", found: Steadiness) -> None:
    """Where the cycles of the next worker begin, each around a median of its own."""
    for start in found.worker_starts:
        axes.axvline(start + 0.5, color=GREY, linewidth=1, linestyle=":")
    if found.worker_starts:
        said = f"{len(found.worker_starts) + 1} workers, one after the other "
        note(axes, said, (1.0, 0.0), coordinates="axes fraction", align=("right", "bottom"))


def _title(found: Steadiness) -> str:
    cycles = count(len(found.pace), "cycle")
    steps = count(len(found.steps), "lasting change") if found.steps else "no lasting change"
    return f"{cycles}: {steps} of the machine's pace, {count(found.num_outliers, 'outlying trial')}"
