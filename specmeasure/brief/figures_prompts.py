"""The figure of how single prompts fared: the share of them at or below each speedup."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from specmeasure.brief.canvas import (
    GREY,
    Look,
    Picture,
    assign_looks,
    blank_figure,
    note,
    set_title,
    styled,
)
from specmeasure.brief.joined import published_speedup
from specmeasure.brief.names import shortened
from specmeasure.brief.numbers import TIMES, count, rate, speedup
from specmeasure.records.decision import Decision
from specmeasure.records.estimates import ArmEstimates, Estimates, Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LINES = 4
_MOST_POINTS = 300  # of a line; with more prompts, as many of them evenly
_CUT = 0.005  # of the prompts at each end may run off
_WIDEST = 2.5  # a line may go to so many times the middle


def prompts_figure(estimates: Estimates, decision: Decision) -> Picture | None:
    """The distribution of decode speedup over prompts, a line an arm, the decision's first."""
    rank = {arm.arm: place for place, arm in enumerate(decision.arms, start=1)} | {decision.arm: 0}
    arms = [arm for arm in estimates.arms if arm.prompt_speedups]
    if not arms:
        return None
    arms.sort(key=lambda arm: rank.get(arm.name, len(rank)))
    looks = assign_looks(arm.name for arm in estimates.arms)
    with styled():
        return Picture.of(_chart(arms[:_MOST_LINES], looks, decision.policy.min_decode_speedup))


def _chart(arms: Sequence[ArmEstimates], looks: Mapping[str, Look], demanded: float) -> "Figure":
    figure, axes = blank_figure(height=4.0)
    for arm in arms:
        _draw(axes, arm, looks[arm.name])
    _draw_thresholds(axes, demanded)
    axes.set_xlim(*_limits(arms, demanded))
    axes.set_ylim(0, 100)
    axes.set_xlabel(f"Decode speedup of one prompt ({TIMES}; ring: prompts that are slower)")
    axes.set_ylabel("Prompts at or below it (%)")
    axes.grid(alpha=0.3)
    left_out = f"best {len(arms)} of {len(looks)} arms" if len(arms) < len(looks) else None
    figure.legend(loc="outside lower center", ncols=1, title=left_out)
    set_title(figure, _title(arms[0]))
    return figure


def _draw(axes: "Axes", arm: ArmEstimates, look: Look) -> None:
    """A step a prompt, and a ring where the line passes 1."""
    ratios = arm.prompt_speedups
    step = max(1, len(ratios) // _MOST_POINTS)
    places = sorted({*range(0, len(ratios), step), len(ratios) - 1})
    axes.step(
        [ratios[0], *(ratios[place] for place in places)],
        [0.0, *(100 * (place + 1) / len(ratios) for place in places)],
        where="post",
        label=_label(arm),
        color=look.colour,
        linestyle=look.line,
        linewidth=1.6,
    )
    if isinstance(arm.share_slower, Interval):
        axes.plot(
            [1.0],
            [100 * arm.share_slower.value],
            color=look.colour,
            marker="o",
            markersize=8,
            markerfacecolor="none",
            linestyle="none",
            clip_on=False,
        )


def _draw_thresholds(axes: "Axes", demanded: float) -> None:
    axes.axvline(1.0, color=GREY, linewidth=1)
    axes.axvline(demanded, color=GREY, linewidth=1, linestyle="--")
    above = ("data", "axes fraction")
    note(axes, "no gain ", (1.0, 1.0), coordinates=above, align=("right", "bottom"))
    note(axes, " demanded", (demanded, 1.0), coordinates=above, align=("left", "bottom"))


def _limits(arms: Sequence[ArmEstimates], demanded: float) -> tuple[float, float]:
    """From the slowest to the fastest prompts, but for the few that lie far off."""
    lows, highs = [0.9], [1.1 * demanded]
    for arm in arms:
        ratios = arm.prompt_speedups
        last = len(ratios) - 1
        lows.append(ratios[int(_CUT * last)])
        highs.append(min(ratios[last - int(_CUT * last)], _WIDEST * ratios[last // 2]))
    room = 0.03 * (max(highs) - min(lows))
    return max(0.0, min(lows) - room), max(highs) + room


def _label(arm: ArmEstimates) -> str:
    slower = arm.share_slower
    said = f": {rate(slower)} slower" if isinstance(slower, Interval) else ""
    return f"{shortened(arm.name)}{said}"


def _title(arm: ArmEstimates) -> str:
    name, prompts = shortened(arm.name, at_most=28), count(arm.num_prompt_speedups, "prompt")
    if isinstance(arm.median_prompt_speedup, Interval):
        middle = speedup(arm.median_prompt_speedup)
        return f"{name}: the middle one of {prompts} runs at {middle}"
    return f"{name}: {speedup(published_speedup(arm))} over {prompts}"
