"""Predicted against measured: the textbook's speedup, and which cost explains the difference."""

from collections.abc import Sequence

from specmeasure.brief.joined import JoinedArm
from specmeasure.brief.names import plain
from specmeasure.brief.numbers import TIMES, rate, reason, speedup
from specmeasure.brief.tables import Footnotes, Table
from specmeasure.records.estimates import Costs, Textbook


def write_textbook(arm: JoinedArm) -> str:
    """The prediction, then what brings it to the measured speedup, cost by cost."""
    found, costs = arm.estimates.textbook, arm.estimates.costs
    if not isinstance(found, Textbook) or not isinstance(costs, Costs):
        why = reason(found) or reason(costs) or "no blocks were timed"
        return f"Nothing was predicted for {plain(arm.plan.name)}: {why}."
    length = arm.plan.num_speculative_tokens
    return (
        f"From α = {rate(found.acceptance)}, K = {length} and c = {costs.draft_ratio:.3f} the "
        f"textbook predicts {_factor(found.decode_speedup)}. A verifying pass costs "
        f"v = {costs.verify_ratio:.2f} steps of the target, not 1: "
        f"{_factor(found.speedup_with_verification)}. The rest of a pass costs "
        f"o = {costs.overhead_ratio:.3f} steps: {_factor(found.speedup_with_overhead)}. Measured: "
        f"{speedup(arm.decode_speedup)}, since a pass gave {costs.tokens_per_pass:.2f} tokens "
        f"where the formula has {found.tokens_per_pass:.2f}: acceptance is not alike everywhere, "
        "and not every pass drafts K."
    )


def textbook_table(arms: Sequence[JoinedArm], notes: Footnotes) -> Table:
    """The same of every arm that has costs."""
    columns = (
        "Arm",
        "α",
        "Textbook",
        "with v",
        "with v and o",
        "Measured",
        "Tokens per pass: textbook",
        "measured",
    )
    predicted = [(arm, arm.estimates.textbook, arm.estimates.costs) for arm in arms]
    return Table(
        columns=columns,
        rows=tuple(
            (
                plain(arm.plan.name),
                rate(found.acceptance),
                _factor(found.decode_speedup),
                _factor(found.speedup_with_verification),
                _factor(found.speedup_with_overhead),
                notes.cell(speedup, arm.decode_speedup),
                f"{found.tokens_per_pass:.2f}",
                f"{costs.tokens_per_pass:.2f}",
            )
            for arm, found, costs in predicted
            if isinstance(found, Textbook) and isinstance(costs, Costs)
        ),
    )


def _factor(value: float) -> str:
    return f"{value:.2f}{TIMES}"
