"""A measurement plan as a terminal shows it."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specmeasure.brief.names import shortened
from specmeasure.brief.numbers import count, duration
from specmeasure.records.decision import Policy
from specmeasure.records.precision import MeasurementPlan, SlicePlan

_MOST_SLICES = 20


def plan_tables(
    plan: MeasurementPlan, policy: Policy, *, max_new_tokens: int, command: str
) -> RenderableType:
    """How many prompts and why, what it costs, what decides, and what to type."""
    return Group(
        Text(_headline(plan), style="bold"),
        Text(_basis(plan)),
        Text(_cost(plan, max_new_tokens)),
        _slices(plan.slices),
        Text(_rules(policy)),
        Text(f"Run it: {command}"),
    )


def _headline(plan: MeasurementPlan) -> str:
    wish = plan.wish
    said = (
        f"{count(plan.num_prompts, 'prompt')}, {count(plan.num_repeats, 'repeat')} each: a true "
        f"speedup {wish.effect:.0%} beyond the threshold is decided with {wish.power:.0%} power."
    )
    if plan.is_enough:
        return said
    effect = "no effect" if plan.detectable_effect is None else f"{plan.detectable_effect:.1%}"
    return (
        f"The corpus has {count(plan.num_in_corpus, 'prompt')}, {count(plan.num_needed)} are "
        f"needed to tell {wish.effect:.0%} with {wish.power:.0%} power; with all of them "
        f"{effect} can be told."
    )


def _basis(plan: MeasurementPlan) -> str:
    spread = plan.spread
    numbers = f"{spread.between:.0%} between prompts, {spread.within:.0%} between repeats"
    if spread.num_pilot_prompts is None:
        return (
            f"Assumed, not measured: spreads of {numbers}. Name a --target and a --draft to "
            "measure them in a pilot."
        )
    pilot = count(spread.num_pilot_prompts, "prompt")
    return (
        f"Measured in a pilot of {pilot}: a prompt's part in the speedup spreads by {numbers}, "
        "in the arm that spreads most."
    )


def _cost(plan: MeasurementPlan, max_new_tokens: int) -> str:
    num_rounds = plan.num_prompts * plan.num_repeats
    if plan.cost is None:
        most = count(num_rounds * max_new_tokens, "token")
        return f"At most {most} for each arm; time on this machine: not measured without a pilot."
    return (
        f"Expected: {count(round(num_rounds * plan.cost.num_emitted_tokens), 'token')} emitted "
        f"after {count(round(num_rounds * plan.cost.num_prompt_tokens), 'token')} read, over all "
        f"arms; {duration(num_rounds * plan.cost.seconds)} of decoding on this machine, loading "
        "and audits apart."
    )


def _slices(slices: Sequence[SlicePlan]) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for name in ("Category", "In the corpus", "Planned", "Tells an effect of, alone"):
        table.add_column(name, justify="left" if name == "Category" else "right")
    for one in sorted(slices, key=lambda one: -one.num_in_corpus)[:_MOST_SLICES]:
        effect = one.detectable_effect
        table.add_row(
            shortened(one.name),
            count(one.num_in_corpus),
            count(one.num_planned),
            "too few prompts" if effect is None else f"{effect:.0%}",
        )
    if len(slices) > _MOST_SLICES:
        table.add_row(f"{count(len(slices) - _MOST_SLICES)} more", "", "", "")
    return table


def _rules(policy: Policy) -> str:
    return (
        f"The policy decides GO where the lower bound of the decode speedup reaches "
        f"{policy.min_decode_speedup:.2f}, no slice's upper bound lies below "
        f"{policy.min_slice_speedup:.2f}, at most {policy.max_divergent_trials} answers diverge, "
        f"at least {policy.min_prompts} prompts were answered, and the baseline against itself "
        f"does not exclude 1.00 ± {policy.max_noise:.2f}."
    )
