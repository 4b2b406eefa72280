"""The figure of a replay: what every candidate is predicted to gain at every K.

Draws what was predicted, and beside it what a real run measured.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from specmeasure.brief.canvas import Look, assign_looks, blank_figure, styled, to_svg
from specmeasure.brief.names import shortened
from specmeasure.brief.numbers import TIMES, level
from specmeasure.brief.replay_tables import speed_alone
from specmeasure.records.agreement import Agreement
from specmeasure.records.estimates import Interval
from specmeasure.records.prediction import CandidatePrediction, Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LINES = 6
_MOST_TICKS = 12
_GREY = "#555555"
_APART = 0.12  # of one K, between measured points that would cover one another


def lengths_figure(
    predictions: Predictions, agreements: Sequence[Agreement], *, demanded: float
) -> bytes | None:
    """Predicted speedup over K with bands, measured points on top; None without candidates."""
    if not predictions.candidates:
        return None
    with styled():
        return to_svg(_chart(predictions.candidates, agreements, demanded))


def _chart(
    candidates: Sequence[CandidatePrediction], agreements: Sequence[Agreement], demanded: float
) -> "Figure":
    figure, axes = blank_figure(height=3.8)
    shown = candidates[:_MOST_LINES]
    looks = assign_looks(one.name for one in candidates)
    for one in shown:
        _draw_predicted(axes, one, looks[one.name])
    names = {one.name for one in shown}
    _draw_measured(axes, [one for one in agreements if one.candidate in names], looks)
    longest = max(len(one.lengths) for one in shown)
    axes.set_xlim(0.5, longest + 0.5)
    axes.set_xticks(range(1, longest + 1, -(-longest // _MOST_TICKS)))
    _set_height(axes, shown, agreements, demanded)
    _draw_thresholds(axes, demanded)
    axes.set_xlabel("Most draft tokens of a block, K (ring: the best; filled: measured)")
    axes.set_ylabel(f"Decode speedup ({TIMES}){_levels(shown)}")
    axes.grid(alpha=0.3)
    left_out = (
        f"fastest {len(shown)} of {len(candidates)}" if len(shown) < len(candidates) else None
    )
    figure.legend(loc="outside lower center", ncols=2, title=left_out)
    figure.suptitle(_title(shown[0]), x=0.01, ha="left")
    return figure


def _draw_predicted(axes: "Axes", one: CandidatePrediction, look: Look) -> None:
    """A line over K, a band where there are intervals, a ring around the best."""
    lengths = [found.num_speculative_tokens for found in one.lengths]
    axes.plot(
        lengths,
        [found.speedup for found in one.lengths],
        label=shortened(one.name),
        color=look.colour,
        marker=look.marker,
        markersize=3,
        markerfacecolor="white",
        linewidth=1.2,
    )
    bands = {
        found.num_speculative_tokens: found.decode_speedup
        for found in one.lengths
        if isinstance(found.decode_speedup, Interval)
    }
    axes.fill_between(
        list(bands),
        [band.low for band in bands.values()],
        [band.high for band in bands.values()],
        color=look.colour,
        alpha=0.12,
        linewidth=0,
    )
    axes.plot(
        [one.choice.best],
        [one.best.speedup],
        color=look.colour,
        marker="o",
        markersize=11,
        markerfacecolor="none",
        linestyle="none",
    )


def _draw_measured(
    axes: "Axes", agreements: Sequence[Agreement], looks: Mapping[str, Look]
) -> None:
    for place, one in enumerate(agreements):
        found, look = one.measured_speedup, looks[one.candidate]
        if not isinstance(found, Interval):
            continue
        axes.errorbar(
            [one.num_speculative_tokens + _APART * (place - (len(agreements) - 1) / 2)],
            [found.value],
            yerr=[[found.value - found.low], [found.high - found.value]],
            label=f"{shortened(one.candidate)}, measured",
            color=look.colour,
            marker=look.marker,
            markersize=6,
            linestyle="none",
            capsize=3,
        )


def _set_height(
    axes: "Axes",
    candidates: Sequence[CandidatePrediction],
    agreements: Sequence[Agreement],
    demanded: float,
) -> None:
    """Lines, measured points and thresholds fit; wide bands run off."""
    values = [found.speedup for one in candidates for found in one.lengths]
    measured = [found for a in agreements if isinstance(found := a.measured_speedup, Interval)]
    top = max(*values, demanded, 1.0, *(found.high for found in measured))
    bottom = min(*values, demanded, 1.0, *(found.low for found in measured))
    room = 0.25 * (top - bottom) or 0.1
    axes.set_ylim(max(0.0, bottom - room), top + room)


def _draw_thresholds(axes: "Axes", demanded: float) -> None:
    axes.axhline(1.0, color=_GREY, linewidth=1)
    axes.axhline(demanded, color=_GREY, linewidth=1, linestyle="--")
    for place, said, side in ((1.0, "no gain", "top"), (demanded, "demanded", "bottom")):
        axes.annotate(
            said,
            (1.0, place),
            xycoords=("axes fraction", "data"),
            ha="right",
            va=side,
            fontsize=7,
            color=_GREY,
        )


def _title(one: CandidatePrediction) -> str:
    name = shortened(one.name, at_most=28)
    return f"{name} is predicted fastest at K = {one.choice.best}: {speed_alone(one.best)}"


def _levels(candidates: Sequence[CandidatePrediction]) -> str:
    levels = sorted(
        {
            found.decode_speedup.level
            for one in candidates
            for found in one.lengths
            if isinstance(found.decode_speedup, Interval)
        }
    )
    return f",\n{' and '.join(map(level, levels))} intervals" if levels else ""
