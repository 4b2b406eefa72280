"""The figure of early exits: what each layer is predicted to gain, and how many drafts it keeps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from specmeasure.brief.canvas import (
    GREY,
    all_levels,
    assign_looks,
    set_title,
    styled,
    to_svg,
    two_panels,
)
from specmeasure.brief.exits import Exit, best_exit
from specmeasure.brief.numbers import TIMES
from specmeasure.brief.replay_tables import speed_alone
from specmeasure.records.estimates import Estimate, Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_TICKS = 12
_LOOK = assign_looks(["exits"])["exits"]


def exits_figure(exits: Sequence[Exit]) -> bytes | None:
    """Predicted speedup and accepted drafts over the exit layer; None for fewer than two layers.

    Of exits after one layer that pick drafts in two ways the faster is drawn.
    """
    by_layer: dict[int, list[Exit]] = {}
    for one in exits:
        by_layer.setdefault(one.layer, []).append(one)
    if len(by_layer) < 2:
        return None
    with styled():
        return to_svg(_chart([best_exit(by_layer[layer]) for layer in sorted(by_layer)]))


def _chart(exits: Sequence[Exit]) -> "Figure":
    figure, (speeds, rates) = two_panels(height=3.4)
    speedups = [one.found.best.decode_speedup for one in exits]
    accepted = [one.found.best.draft_acceptance_rate for one in exits]
    _draw(speeds, exits, [one.found.best.speedup for one in exits], speedups)
    _draw(rates, exits, [_value(one) for one in accepted], accepted)
    best = best_exit(exits)
    speeds.plot(
        [best.layer],
        [best.found.best.speedup],
        color=_LOOK.colour,
        marker="o",
        markersize=11,
        markerfacecolor="none",
        linestyle="none",
    )
    speeds.axhline(1.0, color=GREY, linewidth=1)
    levels = all_levels([*speedups, *accepted])
    speeds.set_ylabel(f"Decode speedup ({TIMES})" + (f",\n{levels} intervals" if levels else ""))
    rates.set_ylabel("Share of drafts accepted")
    rates.set_ylim(0, 1)
    for axes in (speeds, rates):
        axes.set_xlabel("First layers that draft")
        axes.set_xticks([one.layer for one in exits][:: -(-len(exits) // _MOST_TICKS)])
        axes.grid(alpha=0.3)
    at = f"layer {best.layer} at K = {best.found.choice.best}"
    set_title(figure, f"Exits at their best K: after {at}, {speed_alone(best.found.best)}")
    return figure


def _draw(
    axes: "Axes",
    exits: Sequence[Exit],
    values: Sequence[float | None],
    estimates: Sequence[Estimate],
) -> None:
    """A line through the values, and a bar where there is an interval."""
    known = [
        (one.layer, value, found)
        for one, value, found in zip(exits, values, estimates, strict=True)
        if value is not None
    ]
    axes.plot(
        [layer for layer, _, _ in known],
        [value for _, value, _ in known],
        color=_LOOK.colour,
        marker=_LOOK.marker,
        markersize=4,
        linewidth=1.2,
    )
    for layer, _, found in known:
        if isinstance(found, Interval):
            axes.vlines(layer, found.low, found.high, color=_LOOK.colour, linewidth=1)


def _value(estimate: Estimate) -> float | None:
    return estimate.value if isinstance(estimate, Interval) else None
