"""The figure of what a block costs: verifying, drafting and overhead, beside what it yields."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specmeasure.brief.canvas import GREY, SMALL, Picture, blank_figure, note, set_title, styled
from specmeasure.brief.names import shortened
from specmeasure.records.decision import Decision
from specmeasure.records.estimates import Costs, Estimates

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_BARS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    label: str
    colour: str
    hatch: str


_PARTS = (
    _Part(label="verifying (target pass)", colour="#56B4E9", hatch=""),
    _Part(label="drafting", colour="#E69F00", hatch="///"),
    _Part(label="overhead", colour="#999999", hatch="xxx"),
)


def blocks_figure(estimates: Estimates, decision: Decision) -> Picture | None:
    """Time of a block in plain target steps, a bar an arm, the decision's first."""
    rank = {arm.arm: place for place, arm in enumerate(decision.arms, start=1)} | {decision.arm: 0}
    arms = sorted(estimates.arms, key=lambda arm: rank.get(arm.name, len(rank)))
    rows = [(arm.name, arm.costs) for arm in arms if isinstance(arm.costs, Costs)]
    if not rows:
        return None
    with styled():
        return Picture.of(_chart(rows[:_MOST_BARS], num_arms=len(estimates.arms)))


def _chart(rows: Sequence[tuple[str, Costs]], *, num_arms: int) -> "Figure":
    figure, axes = blank_figure(height=1.7 + 0.42 * len(rows))
    starts = [0.0] * len(rows)
    for place, part in enumerate(_PARTS):
        widths = [_widths(costs)[place] for _, costs in rows]
        _draw_bars(axes, part, starts, widths)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    have = [costs.tokens_per_pass for _, costs in rows]
    axes.plot(
        have,
        range(len(rows)),
        label="tokens that a block yields",
        color="black",
        marker="D",
        markersize=6,
        markerfacecolor="white",
        linestyle="none",
        zorder=4,
    )
    for row, (_, costs) in enumerate(rows):
        _say(axes, row, costs)
    axes.axvline(1.0, color=GREY, linewidth=1)
    note(axes, " one target step", (1.0, 1.0), coordinates=("data", "axes fraction"))
    axes.set_yticks(range(len(rows)), [shortened(name, at_most=24) for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1.5 * max(*have, *starts, 1.0))
    axes.set_xlabel("Time of a block in target steps = tokens it must yield to break even")
    shown = f"best {len(rows)} of {num_arms} arms" if len(rows) < num_arms else None
    figure.legend(loc="outside lower center", ncols=2, title=shown)
    set_title(figure, _title(*rows[0]))
    return figure


def _draw_bars(axes: "Axes", part: _Part, starts: Sequence[float], widths: Sequence[float]) -> None:
    axes.barh(
        range(len(starts)),
        widths,
        left=starts,
        height=0.6,
        label=part.label,
        color=part.colour,
        hatch=part.hatch,
        edgecolor="black",
        linewidth=0.6,
    )


def _say(axes: "Axes", row: int, costs: Costs) -> None:
    """What the arm has and needs, right of its bar and its mark."""
    have, need = costs.tokens_per_pass, costs.break_even_tokens_per_pass
    axes.annotate(
        f"yields {have:.2f}, needs {need:.2f}",
        (max(have, need), row),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        fontsize=SMALL,
    )


def _widths(costs: Costs) -> tuple[float, float, float]:
    """Verifying, drafting and overhead in target steps; together the break-even."""
    overhead = max(0.0, costs.overhead_ratio)
    draft = costs.break_even_tokens_per_pass - costs.verify_ratio - costs.overhead_ratio
    return costs.verify_ratio, max(0.0, draft), overhead


def _title(name: str, costs: Costs) -> str:
    have, need = costs.tokens_per_pass, costs.break_even_tokens_per_pass
    return f"{shortened(name, at_most=28)}: {have:.2f} tokens for {need:.2f} target steps a block"
