"""A new run against an old one: which arms correspond, and whether acceptance fell."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from specmeasure.errors import UsageError
from specmeasure.records.comparison import GateOutcome
from specmeasure.records.estimates import Estimate, Interval
from specmeasure.records.plan import Arm
from specmeasure.records.trace import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmPair:
    """An arm and what it was then."""

    new: Arm
    old: Arm


def match_arms(new: Manifest, old: Manifest) -> tuple[ArmPair, ...]:
    """Arms of the same name; of the rest those that alone share a method and K.

    Raises:
        UsageError: no arm has a partner.
    """
    ours, theirs = new.plan.speculative_arms, old.plan.speculative_arms
    same_name = _unique_pairs(ours, theirs, lambda arm: arm.name)
    same_kind = _unique_pairs(
        [arm for arm in ours if arm not in [pair.new for pair in same_name]],
        [arm for arm in theirs if arm not in [pair.old for pair in same_name]],
        lambda arm: (arm.method, arm.num_speculative_tokens),
    )
    pairs = (*same_name, *same_kind)
    if not pairs:
        raise UsageError(
            f"no arm of the new run corresponds to one of the baseline run: the new run has "
            f"{_listed(ours)}, the baseline run {_listed(theirs)}. Arms correspond by name, or "
            "where one of each run has the same method and K: record the new run with the same "
            "--k."
        )
    return tuple(sorted(pairs, key=lambda pair: ours.index(pair.new)))


def judge_drop(acceptance: Estimate, tolerated: float) -> GateOutcome:
    """Whether the acceptance rate fell by more than ``tolerated``.

    Args:
        acceptance: the new rate − the old one.
        tolerated: as a share; 0.02 is 2 points.
    """
    if not isinstance(acceptance, Interval):
        return GateOutcome.OPEN
    if -acceptance.high > tolerated:
        return GateOutcome.FELL
    return GateOutcome.HELD if -acceptance.low <= tolerated else GateOutcome.OPEN


def _unique_pairs(
    ours: Sequence[Arm], theirs: Sequence[Arm], kind: Callable[[Arm], Hashable]
) -> tuple[ArmPair, ...]:
    """Pairs of arms that nothing but each other is like."""
    return tuple(
        ArmPair(new=mine, old=yours)
        for mine in ours
        for yours in theirs
        if kind(mine) == kind(yours)
        and [kind(arm) for arm in ours].count(kind(mine)) == 1
        and [kind(arm) for arm in theirs].count(kind(mine)) == 1
    )


def _listed(arms: Sequence[Arm]) -> str:
    return ", ".join(repr(arm.name) for arm in arms) or "no speculative arm"
