"""The brief's tables as rows of finished strings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from specmeasure.brief.joined import JoinedArm
from specmeasure.brief.names import plain
from specmeasure.brief.numbers import (
    NOT_APPLICABLE,
    byte_size,
    count,
    duration,
    quantity,
    rate,
    reason,
    seconds,
    speedup,
)
from specmeasure.records.decision import RuleFinding, RuleOutcome
from specmeasure.records.estimates import (
    ArmEstimates,
    Costs,
    Estimate,
    Losslessness,
    SliceEstimates,
)

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns and rows of plain text; no markup, nothing escaped."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"a row does not fit the columns {self.columns}")


class Footnotes:
    """Reasons for what was not measured, each numbered once, in the order of their cells."""

    def __init__(self) -> None:
        self._reasons: dict[str, int] = {}

    def cell(self, speak: Callable[[Estimate | None], str], estimate: Estimate | None) -> str:
        """The spoken estimate, with the mark of its footnote where it was not measured."""
        why = reason(estimate)
        if why is None:
            return speak(estimate)
        number = self._reasons.setdefault(plain(why), len(self._reasons) + 1)
        return f"{speak(estimate)}{_mark(number)}"

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(f"Not measured{_mark(n)}: {why}" for why, n in self._reasons.items())


def policy_table(findings: Sequence[RuleFinding]) -> Table:
    """Each rule, what was observed and how it stands."""
    return Table(
        columns=("Rule", "Observed", "Outcome"),
        rows=tuple((plain(f.rule), plain(f.observed), _outcome(f)) for f in findings),
    )


def speed_table(arms: Sequence[JoinedArm], notes: Footnotes) -> Table:
    """How fast each arm was against the baseline on the same prompts."""
    columns = (
        "Arm",
        "Verdict",
        "Prompts",
        "Decode speedup",
        "End-to-end speedup",
        "Median prompt",
        "Prompts slower",
    )
    return Table(columns=columns, rows=tuple(_speed_row(arm, notes) for arm in arms))


def drafting_table(baseline: ArmEstimates, arms: Sequence[JoinedArm], notes: Footnotes) -> Table:
    """What each arm's drafts yielded, its latency and its memory."""
    columns = (
        "Arm",
        "K",
        "Drafts accepted",
        "Acceptance length τ",
        "Tokens per target pass",
        "TTFT",
        "TPOT",
        "Memory",
    )
    estimated = [baseline, *(arm.estimates for arm in arms)]
    return Table(columns=columns, rows=tuple(_drafting_row(arm, notes) for arm in estimated))


def slice_table(arm: JoinedArm, parts: Sequence[SliceEstimates], notes: Footnotes) -> Table:
    """One arm on slices of one axis, with what the speed rule says of each alone."""
    verdicts = {(one.axis, one.name): one.verdict.value for one in arm.decision.slices}
    rows = tuple(
        (
            plain(part.name),
            count(part.num_prompts),
            notes.cell(speedup, part.decode_speedup),
            notes.cell(rate, part.draft_acceptance_rate),
            notes.cell(quantity, part.mean_acceptance_length),
            verdicts.get((part.axis, part.name), NOT_APPLICABLE),
        )
        for part in parts
    )
    axis = plain(parts[0].axis).capitalize() if parts else "Slice"
    columns = (axis, "Prompts", "Decode speedup", "Drafts accepted", "τ", "Alone")
    return Table(columns=columns, rows=rows)


def position_table(arm: ArmEstimates, notes: Footnotes) -> Table:
    """Acceptance at each draft position: of all blocks, and of those that got so far."""
    pairs = zip(arm.acceptance_survival, arm.conditional_acceptance, strict=True)
    rows = tuple(
        (str(position), notes.cell(rate, survival), notes.cell(rate, conditional))
        for position, (survival, conditional) in enumerate(pairs, start=1)
    )
    columns = ("Position", "Kept, of all blocks", "Kept, of blocks that kept those before")
    return Table(columns=columns, rows=rows)


