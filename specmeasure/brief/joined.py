"""One arm's plan, estimates and decision side by side; a join, no statistics."""

from dataclasses import dataclass

from specmeasure.records.decision import ArmDecision, Decision, SliceVerdict
from specmeasure.records.estimates import ArmEstimates, Estimate, Estimates, Interval
from specmeasure.records.plan import Arm
from specmeasure.records.trace import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedArm:
    """Everything that is known of one speculative arm."""

    plan: Arm
    estimates: ArmEstimates
    decision: ArmDecision

    @property
    def decode_speedup(self) -> Estimate | None:
        return published_speedup(self.estimates)

    @property
    def measured_slices(self) -> tuple[SliceVerdict, ...]:
        """Verdicts of the slices that have enough prompts for one."""
        measured = {
            (part.axis, part.name)
            for part in self.estimates.slices
            if isinstance(part.decode_speedup, Interval)
        }
        return tuple(one for one in self.decision.slices if (one.axis, one.name) in measured)


def join_arms(
    manifest: Manifest, estimates: Estimates, decision: Decision
) -> tuple[JoinedArm, ...]:
    """The arms that were decided on: the one that the verdict speaks of, then best first."""
    plans = {arm.name: arm for arm in manifest.plan.arms}
    estimated = {arm.name: arm for arm in estimates.arms}
    ranked = sorted(decision.arms, key=lambda arm: arm.arm != decision.arm)  # stable
    return tuple(
        JoinedArm(plan=plans[arm.arm], estimates=estimated[arm.arm], decision=arm) for arm in ranked
    )


def published_speedup(arm: ArmEstimates) -> Estimate | None:
    """The decode speedup at the level corrected for the arms tried, where there is one."""
    corrected = arm.decode_speedup_corrected
    return corrected if isinstance(corrected, Interval) else arm.decode_speedup
