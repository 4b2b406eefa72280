"""In which order: all arms back to back on every prompt, rotated."""

from collections.abc import Sequence

from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Arm, Plan


def group_order(plan: Plan, prompt_index: int, turn: int) -> list[tuple[int, Arm]]:
    """Repeats and arms of one turn, rotated by prompt, turn and repeat.

    Drift of the machine's speed then hits all arms alike.

    >>> from specmeasure.records.plan import BASELINE, BASELINE_AGAIN
    >>> plan = Plan(target="t", arms=(BASELINE, BASELINE_AGAIN))
    >>> [[arm.name for _, arm in group_order(plan, index, 0)] for index in range(2)]
    [['baseline', 'baseline A/A'], ['baseline A/A', 'baseline']]
    """
    order = []
    for repeat in range(plan.num_repeats):
        shift = (prompt_index + turn + repeat) % len(plan.arms)
        order += [(repeat, arm) for arm in (*plan.arms[shift:], *plan.arms[:shift])]
    return order


def middling_and_longest(prompts: Sequence[Prompt], lengths: Sequence[int]) -> list[Prompt]:
    """What to warm up on.

    Args:
        prompts: at least one.
        lengths: of their contexts.
    """
    order = sorted(range(len(prompts)), key=lambda place: lengths[place])
    return [prompts[order[len(order) // 2]], prompts[order[-1]]]
