"""The audit of answers as finished strings: a page of its own, and the short form for a terminal.

Says whether the output is the target's; of speed it says nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from rich.console import Group, RenderableType
from rich.text import Text

from specmeasure.brief.console import rich_table
from specmeasure.brief.markdown import render_template
from specmeasure.brief.names import listed, plain
from specmeasure.brief.numbers import count, share
from specmeasure.brief.output_tables import (
    divergence_table,
    drift_table,
    greedy_table,
    near_tie_table,
    sampled_table,
)
from specmeasure.brief.provenance import Fact
from specmeasure.brief.tables import Footnotes, Table
from specmeasure.records.audit import AuditedArm, AuditReport
from specmeasure.records.decision import Verdict
from specmeasure.records.estimates import Losslessness, SampledLosslessness, Unmeasured

_STYLES: Final[Mapping[Verdict, str]] = {
    Verdict.GO: "bold green",
    Verdict.NO_GO: "bold red",
    Verdict.INCONCLUSIVE: "bold yellow",
}
_LEFT_OUT = ("p uniform", "p against baseline", "p surprise", "p pull")  # to fit in 100 columns
_CAUSES = (
    "Compare weights, dtype, the prompt's ids (BOS) and the sampling settings before speculation "
    "is blamed."
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditContent:
    """One audit. Empty tables are for the renderer to leave out."""

    verdict: Verdict
    headline: str
    rules: Table
    greedy: Table
    divergences: Table
    near_ties: Table
    sampled: Table
    drift: Table
    power: tuple[str, ...]  # what the sampled test could have shown, an arm a line
    notes: tuple[str, ...]
    footnotes: tuple[str, ...]
    facts: tuple[Fact, ...]


def audit_content(report: AuditReport) -> AuditContent:
    """Everything that an audit says."""
    notes = Footnotes()
    greedy = _measured(report.arms, lambda arm: arm.losslessness, Losslessness)
    sampled = _measured(report.arms, lambda arm: arm.sampled_losslessness, SampledLosslessness)
    return AuditContent(
        verdict=report.verdict,
        headline=_headline(report),
        rules=_rule_table(report.arms),
        greedy=greedy_table(greedy),
        divergences=divergence_table(greedy),
        near_ties=near_tie_table(greedy),
        sampled=sampled_table(sampled),
        drift=drift_table([(arm.name, arm.drift) for arm in report.arms], notes),
        power=tuple(line for arm in report.arms if (line := _power(arm)) is not None),
        notes=_notes(report, greedy),
        footnotes=notes.lines,
        facts=_facts(report),
    )


def render_audit(report: AuditReport) -> str:
    """The whole page."""
    return render_template("audit.md.j2", audit=audit_content(report))


def audit_summary(report: AuditReport) -> RenderableType:
    """The short form; fits in 100 columns, longer names fold."""
    content = audit_content(report)
    parts: list[RenderableType] = [
        Text.assemble(
            (content.verdict.value, _STYLES[content.verdict]), (f": {content.headline}", "bold")
        )
    ]
    titled = {
        "Greedy answers": content.greedy,
        "First divergences from the baseline": content.divergences,
        "Sampled answers": content.sampled,
        "Lossy arms": content.drift,
    }
    parts += [
        rich_table(table, title=title, without=_LEFT_OUT)
        for title, table in titled.items()
        if table.rows
    ]
    parts += [Text(line) for line in (*content.power, *content.notes)]
    parts += [Text(note, style="dim") for note in content.footnotes]
    return Group(*parts)


def _rule_table(arms: Sequence[AuditedArm]) -> Table:
    """Each arm's rules, what was observed and how they stand."""
    return Table(
        columns=("Arm", "Rule", "Observed", "Outcome"),
        rows=tuple(
            (plain(arm.name), plain(one.rule), plain(one.observed), one.outcome.value)
            for arm in arms
            for one in arm.findings
        ),
    )


