"""Two figures of the brief: how far drafts get, and what each slice of one axis gains.

Draws what was estimated; what was not measured is left out or says so.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from specmeasure.brief.canvas import (
    GREY,
    SMALL,
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
from specmeasure.brief.numbers import TIMES, count, speedup
from specmeasure.records.decision import Decision, Verdict
from specmeasure.records.estimates import (
    ArmEstimates,
    Estimate,
    Estimates,
    Interval,
    SliceEstimates,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LINES = 6  # arms in the figure by position
_MOST_DOTS = 4  # arms in the figure by category
_FEW_CATEGORIES = 6  # with more, one arm fewer keeps the figure on its page
_MOST_CATEGORIES = 13
_ALL_PROMPTS = None  # no category can be called this


def acceptance_figure(estimates: Estimates) -> Picture | None:
    """Survival by draft position, a line an arm; None when no position was measured."""
    arms = [arm for arm in estimates.arms if any(map(_is_measured, arm.acceptance_survival))]
    if not arms:
        return None
    fastest = sorted(arms, key=lambda arm: _slowness(published_speedup(arm)))[:_MOST_LINES]
    with styled():
        return Picture.of(
            _acceptance_chart(fastest, assign_looks(arm.name for arm in estimates.arms))
        )


def speedup_figure(estimates: Estimates, decision: Decision) -> Picture | None:
    """Decode speedup by the first axis, a dot an arm, best first; None when none was measured."""
    rank = {arm.arm: place for place, arm in enumerate(decision.arms, start=1)} | {decision.arm: 0}
    arms = sorted(estimates.arms, key=lambda arm: rank.get(arm.name, len(rank)))
    arms = [arm for arm in arms if any(map(_is_measured, _speedups(arm).values()))]
    if not arms:
        return None
    most = _MOST_DOTS if len(_first_axis(arms[0])) <= _FEW_CATEGORIES else _MOST_DOTS - 1
    with styled():
        return Picture.of(
            _speedup_chart(arms[:most], decision, assign_looks(arm.name for arm in estimates.arms))
        )


def _acceptance_chart(arms: Sequence[ArmEstimates], looks: Mapping[str, Look]) -> "Figure":
    figure, axes = blank_figure(height=3.8)
    for index, arm in enumerate(arms):
        _draw_survival(axes, arm, looks[arm.name], shift=spread(index, len(arms), 0.08))
    survival = [estimate for arm in arms for estimate in arm.acceptance_survival]
    longest = max(len(arm.acceptance_survival) for arm in arms)
    axes.set_xticks(range(1, longest + 1))
    axes.set_xlim(0.5, longest + 0.5)
    axes.set_ylim(0, 100)
    axes.set_xlabel(f"Draft position in the block, {all_levels(survival)} intervals")
    axes.set_ylabel("Blocks that kept this draft\nand all before it (%)")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="upper right", title=_omission(arms, looks))
    set_title(figure, _acceptance_title(arms[0]))
    return figure


def _speedup_chart(
    arms: Sequence[ArmEstimates], decision: Decision, looks: Mapping[str, Look]
) -> "Figure":
    names, demanded = _categories(arms[0]), decision.policy.min_decode_speedup
    figure, axes = blank_figure(height=1.6 + len(names) * (0.22 + 0.14 * len(arms)))
    for index, arm in enumerate(arms):
        rows = {
            row + spread(index, len(arms), 0.7 / len(arms)): _speedups(arm).get(name)
            for row, name in enumerate(names)
        }
        _draw_speedups(axes, arm.name, rows, looks[arm.name], demanded=demanded)
    _draw_thresholds(axes, demanded)
    drawn = [estimate for arm in arms for estimate in _speedups(arm).values()]
    labels = [shortened(name or "all prompts", at_most=28) for name in names]
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylim(len(names) - 0.5, -0.5)
    fastest = max(estimate.value for estimate in drawn if isinstance(estimate, Interval))
    left, right = axes.get_xlim()
    axes.set_xlim(max(left, 0), min(right, 2 * max(fastest, demanded)))  # wide intervals run off
    axes.set_xlabel(
        f"Decode speedup over the target alone ({TIMES}), {all_levels(drawn)} intervals"
    )
    axes.grid(axis="x", alpha=0.3)
    if len(looks) > 1:
        columns = num_columns(arm.name for arm in arms)
        figure.legend(loc="outside lower center", ncols=columns, title=_omission(arms, looks))
    set_title(figure, _speedup_title(arms[0], decision))
    return figure


def _draw_survival(axes: "Axes", arm: ArmEstimates, look: Look, *, shift: float) -> None:
    points = {
        position + shift: estimate
        for position, estimate in enumerate(arm.acceptance_survival, start=1)
        if isinstance(estimate, Interval)
    }
    axes.errorbar(
        list(points),
        [100 * estimate.value for estimate in points.values()],
        yerr=[
            [100 * (estimate.value - estimate.low) for estimate in points.values()],
            [100 * (estimate.high - estimate.value) for estimate in points.values()],
        ],
        label=shortened(arm.name),
        color=look.colour,
        marker=look.marker,
        linestyle=look.line,
        markersize=5,
        linewidth=1.3,
    )


def _draw_speedups(
    axes: "Axes", name: str, rows: Mapping[float, Estimate | None], look: Look, *, demanded: float
) -> None:
    dots = {row: estimate for row, estimate in rows.items() if isinstance(estimate, Interval)}
    axes.errorbar(
        [estimate.value for estimate in dots.values()],
        list(dots),
        xerr=[
            [estimate.value - estimate.low for estimate in dots.values()],
            [estimate.high - estimate.value for estimate in dots.values()],
        ],
        label=shortened(name),
        color=look.colour,
        marker=look.marker,
        markersize=5,
        linestyle="none",
    )
    for row in [row for row in rows if row not in dots]:
        axes.annotate(
            "not measured",
            (max(1.0, demanded), row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
            color=look.colour,
        )


def _draw_thresholds(axes: "Axes", demanded: float) -> None:
    axes.axvline(1.0, color=GREY, linewidth=1)
    axes.axvline(demanded, color=GREY, linewidth=1, linestyle="--")
    above = ("data", "axes fraction")
    note(axes, "no gain ", (1.0, 1.0), coordinates=above, align=("right", "bottom"))
    note(axes, " demanded", (demanded, 1.0), coordinates=above, align=("left", "bottom"))


def _acceptance_title(arm: ArmEstimates) -> str:
    survival = [e.value for e in arm.acceptance_survival if isinstance(e, Interval)]
    name = shortened(arm.name, at_most=28)
    said = f"{name}: {100 * survival[0]:.0f} % of blocks keep the first draft"
    return (
        said if len(survival) == 1 else f"{said}, {100 * survival[-1]:.0f} % keep {len(survival)}"
    )


def _speedup_title(arm: ArmEstimates, decision: Decision) -> str:
    name = shortened(arm.name, at_most=28)
    axis = _axis(arm)
    verdicts = [
        s.verdict for d in decision.arms if d.arm == arm.name for s in d.slices if s.axis == axis
    ]
    if not verdicts:
        return f"{name}: {speedup(published_speedup(arm))} over all prompts"
    num_met, num_failed, num_open = (verdicts.count(verdict) for verdict in Verdict)
    slices = f"{count(len(verdicts), 'slice')} by {shortened(axis, at_most=20)}"
    parts = [
        f"{name} clears the bar in {num_met} of {slices}",
        f"misses it in {num_failed}" if num_failed else "",
        f"open in {num_open}" if num_open else "",
        f"largest {_MOST_CATEGORIES} shown" if len(verdicts) > _MOST_CATEGORIES else "",
    ]
    return ", ".join(part for part in parts if part)


def _speedups(arm: ArmEstimates) -> dict[str | None, Estimate | None]:
    """By category, after that of all prompts."""
    return {
        _ALL_PROMPTS: published_speedup(arm),
        **{part.name: part.decode_speedup for part in _first_axis(arm)},
    }


def _categories(arm: ArmEstimates) -> list[str | None]:
    """All prompts, then the largest categories, fastest first; unmeasured ones last."""
    largest = sorted(_first_axis(arm), key=lambda part: -part.num_prompts)[:_MOST_CATEGORIES]
    speeds = {part.name: part.decode_speedup for part in largest}
    ranked = sorted(speeds, key=lambda name: _slowness(speeds[name]))
    return [_ALL_PROMPTS, *ranked]


def _axis(arm: ArmEstimates) -> str:
    return arm.slices[0].axis if arm.slices else "slice"


def _first_axis(arm: ArmEstimates) -> list[SliceEstimates]:
    """The slices that are drawn: category, where the prompts have several."""
    return [part for part in arm.slices if part.axis == _axis(arm)]


def _slowness(estimate: Estimate | None) -> float:
    """A key that sorts the fastest first and what was not measured last."""
    return -estimate.value if isinstance(estimate, Interval) else math.inf


def _omission(arms: Sequence[ArmEstimates], looks: Mapping[str, Look]) -> str | None:
    return f"best {len(arms)} of {len(looks)} arms" if len(arms) < len(looks) else None


def _is_measured(estimate: Estimate | None) -> bool:
    return isinstance(estimate, Interval)
