"""The policy applied to the estimates: GO, NO_GO or INCONCLUSIVE, with every reason.

A rule is met at the pessimistic end of its interval and failed at the optimistic end; in between
it is open. Intervals come corrected for the number of arms and slices that were looked at, so
picking the best arm does not spend the confidence twice.
"""

import math
import tomllib
from dataclasses import fields, replace
from typing import Any

from specmeasure.errors import InsufficientEvidence, UnusablePolicy
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
    Losslessness,
    SliceEstimates,
    Unmeasured,
)
from specmeasure.records.prediction import Predictions

GIB = 2**30
RANK = {Verdict.GO: 0, Verdict.INCONCLUSIVE: 1, Verdict.NO_GO: 2}


def decide(estimates: Estimates, policy: Policy) -> Decision:
    """Apply the policy to every arm and recommend one.

    Raises:
        InsufficientEvidence: no speculative arm was measured.
    """
    if not estimates.arms:
        raise InsufficientEvidence("there is nothing to decide: no speculative arm was measured.")
    noise = _quiet_machine(estimates, policy)
    judged = [(arm, _judge(arm, noise, policy)) for arm in estimates.arms]
    judged.sort(key=lambda pair: (RANK[pair[1].verdict], -_speed(pair[0])))
    best = judged[0][1]
    return Decision(
        verdict=best.verdict,
        arm=best.arm,
        policy=policy,
        arms=tuple(decision for _, decision in judged),
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
            f"end; the fastest comes to {_spoken(predicted)}"
        )
    else:
        reason = (
            f"predicted {_spoken(predicted)} where {wanted:.2f} is demanded; a real run decides"
        )
    return Screening(
        verdict=verdict,
        candidate=fastest.name,
        num_speculative_tokens=best.num_speculative_tokens,
        reason=reason,
    )


