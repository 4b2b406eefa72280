"""The policy applied to the estimates: GO, NO_GO or INCONCLUSIVE, with every reason.

A rule is met at the pessimistic end of its interval and failed at the optimistic end; in between
it is open. Intervals come corrected for the number of arms and slices that were looked at, so
picking the best arm does not spend the confidence twice.
"""

from specmeasure.decide.policies import override, read_policy
from specmeasure.decide.under_load import decide_under_load
from specmeasure.decide.verdicts import RANK, decide, judge_output, screen

__all__ = [
    "RANK",
    "decide",
    "decide_under_load",
    "judge_output",
    "override",
    "read_policy",
    "screen",
]
