"""Does a run that stops when it is decided err more often, and how many prompts does it save?"""

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from calibration.decisions import OVER, POLICY, UNDER, simulator
from calibration.effort import Effort, table
from specmeasure.decide import decide
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.sequential import look_levels, plan_looks
from specmeasure.estimate.summary import estimate
from specmeasure.records.decision import Verdict
from specmeasure.records.trace import Trace

MAX_PROMPTS = 200
LEVEL = Intervals().level
SPEEDUPS = {  # true ones, with the share of workloads that each gets
    1.00: 0.1,
    1.05: 0.1,
    UNDER: 0.5,
    POLICY.min_decode_speedup: 0.1,
    OVER: 0.5,
    1.20: 0.1,
    1.50: 0.1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one run ended."""

    verdict: Verdict
    num_prompts: int
    fixed: Verdict  # what all prompts say at a single look


def section(effort: Effort) -> str:
    """The table of verdicts and of prompts used, by the true speedup."""
    looks = plan_looks(MAX_PROMPTS, POLICY.min_prompts)
    rows = []
    for speedup, share in SPEEDUPS.items():
        endings = effort.each(partial(run, speedup), share=share)
        verdicts = Counter(one.verdict for one in endings)
        fixed = Counter(one.fixed for one in endings)
        used = float(np.mean([one.num_prompts for one in endings]))
        rows.append(
            (
                f"{speedup:.3f}",
                f"{len(endings):,}",
                *(f"{100 * verdicts[one] / len(endings):.1f} %" for one in Verdict),
                f"{used:.0f}",
                f"{100 * (1 - used / MAX_PROMPTS):.0f} %",
                *(
                    f"{100 * fixed[one] / len(endings):.1f} %"
                    for one in (Verdict.GO, Verdict.NO_GO)
                ),
            )
        )
    head = (
        "true decode speedup",
        "workloads",
        *Verdict,
        "prompts used",
        "saved",
        "GO, fixed",
        "NO_GO, fixed",
    )
    levels = ", ".join(f"{100 * level:.4f} %" for level in look_levels(looks, LEVEL))
    return f"""## Stopping when it is decided

`run --until-decided` looks at {", ".join(map(str, looks[:-1]))} and {looks[-1]} prompts (of at most
{MAX_PROMPTS}) and ends at the first look that is GO or NO_GO. So that five looks err no more often
than one, their intervals are at
{levels}
(Lan and DeMets, with spending of the O'Brien-Fleming type). Beside it stands what a fixed run of
{MAX_PROMPTS} prompts says. A GO under {POLICY.min_decode_speedup:.2f} or a NO_GO over it is an
error, and at most 5 % are allowed; at 1.20 and 1.50 a GO is right, at 1.00 and 1.05 a NO_GO.

{table(head, rows)}"""


def run(speedup: float, seed: int) -> Ending:
    """One run of one arm, looked at until it is decided."""
    rng = np.random.default_rng((MAX_PROMPTS, round(1000 * speedup), seed))
    trace = simulator((speedup,)).trace(MAX_PROMPTS, rng)
    looks = plan_looks(MAX_PROMPTS, POLICY.min_prompts)
    fixed = _verdict(trace, LEVEL)
    found, num_prompts = Verdict.INCONCLUSIVE, MAX_PROMPTS
    for num_prompts, level in zip(looks, look_levels(looks, LEVEL), strict=True):
        found = _verdict(_first(trace, num_prompts), level)
        if found is not Verdict.INCONCLUSIVE:
            break
    return Ending(verdict=found, num_prompts=num_prompts, fixed=fixed)


def _verdict(trace: Trace, level: float) -> Verdict:
    return decide(estimate(trace, Intervals(level=level, num_resamples=20)), POLICY).verdict


def _first(trace: Trace, num_prompts: int) -> Trace:
    """The run as it stood after so many prompts."""
    num_trials = num_prompts * len(trace.manifest.plan.arms)
    return replace(
        trace,
        manifest=replace(trace.manifest, num_planned_trials=num_trials),
        trials=trace.trials[:num_trials],
    )
