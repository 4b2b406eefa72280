"""How often is a verdict wrong where the true speedup is 1 % off the policy's threshold?"""

from collections import Counter
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from calibration.effort import Effort, table
from calibration.truth import at_speedup
from calibration.workloads import Draft, Machine, Population, Simulator, draft
from specmeasure.decide import decide
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.summary import estimate
from specmeasure.records.decision import Policy, Verdict

POLICY = Policy()
UNDER, OVER = (round(POLICY.min_decode_speedup * by, 4) for by in (0.99, 1.01))
SLOW = 0.95  # of arms that only widen the choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A run whose right answer is known."""

    num_prompts: int
    speedups: tuple[float, ...]  # of its arms, true
    wrong: Verdict

    def __str__(self) -> str:
        first, *others = self.speedups
        if not others:
            return f"one arm at {first:.3f}"
        if all(one == first for one in others):
            return f"{len(self.speedups)} arms at {first:.3f}"
        return f"one arm at {first:.3f}, {len(others)} at {others[0]:.2f}"


CASES = tuple(
    Case(num_prompts=num_prompts, speedups=speedups, wrong=wrong)
    for speedups, wrong, sizes in (
        ((UNDER,), Verdict.GO, (20, 50, 200)),
        ((UNDER,) * 4, Verdict.GO, (20, 50)),
        ((OVER,), Verdict.NO_GO, (20, 50, 200)),
        ((OVER, SLOW, SLOW, SLOW), Verdict.NO_GO, (20, 50)),
    )
    for num_prompts in sizes
)


def section(effort: Effort) -> str:
    """The table of wrong verdicts."""
    rows = []
    for case in CASES:
        verdicts = Counter(effort.each(partial(verdict, case)))
        shares = (f"{100 * verdicts[one] / effort.num_workloads:.1f} %" for one in Verdict)
        wrong = f"{case.wrong} {100 * verdicts[case.wrong] / effort.num_workloads:.1f} %"
        rows.append((str(case), str(case.num_prompts), *shares, wrong))
    return f"""## How often is a verdict wrong?

A policy that demands a decode speedup of {POLICY.min_decode_speedup:.2f}, arms whose true speedup
is 1 % under or over it, and all of the policy's other rules with them (no slice is truly slower
than the baseline where the arm is 1 % over). A wrong verdict is a GO where every arm is under, a
NO_GO where one is over: at most 5 % are allowed. {effort.num_workloads:,} workloads a line. So
close to the threshold most runs are INCONCLUSIVE, as they should be.

{table(("true decode speedup", "prompts", *Verdict, "wrong"), rows)}"""


def verdict(case: Case, seed: int) -> Verdict:
    """One workload's verdict, through the whole estimator and the policy."""
    rng = np.random.default_rng((case.num_prompts, len(case.speedups), seed))
    trace = simulator(case.speedups).trace(case.num_prompts, rng)
    return decide(estimate(trace, Intervals(num_resamples=20)), POLICY).verdict


@cache
def simulator(speedups: tuple[float, ...]) -> Simulator:
    """Runs of arms with these true decode speedups."""
    return Simulator(
        drafts=tuple(
            at_speedup(speedup, _draft(number), Population(), Machine())
            for number, speedup in enumerate(speedups, start=1)
        )
    )


def _draft(number: int) -> Draft:
    return draft(f"draft {number}", draft_ratio=0.0)
