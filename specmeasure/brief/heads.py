"""What a profile says of Medusa heads, as finished strings. Nothing is escaped or computed here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specmeasure.brief.heads_tables import (
    accuracy_table,
    chain_table,
    price_table,
    slice_tables,
    speed_of,
)
from specmeasure.brief.markdown import render_template
from specmeasure.brief.names import command_line, plain
from specmeasure.brief.numbers import NOT_MEASURED, count, rate, speedup
from specmeasure.brief.provenance import Fact
from specmeasure.brief.replay_evidence import write_costs_note, write_evidence, write_facts
from specmeasure.brief.replay_tables import speed_alone
from specmeasure.brief.slices import SliceTable
from specmeasure.brief.tables import Footnotes, Table
from specmeasure.records.estimates import Estimate, Interval, Unmeasured
from specmeasure.records.heads import HeadsProfile, SliceAccuracy, TreeStudy
from specmeasure.records.prediction import Predictions
from specmeasure.records.replay import ReplayTrace

_NO_STUDY = "Chain or tree is not told: "


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfiledHeads:
    """One set of heads, and trees made of them."""

    profile: HeadsProfile
    trees: TreeStudy | Unmeasured


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsPart:
    """One set of heads on the page. Empty tables are for the renderer to leave out."""

    name: str
    headline: str
    for_whom: tuple[str, ...]
    accuracy: Table
    chain: Table
    price: Table
    slices: tuple[SliceTable, ...]
    slices_note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsContent:
    """One profile, all of its heads."""

    parts: tuple[HeadsPart, ...]
    costs_note: str
    evidence: tuple[str, ...]
    footnotes: tuple[str, ...]  # why cells say "not measured"
    provenance: tuple[Fact, ...]
    command: str


def heads_content(
    trace: ReplayTrace, predictions: Predictions, heads: Sequence[ProfiledHeads]
) -> HeadsContent:
    """Everything that a profile says."""
    notes = Footnotes()
    return HeadsContent(
        parts=tuple(_part(one, notes) for one in heads),
        costs_note=write_costs_note(trace, predictions, None),
        evidence=write_evidence(trace, predictions),
        footnotes=notes.lines,
        provenance=write_facts(trace),
        command=command_line(trace.manifest.request.request.argv),
    )


def render_heads(content: HeadsContent, *, figures: Mapping[str, str]) -> str:
    """The page; ``figures`` are paths as it should link them, by the heads' names."""
    return render_template("heads.md.j2", heads=content, figures=figures)


def _part(one: ProfiledHeads, notes: Footnotes) -> HeadsPart:
    profile = one.profile
    return HeadsPart(
        name=plain(profile.name),
        headline=_headline(profile),
        for_whom=(
            _for_whom(one.trees),
            *_second_choices(profile),
            *_where(profile.slices),
        ),
        accuracy=accuracy_table(profile.accuracy, notes),
        chain=chain_table(profile, notes),
        price=price_table(profile),
        slices=slice_tables(profile.slices, notes),
        slices_note=_slices_note(profile.slices),
    )


def _headline(profile: HeadsProfile) -> str:
    """What the first and the last head know, and the best chain."""
    first, last = profile.accuracy[0], profile.accuracy[-1]
    said = f"head 1 is right at {_share(first.top[0])} of tokens"
    if last is not first:
        said += f", head {last.head} at {_share(last.top[0])}"
    best = profile.chain.best
    return f"{said}; a chain of {profile.chain.choice.best} is predicted at {speed_alone(best)}"


def _for_whom(trees: TreeStudy | Unmeasured) -> str:
    """Chain or tree, by predicted speed on the greedy answers."""
    if isinstance(trees, Unmeasured):
        return f"{_NO_STUDY}{trees.reason}"
    tree, chain = trees.best, trees.best_chain
    if tree is None:
        reason = trees.sizes[0].best.decode_speedup
        return f"{_NO_STUDY}{reason.reason if isinstance(reason, Unmeasured) else NOT_MEASURED}"
    told = f"a tree of {count(tree.num_nodes, 'node')} at {speed_of(tree.best)}"
    other = f"a {plain(chain.name)} at {speed_of(chain)}"
    if max(tree.best.speedup or 0.0, chain.speedup or 0.0) <= 1:
        return f"Neither chain nor tree: {told} and {other} are predicted, no gain."
    lead = trees.lead_over_chain
    if (tree.best.speedup or 0.0) <= (chain.speedup or 0.0):
        return (
            f"Draft chains: {other} is predicted, the best tree is {told}: what more nodes keep "
            "does not pay for verifying them here."
        )
    if isinstance(lead, Interval) and lead.low > 1:
        return (
            f"Draft trees: {told} is predicted, the best chain is {other}; cross-fitted, trees "
            f"have {speedup(lead)} its speed. Run one for real with heads tree --confirm."
        )
    return (
        f"Trees and chains are not told apart: {told} and {other} are predicted. Run both for real "
        "with specmeasure heads tree --confirm."
    )


def _second_choices(profile: HeadsProfile) -> list[str]:
    """What a tree could win at the first head: tokens among its ten that are not its first."""
    one, ten = profile.accuracy[0].top[0], profile.accuracy[0].top[-1]
    if not (isinstance(one, Interval) and isinstance(ten, Interval)) or one.value >= 1:
        return []
    found = (ten.value - one.value) / (1 - one.value)
    said = f"one of its next nine is right in {100 * found:.0f} % of places"
    return [f"Where head 1's likeliest token is wrong, {said}: that is what trees are made of."]


def _where(slices: Sequence[SliceAccuracy]) -> list[str]:
    """The slices of an axis that differ most at the first head, where intervals tell them apart."""
    told = []
    for axis in dict.fromkeys(part.axis for part in slices):
        known = [
            (found, part)
            for part in slices
            if part.axis == axis and isinstance(found := part.heads[0].top[0], Interval)
        ]
        if len(known) < 2:
            continue
        (low, worst), *_, (high, best) = sorted(known, key=lambda one: one[0].value)
        if high.low > low.high:
            told.append((high.value - low.value, axis, (best, high), (worst, low)))
    if not told:
        return []
    _, axis, (best, high), (worst, low) = max(told, key=lambda one: one[0])
    often = f"{plain(best.name)} ({rate(high)})"
    seldom = f"{plain(worst.name)} ({rate(low)})"
    return [f"By {plain(axis)}, head 1 is right most often on {often}, least on {seldom}."]


def _slices_note(slices: Sequence[SliceAccuracy]) -> str:
    num_looks = len(slices) * len(slices[0].heads) if slices else 0
    return (
        f"Intervals of each k hold for {count(num_looks)} looks, all slices and heads, together "
        "(Bonferroni)."
    )


def _share(found: Estimate) -> str:
    return rate(found) if isinstance(found, Interval) else NOT_MEASURED
