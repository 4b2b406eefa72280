"""What the brief says, as finished strings that markdown and terminals both lay out.

Nothing here is escaped and nothing is computed: every number was estimated or decided before.
"""

from dataclasses import dataclass

from specmeasure.brief.evidence import levels, write_evidence, write_output_notes, write_policy_note
from specmeasure.brief.headline import Headline, write_headline, write_summary
from specmeasure.brief.joined import JoinedArm, join_arms
from specmeasure.brief.numbers import reason
from specmeasure.brief.provenance import Fact, command_line, write_provenance
from specmeasure.brief.settings import EngineSettings, write_caveats, write_settings
from specmeasure.brief.slices import (
    SliceTable,
    write_correction,
    write_gains,
    write_slice_tables,
)
from specmeasure.brief.tables import (
    Footnotes,
    Table,
    cost_table,
    drafting_table,
    output_table,
    policy_table,
    position_table,
    speed_table,
)
from specmeasure.records.decision import Decision, Verdict
from specmeasure.records.estimates import Costs, Estimates
from specmeasure.records.trace import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class BriefContent:
    """One brief. Empty tables are for the renderer to leave out."""

    headline: Headline
    summary: tuple[str, str]
    num_arms: int
    policy_note: str
    policy: Table  # applied to the arm in the headline
    speed_level: str | None  # confidence level of the decode speedups
    speed: Table
    drafting: Table
    slices: tuple[SliceTable, ...]  # likewise of the headline's arm
    gains: str  # which of them gain, which lose, and how to route
    correction: str
    positions: Table  # likewise
    costs: Table
    why: str  # the headline arm's tokens per pass against break-even
    output: Table
    output_notes: tuple[str, ...]
    evidence: tuple[str, ...]
    footnotes: tuple[str, ...]  # why cells say "not measured"
    provenance: tuple[Fact, ...]
    command: str
    settings: tuple[EngineSettings, ...]  # empty unless GO
    caveats: tuple[str, ...]


def brief_content(manifest: Manifest, estimates: Estimates, decision: Decision) -> BriefContent:
    """Everything that a brief says about one run."""
    arms = join_arms(manifest, estimates, decision)
    chosen = arms[0]
    is_go = decision.verdict is Verdict.GO
    is_greedy = _is_greedy(manifest)
    notes = Footnotes()
    return BriefContent(
        headline=write_headline(decision.verdict, chosen),
        summary=write_summary(decision.verdict, chosen, is_greedy=is_greedy),
        num_arms=len(arms),
        policy_note=write_policy_note(manifest.policy, decision.policy),
        policy=policy_table(chosen.decision.findings),
        speed_level=levels(arm.decode_speedup for arm in arms),
        speed=speed_table(arms, notes),
        drafting=drafting_table(estimates.baseline, arms, notes),
        slices=write_slice_tables(chosen, notes),
        gains=write_gains(chosen.estimates.slices),
        correction=write_correction(arms),
        positions=position_table(chosen.estimates, notes),
        costs=cost_table(arms),
        why=_why(chosen),
        output=output_table([estimates.baseline, *(arm.estimates for arm in arms)]),
        output_notes=write_output_notes(arms, is_greedy=is_greedy),
        evidence=write_evidence(manifest, estimates, decision.policy, arms),
        footnotes=notes.lines,
        provenance=write_provenance(manifest),
        command=command_line(manifest.argv),
        settings=write_settings(manifest, chosen.plan, chosen.estimates.costs) if is_go else (),
        caveats=write_caveats(manifest, chosen.plan) if is_go else (),
    )


def _is_greedy(manifest: Manifest) -> bool:
    """Whether every answer was decoded greedily, whatever rows asked for."""
    samplings = [sampling for sampling, _ in manifest.corpus.samplings]
    return all(one.is_greedy for one in samplings or [manifest.plan.sampling])


def _why(arm: JoinedArm) -> str:
    costs = arm.estimates.costs
    if not isinstance(costs, Costs):
        return f"Where the time goes was not measured: {reason(costs) or 'no blocks were timed'}."
    have, need = costs.tokens_per_pass, costs.break_even_tokens_per_pass
    return f"You have {have:.2f} tokens per target pass, you need {need:.2f} to break even."