def read_policy(text: str, source: str) -> Policy:
    """A policy from TOML; fields that are left out keep their defaults.

    Raises:
        UnusablePolicy: unknown names, wrong types, values out of range.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UnusablePolicy(f"{source}: not TOML: {error}") from error
    return override(Policy(), values, source)


def override(policy: Policy, values: dict[str, Any], source: str) -> Policy:
    """A policy with some numbers replaced; ``None`` replaces nothing."""
    known = {field.name: field.type for field in fields(Policy)}
    for name, value in values.items():
        if name not in known:
            raise UnusablePolicy(f"{source}: no rule {name!r}; there are {', '.join(known)}.")
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf:
            raise UnusablePolicy(f"{source}: {name} is {value!r}; it takes a number from 0.")
        if isinstance(value, float) and "float" not in str(known[name]):
            raise UnusablePolicy(f"{source}: {name} is {value!r}; it takes a whole number.")
    return replace(policy, **{name: value for name, value in values.items() if value is not None})


def _judge(arm: ArmEstimates, noise: RuleFinding, policy: Policy) -> ArmDecision:
    findings = (
        _fast_enough(arm, policy),
        _no_slow_slice(arm, policy),
        _lossless(arm, policy),
        *([_fits(arm, policy.max_memory_bytes)] if policy.max_memory_bytes is not None else []),
        _enough_prompts(arm, policy),
        _mostly_answered(arm, policy),
        noise,
    )
    verdict = Verdict.GO
    if any(finding.outcome is not RuleOutcome.MET for finding in findings):
        verdict = Verdict.INCONCLUSIVE
    if any(f.outcome is RuleOutcome.FAILED and not f.blocks_no_go for f in findings):
        verdict = Verdict.NO_GO
    return ArmDecision(
        arm=arm.name,
        verdict=verdict,
        findings=findings,
        slices=tuple(
            SliceVerdict(axis=one.axis, name=one.name, verdict=_slice_verdict(one, policy))
            for one in arm.slices
        ),
        num_prompts_to_settle=(
            _num_prompts_to_settle(arm.decode_speedup_corrected, policy)
            if verdict is Verdict.INCONCLUSIVE
            and not any(finding.outcome is RuleOutcome.FAILED for finding in findings)
            else None
        ),
    )


def _fast_enough(arm: ArmEstimates, policy: Policy) -> RuleFinding:
    return _at_least(
        f"decode speedup ≥ {policy.min_decode_speedup:.2f} at the lower bound",
        arm.decode_speedup_corrected,
        policy.min_decode_speedup,
    )


def _at_least(rule: str, estimate: Estimate | None, wanted: float) -> RuleFinding:
    if not isinstance(estimate, Interval):
        return RuleFinding(rule=rule, outcome=RuleOutcome.OPEN, observed=_absence(estimate))
    outcome = RuleOutcome.OPEN
    if estimate.low >= wanted:
        outcome = RuleOutcome.MET
    elif estimate.high < wanted:
        outcome = RuleOutcome.FAILED
    return RuleFinding(rule=rule, outcome=outcome, observed=_spoken(estimate))


def _no_slow_slice(arm: ArmEstimates, policy: Policy) -> RuleFinding:
    rule = f"no slice whose upper bound is below {policy.min_slice_speedup:.2f}"
    measured = [
        (f"{one.axis} {one.name}", found)
        for one in arm.slices
        if isinstance(found := _against(one, policy.min_slice_speedup), Interval)
    ]
    if not arm.slices:
        return RuleFinding(
            rule=rule, outcome=RuleOutcome.MET, observed="the prompts are one slice, the whole"
        )
    if not measured:
        return RuleFinding(
            rule=rule, outcome=RuleOutcome.OPEN, observed="no slice has enough prompts"
        )
    slow = [(name, found) for name, found in measured if found.high < policy.min_slice_speedup]
    shown = slow or [min(measured, key=lambda pair: pair[1].high)]
    return RuleFinding(
        rule=rule,
        outcome=RuleOutcome.FAILED if slow else RuleOutcome.MET,
        observed="; ".join(f"{name} {_spoken(found)}" for name, found in shown),
    )


def _lossless(arm: ArmEstimates, policy: Policy) -> RuleFinding:
    rule = f"at most {policy.max_divergent_trials} answers with an unexplained divergence"
    audit = arm.losslessness
    if isinstance(audit, Losslessness):
        num_answers = arm.num_trials - arm.num_failed_trials - audit.num_sampled
        sampled = f"; {audit.num_sampled} sampled and not audited" if audit.num_sampled else ""
        outcome = RuleOutcome.MET if audit.num_trials == num_answers else RuleOutcome.OPEN
        if audit.num_divergent > policy.max_divergent_trials:
            outcome = RuleOutcome.FAILED
        return RuleFinding(
            rule=rule,
            outcome=outcome,
            observed=(
                f"{audit.num_divergent} of {audit.num_trials} audited, {num_answers} greedy "
                f"answers{sampled}"
            ),
        )
    return RuleFinding(
        rule=rule,
        outcome=RuleOutcome.MET,
        observed="not measured: the verification rule is lossless by construction, sampled "
        "answers are not audited one by one",
    )


def _fits(arm: ArmEstimates, limit: int) -> RuleFinding:
    rule = f"weights and cache within {limit / GIB:.2f} GiB"
    if arm.memory_bytes is None:
        return RuleFinding(rule=rule, outcome=RuleOutcome.OPEN, observed="not measured")
    met = arm.memory_bytes <= limit
    return RuleFinding(
        rule=rule,
        outcome=RuleOutcome.MET if met else RuleOutcome.FAILED,
        observed=f"{arm.memory_bytes / GIB:.2f} GiB",
    )


def _enough_prompts(arm: ArmEstimates, policy: Policy) -> RuleFinding:
    met = arm.num_prompts >= policy.min_prompts
    return RuleFinding(
        rule=f"at least {policy.min_prompts} prompts",
        outcome=RuleOutcome.MET if met else RuleOutcome.OPEN,
        observed=f"{arm.num_prompts} prompts",
        blocks_no_go=True,
    )


def _mostly_answered(arm: ArmEstimates, policy: Policy) -> RuleFinding:
    """A run that stopped early, or lost the prompts that an arm finds hard, proves little."""
    lost = arm.num_planned_trials - (arm.num_trials - arm.num_failed_trials)
    met = lost <= policy.max_failed_share * arm.num_planned_trials
    return RuleFinding(
        rule=f"at most {policy.max_failed_share:.0%} of planned trials failed or missing",
        outcome=RuleOutcome.MET if met else RuleOutcome.OPEN,
        observed=f"{lost} of {arm.num_planned_trials}",
        blocks_no_go=True,
    )


def _quiet_machine(estimates: Estimates, policy: Policy) -> RuleFinding:
    rule = f"baseline against itself (A/A) does not exclude 1.00 ± {policy.max_noise:.2f}"
    floor = estimates.noise_floor
    if not isinstance(floor, Interval):
        return RuleFinding(
            rule=rule, outcome=RuleOutcome.OPEN, observed=_absence(floor), blocks_no_go=True
        )
    noisy = floor.low > 1 + policy.max_noise or floor.high < 1 - policy.max_noise
    return RuleFinding(
        rule=rule,
        outcome=RuleOutcome.FAILED if noisy else RuleOutcome.MET,
        observed=_spoken(floor),
        blocks_no_go=True,
    )


def _slice_verdict(one: SliceEstimates, policy: Policy) -> Verdict:
    demanded = policy.min_decode_speedup
    finding = _at_least("", _against(one, demanded), demanded)
    return {
        RuleOutcome.MET: Verdict.GO,
        RuleOutcome.FAILED: Verdict.NO_GO,
        RuleOutcome.OPEN: Verdict.INCONCLUSIVE,
    }[finding.outcome]


def _against(one: SliceEstimates, threshold: float) -> Estimate:
    """Holm's interval against no change; against another threshold the one that holds for any."""
    corrected = one.decode_speedup_corrected
    return one.decode_speedup if threshold == 1 or corrected is None else corrected


def _num_prompts_to_settle(speedup: Estimate | None, policy: Policy) -> int | None:
    """Prompts at which the interval would clear the threshold, if the estimate stays.

    Formula: n · (half width towards the threshold / distance to it)², widths shrinking as 1/√n.
    None where the estimate sits on the threshold or the speed rule is not what is open.
    """
    if not isinstance(speedup, Interval):
        return None
    distance = speedup.value - policy.min_decode_speedup
    half_width = speedup.value - speedup.low if distance > 0 else speedup.high - speedup.value
    if distance == 0 or half_width == 0:
        return None
    needed = math.ceil(speedup.num_prompts * (half_width / distance) ** 2)
    wanted = max(needed, policy.min_prompts)
    return wanted if wanted > speedup.num_prompts else None


def _speed(arm: ArmEstimates) -> float:
    return arm.decode_speedup.value if isinstance(arm.decode_speedup, Interval) else 0.0


def _spoken(interval: Interval) -> str:
    return (
        f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}] at "
        f"{100 * interval.level:g} %, {interval.num_prompts} prompts"
    )


def _absence(estimate: Unmeasured | None) -> str:
    return f"not measured: {estimate.reason}" if estimate else "not measured"
