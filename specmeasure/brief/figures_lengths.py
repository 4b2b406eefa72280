"""The figure of speedup over K, for every candidate that ran at several."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from specmeasure.brief.canvas import (
    GREY,
    Look,
    Picture,
    all_levels,
    assign_looks,
    blank_figure,
    note,
    num_columns,
    set_title,
    spread,
    styled,
)
from specmeasure.brief.joined import published_speedup
from specmeasure.brief.names import shortened
from specmeasure.brief.numbers import TIMES, speedup
from specmeasure.records.decision import Decision
from specmeasure.records.estimates import ArmEstimates, Estimates, Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LINES = 6  # candidates
_APART = 0.06  # of one K, between candidates at the same K

Lengths = dict[int, Interval]  # speedup by K


def lengths_figure(estimates: Estimates, decision: Decision) -> Picture | None:
    """Decode speedup over K, a line a candidate; None where none was measured at two Ks."""
    measured = _by_candidate(estimates.arms)
    several = {name: found for name, found in measured.items() if len(found) > 1}
    if not several:
        return None
    fastest = sorted(several, key=lambda name: -max(e.value for e in several[name].values()))
    shown = {name: several[name] for name in fastest[:_MOST_LINES]}
    with styled():
        return Picture.of(
            _chart(shown, assign_looks(measured), decision.policy.min_decode_speedup, len(measured))
        )


def _by_candidate(arms: Sequence[ArmEstimates]) -> dict[str, Lengths]:
    found: dict[str, Lengths] = {}
    for arm in arms:
        estimate = published_speedup(arm)
        if isinstance(estimate, Interval):
            name = arm.name.removesuffix(f" k={arm.num_speculative_tokens}")
            found.setdefault(name, {})[arm.num_speculative_tokens] = estimate
    return {name: dict(sorted(lengths.items())) for name, lengths in found.items()}


def _chart(
    candidates: Mapping[str, Lengths], looks: Mapping[str, Look], demanded: float, number: int
) -> "Figure":
    figure, axes = blank_figure(height=3.8)
    for index, (name, lengths) in enumerate(candidates.items()):
        shift = spread(index, len(candidates), _APART)
        _draw(axes, name, lengths, looks[name], shift=shift)
    drawn = [estimate for lengths in candidates.values() for estimate in lengths.values()]
    _set_height(axes, drawn, demanded)
    _draw_thresholds(axes, demanded)
    ticks = sorted({length for lengths in candidates.values() for length in lengths})
    axes.set_xlim(ticks[0] - 0.5, ticks[-1] + 0.5)
    axes.set_xticks(ticks)
    axes.set_xlabel("Most draft tokens of a block, K")
    axes.set_ylabel(f"Decode speedup ({TIMES}),\n{all_levels(drawn)} intervals")
    axes.grid(axis="y", alpha=0.3)
    left_out = (
        f"{len(candidates)} of {number} candidates: fastest, at several Ks"
        if len(candidates) < number
        else None
    )
    if number > 1:
        figure.legend(loc="outside lower center", ncols=num_columns(candidates), title=left_out)
    set_title(figure, _title(candidates))
    return figure


def _draw(axes: "Axes", name: str, lengths: Lengths, look: Look, *, shift: float) -> None:
    values = [estimate.value for estimate in lengths.values()]
    axes.errorbar(
        [length + shift for length in lengths],
        values,
        yerr=[
            [estimate.value - estimate.low for estimate in lengths.values()],
            [estimate.high - estimate.value for estimate in lengths.values()],
        ],
        label=shortened(name),
        color=look.colour,
        marker=look.marker,
        linestyle=look.line,
        markersize=5,
        linewidth=1.3,
        capsize=2,
    )


def _set_height(axes: "Axes", drawn: Sequence[Interval], demanded: float) -> None:
    """Points and thresholds fit; intervals more than twice as far run off."""
    top = max(1.0, demanded, *(estimate.value for estimate in drawn))
    bottom = min(1.0, *(estimate.value for estimate in drawn))
    high = min(max(top, *(estimate.high for estimate in drawn)), 2 * top - bottom)
    low = max(min(bottom, *(estimate.low for estimate in drawn)), 2 * bottom - top, 0.0)
    room = 0.06 * (high - low) or 0.1
    axes.set_ylim(max(0.0, low - room), high + room)


def _draw_thresholds(axes: "Axes", demanded: float) -> None:
    axes.axhline(1.0, color=GREY, linewidth=1)
    axes.axhline(demanded, color=GREY, linewidth=1, linestyle="--")
    beside = ("axes fraction", "data")
    note(axes, " no gain", (1.0, 1.0), coordinates=beside, align=("left", "top"))
    note(axes, " demanded", (1.0, demanded), coordinates=beside, align=("left", "bottom"))


def _title(candidates: Mapping[str, Lengths]) -> str:
    name, lengths = next(iter(candidates.items()))
    best = max(lengths, key=lambda length: lengths[length].value)
    return f"{shortened(name, at_most=28)} is fastest at K = {best}: {speedup(lengths[best])}"
