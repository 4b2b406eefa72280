"""From findings to verdicts, of runs, replays and outputs."""

import math
from collections.abc import Sequence

from specmeasure.decide.bounds import spoken
from specmeasure.decide.output import faithful
from specmeasure.decide.rules import (
    enough_prompts,
    fast_enough,
    fits,
    mostly_answered,
    no_slow_slice,
    quiet_machine,
    slice_verdict,
)
from specmeasure.errors import InsufficientEvidence
from specmeasure.records.decision import (
    ArmDecision,
    Decision,
    Policy,
    RuleFinding,
    RuleOutcome,
    Screening,
    SliceVerdict,
    Verdict,
)
from specmeasure.records.estimates import (
    ArmEstimates,
    Estimate,
    Estimates,
    Interval,
)
from specmeasure.records.load_curve import LoadPoint
from specmeasure.records.prediction import Predictions

RANK = {Verdict.GO: 0, Verdict.INCONCLUSIVE: 1, Verdict.NO_GO: 2}


def decide(estimates: Estimates, policy: Policy, point: LoadPoint | None = None) -> Decision:
    """Apply the policy to every arm and recommend one; ``point`` is the load on a server.

    Raises:
        InsufficientEvidence: no speculative arm was measured.
    """
    if not estimates.arms:
        raise InsufficientEvidence("there is nothing to decide: no speculative arm was measured.")
    judged = [(arm, _judge(arm, estimates, policy, point)) for arm in estimates.arms]
    judged.sort(key=lambda pair: (RANK[pair[1].verdict], -_speed(pair[0])))
    best = judged[0][1]
    return Decision(
        verdict=best.verdict,
        arm=best.arm,
        policy=policy,
        arms=tuple(decision for _, decision in judged),
        load=point.load if point else None,
    )


def screen(predictions: Predictions, policy: Policy) -> Screening:
    """What the policy's speed rule says of the fastest prediction; GO takes a real run.

    Raises:
        InsufficientEvidence: there was no candidate.
    """
    if not predictions.candidates:
        raise InsufficientEvidence("there is nothing to decide: no candidate was replayed.")
    fastest = predictions.candidates[0]
    best, wanted = fastest.best, policy.min_decode_speedup
    predicted = best.decode_speedup
    highs = [
        one.best.decode_speedup.high
        for one in predictions.candidates
        if isinstance(one.best.decode_speedup, Interval)
    ]
    verdict = Verdict.INCONCLUSIVE
    if not isinstance(predicted, Interval):
        reason = f"the prediction has no interval: {predicted.reason}"
    elif len(highs) == len(predictions.candidates) and max(highs) < wanted:
        verdict = Verdict.NO_GO
        reason = (
            f"no candidate at any K is predicted to reach {wanted:.2f}, even at the optimistic "
            f"end; the fastest comes to {spoken(predicted)}"
        )
    else:
        reason = f"predicted {spoken(predicted)} where {wanted:.2f} is demanded; a real run decides"
    return Screening(
        verdict=verdict,
        candidate=fastest.name,
        num_speculative_tokens=best.num_speculative_tokens,
        reason=reason,
    )


def judge_output(
    arm: ArmEstimates,
    baseline: ArmEstimates | None,  # None: the arm is one itself, or there is none
    policy: Policy,
) -> tuple[Verdict, tuple[RuleFinding, ...]]:
    """What the rules on the output alone say of an arm; its speed is no matter."""
    findings = faithful(arm, baseline, policy)
    return verdict_of(findings), findings


def _judge(
    arm: ArmEstimates, estimates: Estimates, policy: Policy, point: LoadPoint | None
) -> ArmDecision:
    findings = (
        fast_enough(arm, policy, point),
        no_slow_slice(arm, policy),
        *faithful(arm, estimates.baseline, policy),
        *([fits(arm, policy.max_memory_bytes)] if policy.max_memory_bytes is not None else []),
        enough_prompts(arm, policy),
        mostly_answered(arm, policy),
        quiet_machine(estimates, policy),
    )
    verdict = verdict_of(findings)
    return ArmDecision(
        arm=arm.name,
        verdict=verdict,
        findings=findings,
        slices=tuple(
            SliceVerdict(axis=one.axis, name=one.name, verdict=slice_verdict(one, policy))
            for one in arm.slices
            if one.is_of_traffic
        ),
        num_prompts_to_settle=(
            _num_prompts_to_settle(arm.decode_speedup_corrected, policy)
            if verdict is Verdict.INCONCLUSIVE
            and not any(finding.outcome is RuleOutcome.FAILED for finding in findings)
            else None
        ),
    )


def verdict_of(findings: Sequence[RuleFinding]) -> Verdict:
    if any(f.outcome is RuleOutcome.FAILED and not f.blocks_no_go for f in findings):
        return Verdict.NO_GO
    if any(finding.outcome is not RuleOutcome.MET for finding in findings):
        return Verdict.INCONCLUSIVE
    return Verdict.GO


def _num_prompts_to_settle(speedup: Estimate | None, policy: Policy) -> int | None:
    """Prompts at which the interval would clear the threshold, if the estimate stays.

    Formula: n · (half width towards the threshold / distance to it)², widths shrinking as 1/√n.
    None where the estimate sits on the threshold or the speed rule is not what is open, and under
    load, where windows would have to be more and not prompts.
    """
    if not isinstance(speedup, Interval) or speedup.cluster != "prompt":
        return None
    distance = speedup.value - policy.min_decode_speedup
    half_width = speedup.value - speedup.low if distance > 0 else speedup.high - speedup.value
    if distance == 0 or half_width == 0:
        return None
    needed = math.ceil(speedup.num_clusters * (half_width / distance) ** 2)
    wanted = max(needed, policy.min_prompts)
    return wanted if wanted > speedup.num_clusters else None


def _speed(arm: ArmEstimates) -> float:
    return arm.decode_speedup.value if isinstance(arm.decode_speedup, Interval) else 0.0
