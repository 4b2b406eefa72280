"""The figure of what loose verification buys: speed against drift, the strict arm marked."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specmeasure.brief.canvas import (
    GREY,
    Look,
    Picture,
    all_levels,
    assign_looks,
    num_columns,
    panels,
    set_title,
    styled,
)
from specmeasure.brief.joined import published_speedup
from specmeasure.brief.names import shortened
from specmeasure.brief.numbers import TIMES, count
from specmeasure.records.estimates import (
    Accuracy,
    ArmEstimates,
    Drift,
    Estimate,
    Estimates,
    Interval,
)
from specmeasure.records.plan import TypicalAcceptance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_SWEEPS = 4
_RULE = " typical"  # what a lossy arm's name adds to its strict one's


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    label: str
    of: Callable[[ArmEstimates], Estimate | None]
    scale: float = 1.0


_PANELS = (
    _Panel(
        label="Drift (nats per token)",
        of=lambda arm: _drift(arm, "nats_per_token"),
    ),
    _Panel(
        label="Tokens changed (%)",
        of=lambda arm: _drift(arm, "changed_share"),
        scale=100,
    ),
    _Panel(
        label="Right answers − baseline's\n(percentage points)",
        of=lambda arm: arm.accuracy.difference if isinstance(arm.accuracy, Accuracy) else None,
        scale=100,
    ),
)


def lossy_figure(estimates: Estimates) -> Picture | None:
    """Decode speedup over drift, a line for each way to draft; None without a lossy arm."""
    sweeps = _sweeps(estimates.arms)
    shown = [panel for panel in _PANELS if any(_points(panel, arms) for arms in sweeps.values())]
    if not shown:
        return None
    with styled():
        return Picture.of(_chart(dict(list(sweeps.items())[:_MOST_SWEEPS]), shown, estimates.arms))


def _sweeps(arms: Sequence[ArmEstimates]) -> dict[str, list[ArmEstimates]]:
    """Lossy arms by the strict arm that they loosen."""
    found: dict[str, list[ArmEstimates]] = defaultdict(list)
    for arm in arms:
        if arm.drift is not None:
            found[arm.name.partition(_RULE)[0]].append(arm)
    return dict(found)


def _chart(
    sweeps: Mapping[str, Sequence[ArmEstimates]],
    shown: Sequence[_Panel],
    arms: Sequence[ArmEstimates],
) -> "Figure":
    figure, all_axes = panels(len(shown), height=3.6)
    looks, strict = assign_looks(sweeps), {arm.name: arm for arm in arms}
    for panel, axes in zip(shown, all_axes, strict=True):
        axes.axhline(1.0, color=GREY, linewidth=1)
        for name, loosened in sweeps.items():
            _draw(axes, panel, loosened, looks[name], label=shortened(name))
            _mark_strict(axes, strict.get(name), looks[name])
        axes.set_xlabel(panel.label)
        axes.grid(alpha=0.3)
    speeds = [published_speedup(arm) for loosened in sweeps.values() for arm in loosened]
    all_axes[0].set_ylabel(f"Decode speedup ({TIMES}),\n{all_levels(speeds)} intervals")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=num_columns(labels),
        title="★ strict; others by ε,δ",
    )
    number = sum(map(len, sweeps.values()))
    set_title(figure, f"What {count(number, 'loose rule')} buy: speed against what they change")
    return figure


def _points(panel: _Panel, arms: Sequence[ArmEstimates]) -> list[tuple[Interval, Interval, str]]:
    """Drift, speed and thresholds of the arms that have both, by rising drift."""
    found = [(panel.of(arm), published_speedup(arm), _thresholds(arm)) for arm in arms]
    both = [
        (x, y, said) for x, y, said in found if isinstance(x, Interval) and isinstance(y, Interval)
    ]
    return sorted(both, key=lambda point: point[0].value)


def _thresholds(arm: ArmEstimates) -> str:
    """ε and δ, as the arm's name has them; the paper's where it has none."""
    numbers = arm.name.partition(_RULE)[2].strip()
    return numbers or f"{TypicalAcceptance().epsilon:g},{TypicalAcceptance().delta:g}"


def _draw(
    axes: "Axes", panel: _Panel, arms: Sequence[ArmEstimates], look: Look, *, label: str
) -> None:
    points = _points(panel, arms)
    if not points:
        return
    axes.errorbar(
        [panel.scale * x.value for x, _, _ in points],
        [y.value for _, y, _ in points],
        xerr=[
            [panel.scale * (x.value - x.low) for x, _, _ in points],
            [panel.scale * (x.high - x.value) for x, _, _ in points],
        ],
        yerr=[[y.value - y.low for _, y, _ in points], [y.high - y.value for _, y, _ in points]],
        label=label,
        color=look.colour,
        marker=look.marker,
        linestyle=look.line,
        markersize=4.5,
        linewidth=1,
        capsize=2,
    )
    for x, y, said in points:
        axes.annotate(
            said,
            (panel.scale * x.value, y.value),
            xytext=(4, 4),
            textcoords="offset points",
            fontsize="small",
            color=look.colour,
        )


def _mark_strict(axes: "Axes", arm: ArmEstimates | None, look: Look) -> None:
    speed = published_speedup(arm) if arm else None
    if isinstance(speed, Interval):
        axes.errorbar(
            [0.0],
            [speed.value],
            yerr=[[speed.value - speed.low], [speed.high - speed.value]],
            color=look.colour,
            marker="*",
            markersize=11,
            linestyle="none",
            capsize=2,
        )


def _drift(arm: ArmEstimates, name: str) -> Estimate | None:
    found: Estimate | None = getattr(arm.drift, name) if isinstance(arm.drift, Drift) else None
    return found
