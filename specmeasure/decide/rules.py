"""The rules on speed, memory and evidence, one function each."""

from dataclasses import replace

from specmeasure.decide.bounds import absence, at_least, spoken
from specmeasure.records.decision import Policy, RuleFinding, RuleOutcome, Verdict
from specmeasure.records.estimates import (
    ArmEstimates,
    Estimate,
    Estimates,
    Interval,
    SliceEstimates,
)
from specmeasure.records.load_curve import LoadPoint

GIB = 2**30
MOST_IN_ONE_PIECE = 0.05  # of an arm's answers; with more, those left out may be of a kind


def fast_enough(arm: ArmEstimates, policy: Policy, point: LoadPoint | None = None) -> RuleFinding:
    """On a server at one load: open where the decode time of too many answers is unknown."""
    under = f" at {point.load}" if point else ""
    finding = at_least(
        f"decode speedup{under} ≥ {policy.min_decode_speedup:.2f} at the lower bound",
        arm.decode_speedup_corrected,
        policy.min_decode_speedup,
    )
    untimed = _mostly_in_one_piece(arm, point) if point else ()
    if not untimed:
        return finding
    why = f"{' and '.join(untimed)} arrived in one piece: their decode time is unknown"
    return replace(finding, outcome=RuleOutcome.OPEN, observed=f"{finding.observed}; {why}")


def no_slow_slice(arm: ArmEstimates, policy: Policy) -> RuleFinding:
    rule = f"no slice whose upper bound is below {policy.min_slice_speedup:.2f}"
    slices = [one for one in arm.slices if one.is_of_traffic]
    measured = [
        (f"{one.axis} {one.name}", found)
        for one in slices
        if isinstance(found := _against(one, policy.min_slice_speedup), Interval)
    ]
    if not slices:
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
        observed="; ".join(f"{name} {spoken(found)}" for name, found in shown),
    )


def fits(arm: ArmEstimates, limit: int) -> RuleFinding:
    rule = f"weights and cache within {limit / GIB:.2f} GiB"
    if arm.memory_bytes is None:
        return RuleFinding(rule=rule, outcome=RuleOutcome.OPEN, observed="not measured")
    met = arm.memory_bytes <= limit
    return RuleFinding(
        rule=rule,
        outcome=RuleOutcome.MET if met else RuleOutcome.FAILED,
        observed=f"{arm.memory_bytes / GIB:.2f} GiB",
    )


def enough_prompts(arm: ArmEstimates, policy: Policy) -> RuleFinding:
    met = arm.num_prompts >= policy.min_prompts
    return RuleFinding(
        rule=f"at least {policy.min_prompts} prompts",
        outcome=RuleOutcome.MET if met else RuleOutcome.OPEN,
        observed=f"{arm.num_prompts} prompts",
        blocks_no_go=True,
    )


def mostly_answered(arm: ArmEstimates, policy: Policy) -> RuleFinding:
    """A run that stopped early, or lost the prompts that an arm finds hard, proves little."""
    lost = arm.num_planned_trials - (arm.num_trials - arm.num_failed_trials)
    met = lost <= policy.max_failed_share * arm.num_planned_trials
    return RuleFinding(
        rule=f"at most {policy.max_failed_share:.0%} of planned trials failed or missing",
        outcome=RuleOutcome.MET if met else RuleOutcome.OPEN,
        observed=f"{lost} of {arm.num_planned_trials}",
        blocks_no_go=True,
    )


def quiet_machine(estimates: Estimates, policy: Policy) -> RuleFinding:
    rule = f"baseline against itself (A/A) does not exclude 1.00 ± {policy.max_noise:.2f}"
    floor = estimates.noise_floor
    if not isinstance(floor, Interval):
        return RuleFinding(
            rule=rule, outcome=RuleOutcome.OPEN, observed=absence(floor), blocks_no_go=True
        )
    noisy = floor.low > 1 + policy.max_noise or floor.high < 1 - policy.max_noise
    return RuleFinding(
        rule=rule,
        outcome=RuleOutcome.FAILED if noisy else RuleOutcome.MET,
        observed=spoken(floor),
        blocks_no_go=True,
    )


def _mostly_in_one_piece(arm: ArmEstimates, point: LoadPoint) -> tuple[str, ...]:
    """How many answers of the baseline and of the arm, where they are too many."""
    sides = (
        (point.estimates.baseline, point.baseline),
        *((arm, under) for under in point.arms if under.name == arm.name),
    )
    said = []
    for own, under in sides:
        num_answers = own.num_trials - own.num_failed_trials
        if under.num_in_one_piece > MOST_IN_ONE_PIECE * num_answers:
            said.append(f"{under.num_in_one_piece} of {num_answers} answers of {under.name}")
    return tuple(said)


def slice_verdict(one: SliceEstimates, policy: Policy) -> Verdict:
    demanded = policy.min_decode_speedup
    finding = at_least("", _against(one, demanded), demanded)
    return {
        RuleOutcome.MET: Verdict.GO,
        RuleOutcome.FAILED: Verdict.NO_GO,
        RuleOutcome.OPEN: Verdict.INCONCLUSIVE,
    }[finding.outcome]


def _against(one: SliceEstimates, threshold: float) -> Estimate:
    """Holm's interval against no change; against another threshold the one that holds for any."""
    corrected = one.decode_speedup_corrected
    return one.decode_speedup if threshold == 1 or corrected is None else corrected
