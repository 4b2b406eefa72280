"""From a load curve to a verdict at the load that matters to the user."""

from collections.abc import Sequence
from dataclasses import replace

from specmeasure.decide.verdicts import decide
from specmeasure.errors import InsufficientEvidence, UsageError
from specmeasure.records.decision import Decision, LoadVerdict, Policy
from specmeasure.records.load_curve import LoadCurve, LoadPoint


def decide_under_load(curve: LoadCurve, policy: Policy) -> Decision:
    """The decision at the policy's concurrency, or else at the highest load measured.

    Beside it stands what the same policy says at each load, of the arm that is best there.

    Raises:
        UsageError: the policy names a concurrency that was not measured.
        InsufficientEvidence: nothing was measured, or no speculative arm.
    """
    if not curve.points:
        raise InsufficientEvidence("there is nothing to decide: no load was measured.")
    deciding = _deciding_point(curve.points, policy)
    decisions = [(point, decide(point.estimates, policy, point)) for point in curve.points]
    chosen = next(decision for point, decision in decisions if point is deciding)
    return replace(
        chosen,
        by_load=tuple(
            LoadVerdict(load=point.load, arm=decision.arm, verdict=decision.verdict)
            for point, decision in decisions
        ),
    )


def _deciding_point(points: Sequence[LoadPoint], policy: Policy) -> LoadPoint:
    """The highest is the highest concurrency; of rates alone, the highest rate."""
    closed = {
        point.load.concurrency: point for point in points if point.load.concurrency is not None
    }
    if policy.at_concurrency is None:
        return closed[max(closed)] if closed else max(points, key=lambda one: one.load.rate or 0.0)
    if policy.at_concurrency not in closed:
        measured = ", ".join(str(point.load) for point in points)
        raise UsageError(
            f"the policy decides at_concurrency = {policy.at_concurrency}, which was not measured; "
            f"there is {measured}. Run with --concurrency {policy.at_concurrency}, or decide at "
            "one of these."
        )
    return closed[policy.at_concurrency]
