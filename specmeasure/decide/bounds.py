"""An estimate against a number: met at the pessimistic end, failed at the optimistic one."""

from specmeasure.records.decision import RuleFinding, RuleOutcome
from specmeasure.records.estimates import Estimate, Interval, Unmeasured, percent


def at_least(rule: str, estimate: Estimate | None, wanted: float) -> RuleFinding:
    if not isinstance(estimate, Interval):
        return RuleFinding(rule=rule, outcome=RuleOutcome.OPEN, observed=absence(estimate))
    outcome = RuleOutcome.OPEN
    if estimate.low >= wanted:
        outcome = RuleOutcome.MET
    elif estimate.high < wanted:
        outcome = RuleOutcome.FAILED
    return RuleFinding(rule=rule, outcome=outcome, observed=spoken(estimate))


def at_most(rule: str, estimate: Estimate, limit: float) -> RuleFinding:
    if not isinstance(estimate, Interval):
        return RuleFinding(rule=rule, outcome=RuleOutcome.OPEN, observed=absence(estimate))
    outcome = RuleOutcome.OPEN
    if estimate.high <= limit:
        outcome = RuleOutcome.MET
    elif estimate.low > limit:
        outcome = RuleOutcome.FAILED
    return RuleFinding(rule=rule, outcome=outcome, observed=spoken(estimate, digits=4))


def spoken(interval: Interval, *, digits: int = 2) -> str:
    value, low, high = (f"{x:.{digits}f}" for x in (interval.value, interval.low, interval.high))
    clusters = f"{interval.num_clusters} {interval.cluster}s"
    return f"{value} [{low}, {high}] at {percent(interval.level)} %, {clusters}"


def absence(estimate: Unmeasured | None) -> str:
    return f"not measured: {estimate.reason}" if estimate else "not measured"
