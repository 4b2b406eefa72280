"""The figure of servers under load: decode speedup and throughput over concurrency."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from specmeasure.brief.canvas import (
    GREY,
    Look,
    Picture,
    all_levels,
    assign_looks,
    note,
    num_columns,
    set_title,
    spread,
    styled,
    two_panels,
)
from specmeasure.brief.joined import published_speedup
from specmeasure.brief.load_table import arms_at
from specmeasure.brief.names import shortened
from specmeasure.brief.numbers import TIMES, speedup
from specmeasure.brief.servers import short_load
from specmeasure.records.decision import Decision
from specmeasure.records.estimates import Estimate, Interval
from specmeasure.records.load_curve import LoadCurve, LoadPoint
from specmeasure.records.serving import Load

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LINES = 4  # arms
_APART = 0.05  # of a doubling, between arms at the same load
_BASELINE = Look(colour=GREY, marker="x", line=(0, (1, 1)))
_OFF_SCALE = 2.0  # times the spread of the values: wider intervals run off

Line = dict[float, Interval]  # by load


def load_figure(curve: LoadCurve, decision: Decision) -> Picture | None:
    """Two panels over the loads of one kind; None where fewer than two were measured."""
    points = _of_one_kind(curve.points)
    names = [arm.arm for arm in sorted(decision.arms, key=lambda arm: arm.arm != decision.arm)]
    measured = [name for name in names if len(_speedups(points, name)) > 1]
    if len(points) < 2 or not measured:
        return None
    with styled():
        looks = assign_looks(arm.name for arm in points[0].estimates.arms)
        shown = measured[:_MOST_LINES]
        return Picture.of(_chart(points, shown, looks, decision.policy.min_decode_speedup))


def _of_one_kind(points: Sequence[LoadPoint]) -> list[LoadPoint]:
    """Concurrencies, or else rates, of which there are several."""
    closed = [point for point in points if point.load.concurrency is not None]
    rates = [point for point in points if point.load.concurrency is None]
    return closed if len(closed) >= len(rates) else rates


def _chart(
    points: Sequence[LoadPoint], names: Sequence[str], looks: Mapping[str, Look], demanded: float
) -> "Figure":
    figure, (left, right) = two_panels(height=4.0)
    speeds = {name: _speedups(points, name) for name in names}
    again = _line(points, [point.estimates.noise_floor for point in points])
    for index, name in enumerate(names):
        shift = 2 ** spread(index, len(names), _APART)
        _draw(left, shortened(name), speeds[name], looks[name], shift=shift)
        _draw(right, None, _throughput(points, name), looks[name], shift=shift)
    _draw(left, "baseline (left: A/A)", again, _BASELINE, shift=1.0)
    baseline = _line(points, [point.baseline.tokens_per_s for point in points])
    _draw(right, None, baseline, _BASELINE, shift=1.0)
    drawn = [one for line in (*speeds.values(), again) for one in line.values()]
    _set_height(left, drawn, demanded)
    _draw_thresholds(left, demanded)
    left.set_ylabel(f"Decode speedup ({TIMES}),\n{all_levels(drawn)} intervals")
    right.set_ylabel("Tokens per second, all requests")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        _set_loads(axes, [point.load for point in points])
    left_out = f"best {len(names)} of {len(looks)} arms" if len(names) < len(looks) else None
    columns = num_columns(names)
    figure.legend(loc="outside lower center", ncols=columns, title=left_out)
    set_title(figure, _title(points, names[0]))
    return figure


def _draw(axes: "Axes", label: str | None, line: Line, look: Look, *, shift: float) -> None:
    axes.errorbar(
        [place * shift for place in line],
        [estimate.value for estimate in line.values()],
        yerr=[
            [estimate.value - estimate.low for estimate in line.values()],
            [estimate.high - estimate.value for estimate in line.values()],
        ],
        label=label,
        color=look.colour,
        marker=look.marker,
        linestyle=look.line,
        markersize=5,
        linewidth=1.3,
        capsize=2,
    )


def _set_loads(axes: "Axes", loads: Sequence[Load]) -> None:
    """Doublings are equally far apart; only measured loads have a tick."""
    places = [_place(load) for load in loads]
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [short_load(load) for load in loads])
    axes.set_xticks([], minor=True)
    axes.set_xlim(places[0] / 2**0.3, places[-1] * 2**0.3)
    axes.set_xlabel("Requests per second" if loads[0].concurrency is None else "Concurrency")
    axes.grid(axis="y", alpha=0.3)


def _draw_thresholds(axes: "Axes", demanded: float) -> None:
    axes.axhline(1.0, color=GREY, linewidth=1)
    axes.axhline(demanded, color=GREY, linewidth=1, linestyle="--")
    beside = ("axes fraction", "data")
    note(axes, " no gain", (1.0, 1.0), coordinates=beside, align=("left", "top"))
    note(axes, " demanded", (1.0, demanded), coordinates=beside, align=("left", "bottom"))


def _set_height(axes: "Axes", drawn: Sequence[Interval], demanded: float) -> None:
    """Values and thresholds fit; intervals that are far wider run off."""
    values = [1.0, demanded, *(estimate.value for estimate in drawn)]
    bottom, top = min(values), max(values)
    off = _OFF_SCALE * max(top - bottom, 0.05)
    high = min(max(top, *(estimate.high for estimate in drawn)), top + off)
    low = max(min(bottom, *(estimate.low for estimate in drawn)), bottom - off, 0.0)
    room = 0.06 * (high - low)
    axes.set_ylim(max(0.0, low - room), high + room)


def _speedups(points: Sequence[LoadPoint], name: str) -> Line:
    found = [arms_at(point).get(name) for point in points]
    return _line(points, [published_speedup(one.estimates) if one else None for one in found])


def _throughput(points: Sequence[LoadPoint], name: str) -> Line:
    found = [arms_at(point).get(name) for point in points]
    return _line(points, [one.under_load.tokens_per_s if one else None for one in found])


def _line(points: Sequence[LoadPoint], estimates: Sequence[Estimate | None]) -> Line:
    """What was measured of it."""
    pairs = zip(points, estimates, strict=True)
    return {_place(point.load): one for point, one in pairs if isinstance(one, Interval)}


def _place(load: Load) -> float:
    numbers = [number for number in (load.concurrency, load.rate) if number is not None]
    return float(numbers[0])


def _title(points: Sequence[LoadPoint], name: str) -> str:
    """The recommended arm at the lightest and at the heaviest load where it was measured."""
    line = _speedups(points, name)
    loads = {_place(point.load): point.load for point in points}
    first, last = min(line), max(line)
    return (
        f"{shortened(name, at_most=24)}: {speedup(line[first])} at {loads[first]}, "
        f"{speedup(line[last])} at {short_load(loads[last])}"
    )