def _measured(
    arms: Sequence[AuditedArm], get: Callable[[AuditedArm], object], kind: type[_T]
) -> list[tuple[str, _T]]:
    pairs = [(arm.name, get(arm)) for arm in arms]
    return [(name, found) for name, found in pairs if isinstance(found, kind)]


def _headline(report: AuditReport) -> str:
    by_verdict = {
        verdict: [plain(arm.name) for arm in report.arms if arm.verdict is verdict]
        for verdict in Verdict
    }
    failed = by_verdict[Verdict.NO_GO]
    if failed and report.verdict is Verdict.INCONCLUSIVE:
        return (
            "answers without speculation are not this target's either, so none can be judged by "
            f"it. {_CAUSES}"
        )
    match report.verdict:
        case Verdict.GO:
            names = listed(by_verdict[Verdict.GO])
            return f"nothing tells the output of {names} from the target's own"
        case Verdict.NO_GO:
            return f"the output of {listed(failed)} is not the target's own"
        case _:
            names = listed(by_verdict[Verdict.INCONCLUSIVE])
            return f"whether the output of {names} is the target's own is open"


def _power(arm: AuditedArm) -> str | None:
    """What so many tokens could have shown."""
    audit = arm.sampled_losslessness
    if not isinstance(audit, SampledLosslessness):
        return None
    if audit.detectable_acceptance is not None:
        too_much = f"{100 * audit.detectable_acceptance:.2g} points too much"
        shown = f"a verifier that accepts {too_much}"
    elif audit.detectable_share is not None:
        shown = f"{share(audit.detectable_share)} of the draft's law in place of the target's"
    elif arm.detectable_shift is not None:
        moved = f"{100 * arm.detectable_shift:.2g} points of chance"
        shown = f"a fault that moves {moved} between the target's likelier and less likely tokens"
    else:
        return None
    tokens = f"these {count(audit.num_tokens, 'token')} would have shown, with a chance of 80 %,"
    return f"{plain(arm.name)}: {tokens} {shown}."


def _notes(report: AuditReport, greedy: Sequence[tuple[str, Losslessness]]) -> tuple[str, ...]:
    notes = [
        f"Divergent by more than rounding explains, with {name}: "
        f"{'; '.join(map(plain, audit.divergent_prompts))}."
        for name, audit in greedy
        if audit.divergent_prompts
    ]
    missing = [why for arm in report.arms for why in _why_not_audited(arm)]
    notes += [f"Not audited: {plain(why).removesuffix('.')}." for why in dict.fromkeys(missing)]
    if any(audit.num_near_tie for _, audit in greedy):
        notes.append(
            "A near-tie is a token whose rival scored within the rounding noise of the target's "
            "own logits: plain batching would do the same."
        )
    if not any(arm.is_baseline for arm in report.arms):
        notes.append(
            "There are no answers of an arm called baseline: nothing tells a faulty verifier from "
            f"an engine that holds another model. {_CAUSES}"
        )
    return tuple(notes)


def _why_not_audited(arm: AuditedArm) -> list[str]:
    """Reasons; that nothing was greedy is none where what was sampled is tested."""
    greedy, sampled = arm.losslessness, arm.sampled_losslessness
    reasons = [sampled.reason] if isinstance(sampled, Unmeasured) else []
    if isinstance(greedy, Unmeasured) and sampled is None:
        reasons.append(greedy.reason)
    return reasons


def _facts(report: AuditReport) -> tuple[Fact, ...]:
    drawn = [f"{plain(str(one))} ({count(number, 'answer')})" for one, number in report.samplings]
    num_prompts = max((arm.num_prompts for arm in report.arms), default=0)
    return (
        Fact(label="Answers", text=plain(report.subject)),
        Fact(label="Judged by", text=f"{plain(report.target)}, {plain(report.dtype)}"),
        Fact(label="Prompts", text=count(num_prompts)),
        Fact(label="Decoding", text=listed(drawn)),
    )