def cost_table(arms: Sequence[JoinedArm]) -> Table:
    """What a pass costs in target steps, and the tokens that would pay for it."""
    columns = (
        "Arm",
        "Tokens per pass: you have",
        "you need",
        "Draft token c",
        "Verifying v",
        "Overhead o",
        "Overhead of decode time",
        "Target step",
    )
    return Table(
        columns=columns,
        rows=tuple(
            _cost_row(arm.plan.name, arm.estimates.costs)
            for arm in arms
            if isinstance(arm.estimates.costs, Costs)
        ),
    )


def output_table(arms: Sequence[ArmEstimates]) -> Table:
    """The losslessness audit, in trials; the baseline's own near-ties are the yardstick."""
    columns = (
        "Arm",
        "Trials",
        "Tokens checked",
        "Identical",
        "Near-tie",
        "Divergent",
        "Differ from baseline",
        "Worst gap (noise), logits",
    )
    return Table(
        columns=columns,
        rows=tuple(
            _output_row(arm.name, arm.losslessness)
            for arm in arms
            if isinstance(arm.losslessness, Losslessness)
        ),
    )


def _mark(number: int) -> str:
    return str(number).translate(_SUPERSCRIPTS)


def _outcome(finding: RuleFinding) -> str:
    if finding.outcome is RuleOutcome.FAILED and finding.blocks_no_go:
        return "failed: forbids GO"
    return finding.outcome.value


def _speed_row(arm: JoinedArm, notes: Footnotes) -> tuple[str, ...]:
    estimates = arm.estimates
    return (
        plain(arm.plan.name),
        arm.decision.verdict.value,
        count(estimates.num_prompts),
        notes.cell(speedup, arm.decode_speedup),
        notes.cell(speedup, estimates.end_to_end_speedup),
        notes.cell(speedup, estimates.median_prompt_speedup),
        notes.cell(rate, estimates.share_slower),
    )


def _drafting_row(arm: ArmEstimates, notes: Footnotes) -> tuple[str, ...]:
    return (
        plain(arm.name),
        str(arm.num_speculative_tokens) if arm.num_speculative_tokens else NOT_APPLICABLE,
        notes.cell(rate, arm.draft_acceptance_rate),
        notes.cell(quantity, arm.mean_acceptance_length),
        notes.cell(quantity, arm.tokens_per_target_pass),
        notes.cell(seconds, arm.ttft_s),
        notes.cell(seconds, arm.tpot_s),
        _memory(arm),
    )


def _memory(arm: ArmEstimates) -> str:
    if arm.extra_memory_bytes is None:
        return byte_size(arm.memory_bytes)
    sign = "" if arm.extra_memory_bytes < 0 else "+"
    return f"{sign}{byte_size(arm.extra_memory_bytes)}"


def _cost_row(name: str, costs: Costs) -> tuple[str, ...]:
    return (
        plain(name),
        f"{costs.tokens_per_pass:.2f}",
        f"{costs.break_even_tokens_per_pass:.2f}",
        NOT_APPLICABLE if costs.draft_ratio is None else f"{costs.draft_ratio:.3f}",
        f"{costs.verify_ratio:.2f}",
        f"{costs.overhead_ratio:.3f}",
        f"{100 * costs.overhead_share:.1f} %",
        duration(costs.target_step_s),
    )


def _output_row(name: str, audit: Losslessness) -> tuple[str, ...]:
    worst = NOT_APPLICABLE
    if audit.worst_delta is not None:
        noise = NOT_APPLICABLE if audit.worst_noise is None else f"{audit.worst_noise:.2g}"
        worst = f"{audit.worst_delta:.2g} ({noise})"
    return (
        plain(name),
        count(audit.num_trials),
        count(audit.num_checked_tokens),
        count(audit.num_identical),
        count(audit.num_near_tie),
        count(audit.num_divergent),
        count(audit.num_differing_from_baseline),
        worst,
    )
