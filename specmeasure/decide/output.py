"""The rules on the output: is it the target's own, or, of a lossy arm, near enough?"""

from specmeasure.decide.bounds import absence, at_least, at_most, spoken
from specmeasure.records.decision import Policy, RuleFinding, RuleOutcome
from specmeasure.records.estimates import (
    Accuracy,
    ArmEstimates,
    Drift,
    Estimate,
    Interval,
    Losslessness,
    SampledLosslessness,
    Unmeasured,
)

SUSPECT = 0.05  # sampled tokens less likely than this are neither proven wrong nor trusted
EDGE_SHARE = 1e-3  # of tokens: another shape's rounding moves the edge of top-k or top-p past them
FEW_TOKENS = 3


def faithful(
    arm: ArmEstimates, baseline: ArmEstimates | None, policy: Policy
) -> tuple[RuleFinding, ...]:
    """Whether the output is the target's own; of a lossy arm, whether it is near enough."""
    if arm.drift is not None:
        return _near_enough(arm, arm.drift, policy)
    findings = []
    if isinstance(arm.losslessness, Losslessness):
        findings.append(_greedy_lossless(arm, arm.losslessness, policy))
    if not findings or _num_sampled(arm):
        findings.append(_sampled_lossless(arm, baseline, policy))
    return tuple(findings)


def _greedy_lossless(arm: ArmEstimates, audit: Losslessness, policy: Policy) -> RuleFinding:
    rule = f"at most {policy.max_divergent_trials} answers with an unexplained divergence"
    num_answers = arm.num_trials - arm.num_failed_trials - audit.num_sampled
    if audit.num_compared and not audit.num_trials:
        return _compared(rule, audit, num_answers)
    outcome = RuleOutcome.MET if audit.num_trials == num_answers else RuleOutcome.OPEN
    if audit.num_divergent > policy.max_divergent_trials:
        outcome = RuleOutcome.FAILED
    return RuleFinding(
        rule=rule,
        outcome=outcome,
        observed=(
            f"{audit.num_divergent} of {audit.num_trials} audited, {num_answers} greedy answers"
        ),
    )


def _compared(rule: str, audit: Losslessness, num_answers: int) -> RuleFinding:
    """Where none was audited: equal answers speak for themselves, others may be near-ties.

    Of equal texts the tokens can differ, by another way to spell the same; that is no fault.
    """
    how = "compared as text" if audit.compared_as_text else "compared with the baseline's"
    num_differing, num_compared = audit.num_differing_from_baseline, audit.num_compared
    if num_differing:
        said = f"{how}: {num_differing} of {num_compared} differ, by near-ties or by faults"
    else:
        said = f"{how}: all {num_compared} are equal"
    is_met = not num_differing and num_compared == num_answers
    return RuleFinding(
        rule=rule,
        outcome=RuleOutcome.MET if is_met else RuleOutcome.OPEN,
        observed=f"0 audited, {num_answers} greedy answers; {said}",
    )


def _sampled_lossless(
    arm: ArmEstimates, baseline: ArmEstimates | None, policy: Policy
) -> RuleFinding:
    """Wrong where the tokens are too unlikely, unless the baseline's are as well.

    The baseline draws without drafts: if its tokens fail, then the audit's law is not the one they
    were drawn from (half precision at a low temperature, say), and speculation is not to blame.
    """
    rule = f"sampled tokens follow the target's own distribution (p ≥ {policy.max_chance:g})"
    audit = arm.sampled_losslessness
    yardstick = baseline.sampled_losslessness if baseline else None
    if not isinstance(audit, SampledLosslessness):
        return RuleFinding(rule=rule, outcome=RuleOutcome.OPEN, observed=absence(audit))
    other = yardstick if isinstance(yardstick, SampledLosslessness) else None
    is_wrong = audit.p_value < policy.max_chance or not _at_the_edge(audit, other)
    suspect = other is not None and other.p_value < policy.max_chance
    outcome = RuleOutcome.MET
    if is_wrong and not suspect:
        outcome = RuleOutcome.FAILED
    elif is_wrong or audit.p_value < SUSPECT or audit.num_trials < _num_sampled(arm):
        outcome = RuleOutcome.OPEN
    said = _said_of(audit)
    if suspect and outcome is not RuleOutcome.MET:
        said += "; the baseline's own tokens fail this test, too"
    return RuleFinding(rule=rule, outcome=outcome, observed=said)


def _at_the_edge(audit: SampledLosslessness, baseline: SampledLosslessness | None) -> bool:
    """Whether rounding explains the tokens without a chance: few, or as many without drafts."""
    share = EDGE_SHARE
    if baseline is not None:
        share = max(share, 2 * baseline.num_impossible / baseline.num_tokens)
    return audit.num_impossible <= max(FEW_TOKENS, share * audit.num_tokens)


def _num_sampled(arm: ArmEstimates) -> int:
    """Answers that were drawn by chance."""
    if isinstance(arm.losslessness, Losslessness):
        return arm.losslessness.num_sampled
    return arm.num_trials - arm.num_failed_trials


def _said_of(audit: SampledLosslessness) -> str:
    said = [
        f"p = {audit.p_value:.2g} over {audit.num_tokens:,} tokens of {audit.num_trials} answers"
    ]
    if audit.num_impossible:
        said.append(f"{audit.num_impossible} tokens without a chance under the target")
    if audit.p_value < SUSPECT:
        said.append("more tokens tell")
    if audit.detectable_acceptance is not None:
        points = 100 * audit.detectable_acceptance
        said.append(f"acceptance {points:.2g} points too high would show")
    return "; ".join(said)


def _near_enough(
    arm: ArmEstimates, drift: Drift | Unmeasured, policy: Policy
) -> tuple[RuleFinding, ...]:
    """The rules of an arm that changes the output by design."""
    nats, changed = (
        (drift, drift)
        if isinstance(drift, Unmeasured)
        else (drift.nats_per_token, drift.changed_share)
    )
    findings = [
        _drifts_little(nats, policy.max_drift_nats),
        at_most(
            f"lossy: changed tokens ≤ {policy.max_changed_share:.2%} at the upper bound",
            changed,
            policy.max_changed_share,
        ),
    ]
    if arm.accuracy is not None:
        graded = arm.accuracy
        findings.append(
            at_least(
                f"lossy: right answers less the baseline's ≥ {-policy.max_accuracy_loss:.2f} at "
                "the lower bound",
                graded.difference if isinstance(graded, Accuracy) else graded,
                -policy.max_accuracy_loss,
            )
        )
    if isinstance(arm.losslessness, Losslessness) and _num_sampled(arm):
        findings.append(
            RuleFinding(
                rule="lossy: drift of greedy and of sampled answers",
                outcome=RuleOutcome.OPEN,
                observed=f"{_num_sampled(arm)} sampled answers are not in the drift, which is of "
                "greedy ones; run them apart",
            )
        )
    return tuple(findings)


def _drifts_little(nats: Estimate, limit: float) -> RuleFinding:
    """Either way: sampled tokens that are likelier than the target's own have drifted, too."""
    rule = f"lossy: drift within ± {limit:g} nats per token at both bounds"
    if not isinstance(nats, Interval):
        return RuleFinding(rule=rule, outcome=RuleOutcome.OPEN, observed=absence(nats))
    outcome = RuleOutcome.OPEN
    if -limit <= nats.low and nats.high <= limit:
        outcome = RuleOutcome.MET
    elif nats.low > limit or nats.high < -limit:
        outcome = RuleOutcome.FAILED
    return RuleFinding(rule=rule, outcome=outcome, observed=spoken(nats, digits=4))
