"""The table of the brief's one page: figures down, arms across, the baseline first."""

from collections.abc import Callable, Sequence

from specmeasure.brief.joined import JoinedArm, published_speedup
from specmeasure.brief.names import plain
from specmeasure.brief.numbers import NOT_APPLICABLE, count, noise, quantity, rate, seconds, speedup
from specmeasure.brief.tables import Footnotes, Table, memory
from specmeasure.records.estimates import ArmEstimates, Estimate, Estimates, Quantiles, Unmeasured

MOST_ARMS = 4

Row = tuple[str, Callable[[ArmEstimates], str]]


def arm_table(estimates: Estimates, arms: Sequence[JoinedArm], notes: Footnotes) -> Table:
    """Speed, drafts, waiting and memory of the baseline and of the arms that came first."""
    shown = arms[:MOST_ARMS]
    every = [estimates.baseline, *(arm.estimates for arm in shown)]
    rows = [*_speed(estimates, notes), *latency_rows(estimates.baseline, notes), ("Memory", memory)]
    return Table(
        columns=("", "baseline", *(plain(arm.plan.name) for arm in shown)),
        rows=(
            ("Verdict", NOT_APPLICABLE, *(arm.decision.verdict.value for arm in shown)),
            *((label, *map(speak, every)) for label, speak in rows),
        ),
    )


def latency_rows(baseline: ArmEstimates, notes: Footnotes) -> list[Row]:
    """p50 and p95 where requests were counted one by one, else what prompts took on average."""
    if baseline.ttft_quantiles is None:
        return [
            ("TTFT, median of prompts", lambda arm: notes.cell(seconds, arm.ttft_s)),
            ("TPOT, all tokens", lambda arm: notes.cell(seconds, arm.tpot_s)),
        ]
    return [
        ("TTFT p50", lambda arm: notes.cell(seconds, p50(arm.ttft_quantiles))),
        ("TTFT p95", lambda arm: notes.cell(seconds, p95(arm.ttft_quantiles))),
        ("TPOT p50", lambda arm: notes.cell(seconds, p50(arm.tpot_quantiles))),
        ("TPOT p95", lambda arm: notes.cell(seconds, p95(arm.tpot_quantiles))),
    ]


def _speed(estimates: Estimates, notes: Footnotes) -> list[Row]:
    def decode_speedup(arm: ArmEstimates) -> str:
        if arm is estimates.baseline:
            return f"A/A {notes.cell(noise, estimates.noise_floor)}"
        return notes.cell(speedup, published_speedup(arm))

    return [
        ("Prompts", lambda arm: count(arm.num_prompts)),
        ("Decode speedup", decode_speedup),
        ("Median prompt", lambda arm: notes.cell(speedup, arm.median_prompt_speedup)),
        ("Prompts that got slower", lambda arm: notes.cell(rate, arm.share_slower)),
        ("Acceptance length τ", lambda arm: notes.cell(quantity, arm.mean_acceptance_length)),
        ("Drafts accepted", lambda arm: notes.cell(rate, arm.draft_acceptance_rate)),
    ]


def p50(found: Quantiles | Unmeasured | None) -> Estimate | None:
    """What half of the requests stay within."""
    return found.p50 if isinstance(found, Quantiles) else found


def p95(found: Quantiles | Unmeasured | None) -> Estimate | None:
    """What all but 5 % of the requests stay within."""
    return found.p95 if isinstance(found, Quantiles) else found
