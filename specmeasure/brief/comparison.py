"""What a comparison of runs says, as finished strings that markdown and terminals both lay out.

Nothing here is escaped and nothing is computed: every number was estimated or decided before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from specmeasure.brief.compared_runs import RunNotes, write_pairing, write_runs
from specmeasure.brief.comparison_tables import (
    candidate_table,
    change_in_points,
    difference_table,
    extra_memory,
    leader_table,
)
from specmeasure.brief.evidence import levels
from specmeasure.brief.headline import Headline
from specmeasure.brief.names import listed, plain
from specmeasure.brief.numbers import count, reason, speedup
from specmeasure.brief.servers import write_transfers
from specmeasure.brief.settings import EngineSettings
from specmeasure.brief.tables import Footnotes, Table
from specmeasure.brief.turn_on import write_turn_on, write_turn_on_caveats
from specmeasure.records.comparison import Candidate, Comparison, Difference, SliceLeader
from specmeasure.records.decision import Verdict
from specmeasure.records.estimates import Costs, Interval, Unmeasured
from specmeasure.records.trace import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonContent:
    """One comparison. Empty tables are for the renderer to leave out."""

    headline: Headline
    why: str  # the runner-up, and what put the winner before it
    candidates: Table
    differences: Table  # against the winner
    groups: str  # who is told apart from the winner
    front: str  # who is beaten in speed and memory at once
    axis: str  # of the leaders
    leaders: Table
    routing: str
    transfer: tuple[str, ...]  # to what the numbers do not
    evidence: tuple[str, ...]
    footnotes: tuple[str, ...]  # why cells say "not measured"
    runs: tuple[RunNotes, ...]
    settings: tuple[EngineSettings, ...]  # of the winner; empty unless GO
    caveats: tuple[str, ...]


def comparison_content(
    comparison: Comparison,
    manifests: Sequence[Manifest],  # of the runs, in their order
    costs: Costs | Unmeasured | None,  # of the winner
) -> ComparisonContent:
    """Everything that a comparison says."""
    best = comparison.winner
    manifest = manifests[[run.name for run in comparison.runs].index(best.run)]
    arm = next(arm for arm in manifest.plan.arms if arm.name == best.arm)
    is_go = best.verdict is Verdict.GO
    notes = Footnotes()
    return ComparisonContent(
        headline=_headline(comparison),
        why=_why(comparison),
        candidates=candidate_table(comparison.candidates, notes),
        differences=difference_table(comparison.against_winner, notes),
        groups=_groups(comparison),
        front=_front(comparison.candidates),
        axis=plain(comparison.leaders[0].axis) if comparison.leaders else "slice",
        leaders=leader_table(comparison.leaders, notes),
        routing=_routing(comparison.leaders),
        transfer=write_transfers(manifests),
        evidence=(
            *write_pairing(comparison.runs, manifests),
            _corrections(comparison),
            *_uncompared(comparison.differences),
        ),
        footnotes=notes.lines,
        runs=write_runs(comparison.runs, manifests),
        settings=write_turn_on(manifest, arm, costs) if is_go else (),
        caveats=write_turn_on_caveats(manifest, arm, costs) if is_go else (),
    )


def _headline(comparison: Comparison) -> Headline:
    best, against = comparison.winner, comparison.against_winner[0]
    before = {
        Verdict.GO: "turn on ",
        Verdict.NO_GO: "leave speculation off; closest comes ",
        Verdict.INCONCLUSIVE: "first is ",
    }[best.verdict]
    after = f" at {speedup(best.decode_speedup)} the target's speed"
    group = [plain(name) for name in comparison.indistinguishable]
    if group:
        after += f", not told apart from {listed(group, at_most=3)}"
    elif against.told_apart:
        after += f", {speedup(against.speedup_ratio)} that of {plain(against.second)}"
    return Headline(verdict=best.verdict, before=before, arm=plain(best.name), after=after)


def _why(comparison: Comparison) -> str:
    best, second = comparison.candidates[:2]
    against = comparison.against_winner[0]
    return " ".join(
        [
            f"Second is {plain(second.name)} at {speedup(second.decode_speedup)}.",
            _what_decided(best, second, against),
            *_drafting(against),
            *_smallest(comparison),
        ]
    )


def _what_decided(best: Candidate, second: Candidate, against: Difference) -> str:
    name, other, ratio = plain(best.name), plain(second.name), against.speedup_ratio
    if not isinstance(ratio, Interval):
        measured = f"Their speeds were not compared: {reason(ratio)}"
    else:
        prompts = count(ratio.num_clusters, ratio.cluster)
        measured = f"On the same {prompts} {name} decodes at {speedup(ratio)} the speed of {other}"
    if best.verdict is not second.verdict:
        verdicts = f"{best.verdict.value} against {second.verdict.value}"
        return f"{name} is first by its verdict, {verdicts}. {measured}."
    if against.told_apart:
        return f"{measured}."
    return f"{measured}; {name} is first by its estimate alone."


def _drafting(against: Difference) -> list[str]:
    found = against.acceptance
    if not isinstance(found, Interval):
        return []
    said = change_in_points(
        found,
        up="is {} points higher",
        down="is {} points lower",
        same="shows no difference, {} points",
    )
    return [f"Its draft acceptance rate {said}."]


def _smallest(comparison: Comparison) -> list[str]:
    """What to take where neither verdict nor speed chooses."""
    best = comparison.winner
    alike = [
        one
        for one in comparison.candidates
        if one.name in comparison.indistinguishable and one.verdict is best.verdict
    ]
    known = [one for one in (best, *alike) if one.extra_memory_bytes is not None]
    smallest = min(known, key=lambda one: one.extra_memory_bytes or 0, default=None)
    if not alike or smallest is None:
        return []
    name, size = plain(smallest.name), extra_memory(smallest)
    return [f"Of those not told apart {name} needs least memory beside its target, {size}."]


def _groups(comparison: Comparison) -> str:
    sayings = {
        True: "Told apart from {}: {}.",
        False: "Not told apart from {}: {}.",
        None: "Not compared in speed with {}: {}.",
    }
    name = plain(comparison.winner.name)
    said = []
    for state, saying in sayings.items():
        group = [one.second for one in comparison.against_winner if one.told_apart is state]
        if group:
            said.append(saying.format(name, listed([plain(other) for other in group])))
    return " ".join([*said, "A larger K lowers the acceptance rate by itself."])


def _front(candidates: Sequence[Candidate]) -> str:
    sayings = {
        True: "On the front of speed against extra memory, by estimates: {}.",
        False: "Another is at least as fast and as small, and better in one, than: {}.",
        None: "Speed or memory was not measured of: {}.",
    }
    said = []
    for state, saying in sayings.items():
        group = [plain(one.name) for one in candidates if one.on_front is state]
        if group:
            said.append(saying.format(listed(group)))
    return " ".join(said)


def _routing(leaders: Sequence[SliceLeader]) -> str:
    """Which candidate where, as far as it is told apart from its runner-up."""
    if not leaders:
        return "The common prompts are one slice, the whole."
    ahead: dict[str, list[str]] = {}
    for one in leaders:
        if one.leader is not None and one.told_apart:
            ahead.setdefault(plain(one.leader), []).append(plain(one.name))
    unsettled = [plain(one.name) for one in leaders if not one.told_apart]
    slow = [
        plain(one.name)
        for one in leaders
        if isinstance(one.decode_speedup, Interval) and one.decode_speedup.high < 1
    ]
    return " ".join(
        [
            *(f"{name} leads on {listed(slices)}." for name, slices in ahead.items()),
            *([f"No candidate is told apart on {listed(unsettled)}."] if unsettled else []),
            *([f"The target alone is faster than all on {listed(slow)}."] if slow else []),
        ]
    )


def _corrections(comparison: Comparison) -> str:
    """How many looks each kind of interval was corrected for."""
    pairs = count(len(comparison.differences), "pair")
    at = levels(one.acceptance for one in comparison.differences) or "no level: none was measured"
    said = [f"Differences at {at}, corrected for {pairs} of candidates"]
    speeds = levels(one.decode_speedup for one in comparison.leaders)
    if speeds:
        leads = levels(one.lead for one in comparison.leaders)
        slices = count(sum(one.lead is not None for one in comparison.leaders), "slice")
        said.append(f"speedups by {plain(comparison.leaders[0].axis)} at {speeds}")
        said += [f"leads at {leads}, for {slices} and all pairs"] if leads else []
    said.append("verdicts and speedups as in each run's own brief, corrected for its arms alone")
    return f"{'; '.join(said)}."


def _uncompared(differences: Sequence[Difference]) -> tuple[str, ...]:
    reasons = dict.fromkeys(
        why for one in differences if (why := reason(one.speedup_ratio)) is not None
    )
    return tuple(
        f"Not every speed could be compared: {plain(why)}. The order of such candidates rests on "
        "each run's own speedup over its own baseline."
        for why in reasons
    )
