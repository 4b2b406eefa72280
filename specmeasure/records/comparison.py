"""What recorded runs say beside each other: which candidate is best, or what changed since.

A candidate is a speculative arm of one of the runs. Everything is over the prompts that all the
runs share.
"""

from dataclasses import dataclass
from enum import StrEnum

from specmeasure.records.decision import Verdict
from specmeasure.records.estimates import Estimate, Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """One run, and how much of it is compared. An answer is a prompt's turn in one repeat."""

    name: str  # its folder's, as long as tells the runs apart
    target: str
    num_prompts: int  # recorded
    num_common_prompts: int  # of them, recorded by the other runs too
    num_answers: int  # of each arm
    num_common_answers: int
    is_finished: bool  # False: interrupted, and compared as far as it got


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One speculative arm on the common prompts."""

    name: str  # unique among the candidates: the arm's, with its run's where two share it
    run: str
    arm: str  # as its run's plan calls it
    verdict: Verdict  # of its own run's policy
    decode_speedup: Estimate | None  # over its own run's baseline, corrected for its run's arms
    draft_acceptance_rate: Estimate | None
    mean_acceptance_length: Estimate | None
    tokens_per_target_pass: Estimate | None
    extra_memory_bytes: int | None  # beside its own run's baseline
    on_front: bool | None  # no candidate is at least as fast and as small, and better in one;
    # None: its speedup or its memory is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two candidates on the answers that both gave, paired by prompt, corrected for all pairs."""

    first: str
    second: str
    speedup_ratio: Estimate  # the first's decode speedup / the second's; 1: alike
    acceptance: Estimate  # draft acceptance rate of the first − the second's; 0.01 is a point
    length: Estimate  # τ of the first − the second's

    @property
    def told_apart(self) -> bool | None:
        """Whether their speeds differ; None where that was not measured."""
        return _excludes_one(self.speedup_ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceLeader:
    """The fastest candidate on one slice of the common prompts."""

    axis: str
    name: str
    num_prompts: int
    leader: str | None  # None: no candidate was measured there
    decode_speedup: Estimate  # the leader's, corrected for the slices and the candidates
    runner_up: str | None  # None: no other was measured there
    lead: Estimate | None  # leader's speedup / runner-up's, corrected for the slices and all pairs

    @property
    def told_apart(self) -> bool | None:
        """Whether the leader is faster than its runner-up; None where that was not measured."""
        return _excludes_one(self.lead)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Candidates of several runs, or of one, on the same prompts."""

    runs: tuple[ComparedRun, ...]
    candidates: tuple[Candidate, ...]  # by verdict, then by speedup: the winner first
    differences: tuple[Difference, ...]  # of all pairs; the first is the better placed
    leaders: tuple[SliceLeader, ...]  # by the first axis that cuts the prompts; empty: none does

    @property
    def winner(self) -> Candidate:
        return self.candidates[0]

    @property
    def against_winner(self) -> tuple[Difference, ...]:
        """The winner against every other, in their order."""
        return tuple(one for one in self.differences if one.first == self.winner.name)

    @property
    def indistinguishable(self) -> tuple[str, ...]:
        """Candidates whose speed is not told apart from the winner's; the winner is not listed."""
        return tuple(one.second for one in self.against_winner if one.told_apart is False)


class GateOutcome(StrEnum):
    """Whether acceptance fell by more than is tolerated."""

    HELD = "HELD"  # not even at the pessimistic end of the interval
    FELL = "FELL"  # even at the optimistic end
    OPEN = "OPEN"  # the interval straddles the tolerated drop, or there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmChange:
    """One arm now and then; the difference is new − old (or new / old)."""

    arm: str
    old_arm: str  # its name then
    difference: Difference  # corrected for the arms compared
    verdict: Verdict
    old_verdict: Verdict
    outcome: GateOutcome | None  # None: no gate was set


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """A new run against an old one, arm by arm, on their common prompts."""

    new: ComparedRun
    old: ComparedRun
    fail_if_lower: float | None  # tolerated drop of the acceptance rate: 0.02 is 2 points
    changes: tuple[ArmChange, ...]
    only_new: tuple[str, ...]  # arms without a partner
    only_old: tuple[str, ...]

    @property
    def outcome(self) -> GateOutcome | None:
        """The worst arm's; None where no gate was set."""
        found = {change.outcome for change in self.changes}
        ranked = (GateOutcome.FELL, GateOutcome.OPEN, GateOutcome.HELD)
        return next((one for one in ranked if one in found), None)


def _excludes_one(ratio: Estimate | None) -> bool | None:
    if not isinstance(ratio, Interval):
        return None
    return not ratio.low <= 1 <= ratio.high
