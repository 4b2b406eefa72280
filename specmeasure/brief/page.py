"""What fits on the one page of brief.md: the best arms, the telling slices, one engine's settings.

Nothing is told here that the details leave out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from specmeasure.brief.arm_table import MOST_ARMS, arm_table
from specmeasure.brief.evidence import write_short_evidence
from specmeasure.brief.joined import JoinedArm
from specmeasure.brief.load import LoadPage, write_load_page
from specmeasure.brief.names import listed, plain
from specmeasure.brief.numbers import count, noise
from specmeasure.brief.output import write_output
from specmeasure.brief.provenance import Fact, write_short_provenance
from specmeasure.brief.served import Served
from specmeasure.brief.servers import write_order, write_transfer
from specmeasure.brief.settings import EngineSettings
from specmeasure.brief.slices import SliceTable, write_telling_slices
from specmeasure.brief.tables import Footnotes, Table
from specmeasure.brief.turn_on import write_turn_on, write_turn_on_caveats
from specmeasure.records.decision import Decision, Verdict
from specmeasure.records.estimates import Estimates
from specmeasure.records.trace import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The one page, beside what it shares with the details."""

    arms: Table
    arms_left_out: str | None
    load: LoadPage | None  # of a run on servers
    noise: str  # of the A/A comparison, to be read beside every speedup
    slices: SliceTable | None
    output: tuple[Fact, ...]  # by arm
    measured: tuple[Fact, ...]
    order: str  # in which arms took their turns
    transfer: str  # to what the numbers do not
    evidence: tuple[str, ...]
    settings: EngineSettings | None  # of the first engine that has the method; None unless GO
    other_engines: str | None
    caveats: tuple[str, ...]
    footnotes: tuple[str, ...]  # why cells say "not measured"


_ONE_AT_A_TIME = (
    "One request at a time. This does not transfer to batched serving, where verifying costs more "
    "of a step; nor to other hardware, nor to other prompts."
)


def write_page(
    manifest: Manifest,
    estimates: Estimates,
    decision: Decision,
    arms: Sequence[JoinedArm],
    served: Served | None,
) -> Page:
    """The page; ``arms`` are best first, the one that the verdict speaks of before all."""
    chosen, notes = arms[0], Footnotes()
    curve = served.curve if served else None
    is_go = decision.verdict is Verdict.GO
    costs = chosen.estimates.costs
    engines = write_turn_on(manifest, chosen.plan, costs, curve) if is_go else ()
    others = [one.engine for one in engines[1:]]
    return Page(
        arms=arm_table(estimates, arms, notes),
        arms_left_out=_arms_left_out(arms),
        load=write_load_page(served, decision, notes) if served else None,
        noise=noise(estimates.noise_floor),
        slices=write_telling_slices(chosen, notes),
        output=write_output(manifest, arms[:MOST_ARMS]),
        measured=write_short_provenance(manifest),
        order=write_order(manifest),
        transfer=write_transfer(manifest) or _ONE_AT_A_TIME,
        evidence=write_short_evidence(manifest, estimates, decision.policy, arms),
        settings=next(iter(engines), None),
        other_engines=listed(others) if others else None,
        caveats=_caveats_of(engines[0].engine, others, manifest, chosen) if engines else (),
        footnotes=notes.lines,
    )


def _arms_left_out(arms: Sequence[JoinedArm]) -> str | None:
    left_out = arms[MOST_ARMS:]
    if not left_out:
        return None
    names = listed([plain(arm.plan.name) for arm in left_out], at_most=3)
    return f"{count(len(left_out), 'more arm')}, not before these by verdict and speed: {names}."


def _caveats_of(
    engine: str, others: Sequence[str], manifest: Manifest, arm: JoinedArm
) -> tuple[str, ...]:
    """Those that concern this engine, or no engine alone."""
    return tuple(
        caveat
        for caveat in write_turn_on_caveats(manifest, arm.plan, arm.estimates.costs)
        if engine in caveat or not any(other in caveat for other in others)
    )
