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
    noise,
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
    Interval,
    Quantiles,
    SliceEstimates,
    Unmeasured,
)
from specmeasure.records.plan import BASELINE_AGAIN

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns and rows of plain text; no markup, nothing escaped."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"a row does not fit the columns {self.columns}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioned:
    """A table and the line above it."""

    caption: str
    table: Table


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


def speed_table(noise_floor: Estimate, arms: Sequence[JoinedArm], notes: Footnotes) -> Table:
    """How fast each arm was against the baseline on the same prompts, the baseline itself first."""
    columns = (
        "Arm",
        "Verdict",
        "Prompts",
        "Decode speedup",
        "End-to-end speedup",
        "Median prompt",
        "Prompts slower",
    )
    again = (
        BASELINE_AGAIN.name,
        NOT_APPLICABLE,
        _num_prompts(noise_floor),
        notes.cell(noise, noise_floor),
        *(NOT_APPLICABLE,) * 3,
    )
    return Table(columns=columns, rows=(again, *(_speed_row(arm, notes) for arm in arms)))


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


def quantile_table(
    name: str, arms: Sequence[tuple[str, Quantiles | Unmeasured | None]], notes: Footnotes
) -> Table:
    """What users wait for, arm by arm; without rows where nobody counted requests one by one."""
    return Table(
        columns=(name, "p50", "p95", "p99"),
        rows=tuple(
            (plain(arm), *(notes.cell(seconds, one) for one in _three(found)))
            for arm, found in arms
            if found is not None
        ),
    )


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


def memory(arm: ArmEstimates) -> str:
    """Weights and cache; of other arms than the baseline what they need beyond it."""
    if arm.extra_memory_bytes is None:
        return byte_size(arm.memory_bytes)
    sign = "" if arm.extra_memory_bytes < 0 else "+"
    return f"{sign}{byte_size(arm.extra_memory_bytes)}"


def _num_prompts(estimate: Estimate) -> str:
    """Prompts behind an interval; a dash where windows are."""
    if isinstance(estimate, Interval) and estimate.cluster == "prompt":
        return count(estimate.num_clusters)
    return NOT_APPLICABLE


def _mark(number: int) -> str:
    return str(number).translate(_SUPERSCRIPTS)


def _outcome(finding: RuleFinding) -> str:
    match finding.outcome:
        case RuleOutcome.MET:
            return "✓ met"
        case RuleOutcome.OPEN:
            return "? open"
        case RuleOutcome.FAILED:
            return "✗ failed: forbids GO" if finding.blocks_no_go else "✗ failed"


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
        memory(arm),
    )


def _three(found: Quantiles | Unmeasured) -> tuple[Estimate, Estimate, Estimate]:
    if isinstance(found, Unmeasured):
        return found, found, found
    return found.p50, found.p95, found.p99


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
