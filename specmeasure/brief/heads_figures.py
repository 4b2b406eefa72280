"""The figures of heads: how often each is right, and what trees of them are worth by size."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from specmeasure.brief.canvas import (
    GREY,
    Look,
    Picture,
    all_levels,
    assign_looks,
    blank_figure,
    set_title,
    styled,
    two_panels,
)
from specmeasure.brief.heads_tables import speed_of
from specmeasure.brief.names import shortened
from specmeasure.brief.numbers import TIMES
from specmeasure.records.estimates import Estimate, Interval
from specmeasure.records.heads import HeadsProfile, TreeAgreement, TreeStudy, TreeValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BEST, _FITTED, _CHAIN, _PAPER = "best tree", "cross-fitted", "chain", "paper's default"
_SERIES = (_BEST, _FITTED, _CHAIN, _PAPER)


def accuracy_figure(profile: HeadsProfile) -> Picture | None:
    """Top-k accuracy over k, a line a head; None where no head has an interval."""
    if not any(isinstance(found, Interval) for one in profile.accuracy for found in one.top):
        return None
    with styled():
        return Picture.of(_accuracy_chart(profile))


def trees_figure(study: TreeStudy, agreements: Sequence[TreeAgreement] = ()) -> Picture | None:
    """τ and predicted speedup over nodes; None where prompts are too few for intervals.

    Measured speedups stand beside the predicted ones.
    """
    if not isinstance(study.sizes[0].best.mean_acceptance_length, Interval):
        return None
    with styled():
        return Picture.of(_trees_chart(study, agreements))


def _accuracy_chart(profile: HeadsProfile) -> "Figure":
    figure, axes = blank_figure(height=3.8)
    looks = assign_looks(str(one.head) for one in profile.accuracy)
    for one in profile.accuracy:
        points = dict(enumerate(one.top, start=1))
        _line(axes, points, looks[str(one.head)], label=f"head {one.head}")
    most = max(len(one.top) for one in profile.accuracy)
    axes.set_xticks(range(1, most + 1))
    axes.set_ylim(0, 1)
    axes.set_xlabel("Likeliest tokens of a head that are looked at, k")
    levels = all_levels([found for one in profile.accuracy for found in one.top])
    axes.set_ylabel(f"Share of tokens among them,\n{levels} intervals")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=min(5, len(profile.accuracy)))
    set_title(figure, f"{shortened(profile.name)}: how often each head is right")
    return figure


def _trees_chart(study: TreeStudy, agreements: Sequence[TreeAgreement]) -> "Figure":
    figure, (left, right) = two_panels(height=3.9)
    looks = assign_looks(_SERIES)
    _lengths(left, study, looks)
    _speeds(right, study, looks, agreements)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        ticks = sorted({1, *(one.num_nodes for one in study.sizes)})
        axes.set_xticks(ticks, [str(size) for size in ticks])
        axes.minorticks_off()
        axes.set_xlabel("Nodes")
        axes.grid(alpha=0.3)
    handles, labels = left.get_legend_handles_labels()
    if agreements:
        more = right.get_legend_handles_labels()
        kept = [(h, name) for h, name in zip(*more, strict=True) if name not in labels]
        handles += [handle for handle, _ in kept]
        labels += [name for _, name in kept]
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    set_title(figure, _title(study))
    return figure


def _lengths(axes: "Axes", study: TreeStudy, looks: Mapping[str, Look]) -> None:
    _line(
        axes,
        {one.num_nodes: one.best.mean_acceptance_length for one in study.sizes},
        looks[_BEST],
        label=_BEST,
    )
    _line(
        axes,
        {one.num_nodes: one.cross_fitted_length for one in study.sizes},
        looks[_FITTED],
        label=_FITTED,
        is_banded=False,
    )
    _line(axes, _points(study.chains, "mean_acceptance_length"), looks[_CHAIN], label=_CHAIN)
    _mark_paper(axes, study, "mean_acceptance_length", looks[_PAPER])
    levels = all_levels([one.best.mean_acceptance_length for one in study.sizes])
    axes.set_ylabel(f"Acceptance length τ, {levels} intervals")


def _speeds(
    axes: "Axes",
    study: TreeStudy,
    looks: Mapping[str, Look],
    agreements: Sequence[TreeAgreement],
) -> None:
    _line(
        axes, {one.num_nodes: one.best.decode_speedup for one in study.sizes}, looks[_BEST], _BEST
    )
    _line(
        axes,
        {one.num_nodes: one.cross_fitted_speedup for one in study.sizes},
        looks[_FITTED],
        _FITTED,
        is_banded=False,
    )
    _line(axes, _points(study.chains, "decode_speedup"), looks[_CHAIN], _CHAIN)
    _mark_paper(axes, study, "decode_speedup", looks[_PAPER])
    _mark_measured(axes, agreements)
    axes.axhline(1.0, color=GREY, linewidth=1)
    axes.set_ylabel(f"Predicted decode speedup ({TIMES})")


def _points(values: Sequence[TreeValue], name: str) -> dict[int, Estimate]:
    return {one.tree.num_nodes: getattr(one, name) for one in values}


def _line(
    axes: "Axes",
    points: Mapping[int, Estimate],
    look: Look,
    label: str,
    *,
    is_banded: bool = True,
) -> None:
    known = {place: one for place, one in points.items() if isinstance(one, Interval)}
    if not known:
        return
    axes.plot(
        list(known),
        [one.value for one in known.values()],
        label=label,
        color=look.colour,
        marker=look.marker,
        linestyle=look.line,
        markersize=4,
        markerfacecolor="white",
        linewidth=1.2,
    )
    if is_banded:
        axes.fill_between(
            list(known),
            [one.low for one in known.values()],
            [one.high for one in known.values()],
            color=look.colour,
            alpha=0.12,
            linewidth=0,
        )


def _mark_paper(axes: "Axes", study: TreeStudy, name: str, look: Look) -> None:
    found = None if study.paper is None else getattr(study.paper, name)
    if study.paper is not None and isinstance(found, Interval):
        _mark(axes, study.paper.tree.num_nodes, found, look, label=_PAPER)


def _mark_measured(axes: "Axes", agreements: Sequence[TreeAgreement]) -> None:
    look = Look(colour="black", marker="X", line="none")
    label: str | None = "measured"
    for one in agreements:
        if isinstance(one.measured_speedup, Interval):
            _mark(axes, one.num_nodes, one.measured_speedup, look, label=label)
            label = None


def _mark(axes: "Axes", place: int, found: Interval, look: Look, *, label: str | None) -> None:
    axes.errorbar(
        [place],
        [found.value],
        yerr=[[found.value - found.low], [found.high - found.value]],
        label=label,
        color=look.colour,
        marker=look.marker,
        markersize=6,
        linestyle="none",
        capsize=3,
    )


def _title(study: TreeStudy) -> str:
    best = study.best
    if best is None:
        return "What trees of drafts keep; their blocks were not timed"
    return f"Of trees one of {best.num_nodes} nodes is predicted fastest: {speed_of(best.best)}"
