"""What the brief says, as finished strings that markdown and terminals both lay out.

Nothing here is escaped and nothing is computed: every number was estimated or decided before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from specmeasure.brief.evidence import levels, write_evidence, write_policy_note
from specmeasure.brief.headline import Headline, write_headline, write_summary
from specmeasure.brief.joined import JoinedArm, join_arms
from specmeasure.brief.load import LoadDetails, write_load_details
from specmeasure.brief.memory import write_memory
from specmeasure.brief.names import command_line
from specmeasure.brief.numbers import reason
from specmeasure.brief.output import write_output, write_output_notes
from specmeasure.brief.output_tables import (
    accuracy_table,
    divergence_table,
    drift_table,
    greedy_table,
    near_tie_table,
    sampled_table,
)
from specmeasure.brief.pace import noise_beyond, write_notices, write_outliers
from specmeasure.brief.page import Page, write_page
from specmeasure.brief.provenance import Fact, write_provenance
from specmeasure.brief.scope import write_deciding_load, write_scope
from specmeasure.brief.served import Served
from specmeasure.brief.servers import ONE_AT_A_TIME, write_transfer
from specmeasure.brief.settings import EngineSettings
from specmeasure.brief.slices import (
    SliceTable,
    write_correction,
    write_gains,
    write_slice_tables,
)
from specmeasure.brief.tables import (
    Captioned,
    Footnotes,
    Table,
    cost_table,
    drafting_table,
    policy_table,
    position_table,
    quantile_table,
    speed_table,
)
from specmeasure.brief.textbook import textbook_table, write_textbook
from specmeasure.brief.turn_on import write_schedules, write_turn_on, write_turn_on_caveats
from specmeasure.brief.ways import ways_table, write_ways
from specmeasure.records.decision import Decision, Verdict
from specmeasure.records.estimates import ArmEstimates, Costs, Estimates
from specmeasure.records.trace import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class BriefContent:
    """One brief. Empty tables are for the renderer to leave out."""

    headline: Headline
    summary: tuple[str, str]
    notices: tuple[str, ...]  # noise beyond the policy, an early stop, an unfinished run
    page: Page
    deciding_load: str | None  # of which all other sections speak; None: no server
    load: LoadDetails | None
    schedules: str | None  # K by load, of a vLLM, where it is not among the settings
    transfer: str
    num_arms: int
    policy_note: str
    policy: Table  # applied to the arm in the headline
    speed_level: str | None  # confidence level of the decode speedups
    speed: Table
    ways: str | None  # which way to draft leads; None: fewer than two were tried
    ways_table: Table
    drafting: Table
    waiting: tuple[Table, ...]  # quantiles of TTFT, TPOT and whole requests
    slices: tuple[SliceTable, ...]  # likewise of the headline's arm
    gains: str  # which of them gain, which lose, and how to route
    correction: str
    positions: Table  # likewise
    costs: Table
    why: str  # the headline arm's tokens per pass against break-even
    predicted: str  # the textbook against the headline arm's measured speedup
    textbook: Table
    arm_output: tuple[Fact, ...]  # did it change, by arm
    output: Table
    audits: tuple[Captioned, ...]  # those that found something to list
    output_notes: tuple[str, ...]
    evidence: tuple[str, ...]
    outliers: tuple[str, ...]
    footnotes: tuple[str, ...]  # why cells say "not measured"
    provenance: tuple[Fact, ...]
    command: str
    settings: tuple[EngineSettings, ...]  # empty unless GO
    caveats: tuple[str, ...]


def brief_content(
    manifest: Manifest,
    estimates: Estimates,
    decision: Decision,
    served: Served | None = None,
) -> BriefContent:
    """Everything that a brief says about one run.

    Args:
        manifest: where and with what it took place.
        estimates: what the trace says; of a run on servers, at the load decided on.
        decision: what the policy makes of it.
        served: of a run on servers.
    """
    curve = served.curve if served else None
    arms = join_arms(manifest, estimates, decision)
    every = [estimates.baseline, *(arm.estimates for arm in arms)]
    chosen = arms[0]
    is_go = decision.verdict is Verdict.GO
    notes = Footnotes()
    return BriefContent(
        headline=write_headline(
            decision.verdict,
            chosen,
            noise_beyond=noise_beyond(estimates, decision.policy),
            scope=write_scope(decision),
        ),
        summary=write_summary(
            decision.verdict,
            chosen,
            estimates.noise_floor,
            is_greedy=_is_greedy(manifest),
            at=f"At {decision.load}, " if decision.load else "",
        ),
        notices=write_notices(estimates, decision.policy),
        page=write_page(manifest, estimates, decision, arms, served),
        deciding_load=write_deciding_load(decision),
        transfer=write_transfer(manifest) or ONE_AT_A_TIME,
        num_arms=len(arms),
        policy_note=write_policy_note(manifest.policy, decision.policy),
        policy=policy_table(chosen.decision.findings),
        speed_level=levels(arm.decode_speedup for arm in arms),
        speed=speed_table(estimates.noise_floor, arms, notes),
        ways=write_ways(estimates.ways),
        ways_table=ways_table(estimates.ways, notes),
        drafting=drafting_table(estimates.baseline, arms, notes),
        waiting=_waiting(every, notes),
        slices=write_slice_tables(chosen, notes),
        gains=write_gains(chosen.estimates.slices),
        correction=write_correction(arms),
        positions=position_table(chosen.estimates, notes),
        costs=cost_table(arms),
        why=_why(chosen),
        predicted=write_textbook(chosen),
        textbook=textbook_table(arms, notes),
        arm_output=write_output(manifest, arms),
        output=greedy_table([(arm.name, arm.losslessness) for arm in every]),
        audits=_audits(every, notes),
        output_notes=write_output_notes(manifest, estimates.baseline, arms),
        evidence=(
            *write_evidence(manifest, estimates, decision.policy, arms),
            *(served.cross_checks if served else ()),
        ),
        load=write_load_details(manifest, served, decision, notes) if served else None,
        schedules=write_schedules(manifest, curve) if curve and not is_go else None,
        outliers=write_outliers(estimates.steadiness),
        footnotes=notes.lines,
        provenance=(*write_provenance(manifest, every), *write_memory(manifest.memory, every)),
        command=command_line(manifest.argv),
        settings=(
            write_turn_on(manifest, chosen.plan, chosen.estimates.costs, curve) if is_go else ()
        ),
        caveats=(
            write_turn_on_caveats(manifest, chosen.plan, chosen.estimates.costs) if is_go else ()
        ),
    )


def _is_greedy(manifest: Manifest) -> bool:
    """Whether every answer was decoded greedily, whatever rows asked for."""
    samplings = [sampling for sampling, _ in manifest.corpus.samplings]
    return all(one.is_greedy for one in samplings or [manifest.plan.sampling])


def _waiting(every: Sequence[ArmEstimates], notes: Footnotes) -> tuple[Table, ...]:
    tables = (
        quantile_table("TTFT", [(arm.name, arm.ttft_quantiles) for arm in every], notes),
        quantile_table("TPOT", [(arm.name, arm.tpot_quantiles) for arm in every], notes),
        quantile_table("Request", [(arm.name, arm.end_to_end_quantiles) for arm in every], notes),
    )
    return tuple(table for table in tables if table.rows)


def _audits(every: Sequence[ArmEstimates], notes: Footnotes) -> tuple[Captioned, ...]:
    greedy = [(arm.name, arm.losslessness) for arm in every]
    sampled = [(arm.name, arm.sampled_losslessness) for arm in every]
    drifted = [(arm.name, arm.drift) for arm in every]
    graded = [(arm.name, arm.accuracy) for arm in every]
    tables = {
        "Where answers first left the baseline's, the largest gaps in logits first:": (
            divergence_table(greedy)
        ),
        "The largest near-ties, in logits:": near_tie_table(greedy),
        "Tests of the sampled tokens; p is the smallest of them, corrected for their number:": (
            sampled_table(sampled)
        ),
        "Drift of lossy arms:": drift_table(drifted, notes),
        "Graded answers:": accuracy_table(graded, notes),
    }
    return tuple(
        Captioned(caption=caption, table=table) for caption, table in tables.items() if table.rows
    )


def _why(arm: JoinedArm) -> str:
    costs = arm.estimates.costs
    if not isinstance(costs, Costs):
        return f"Where the time goes was not measured: {reason(costs) or 'no blocks were timed'}."
    have, need = costs.tokens_per_pass, costs.break_even_tokens_per_pass
    return f"You have {have:.2f} tokens per target pass, you need {need:.2f} to break even."
