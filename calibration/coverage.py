"""Do intervals that say 95 % hold the true value in 95 of 100 workloads?"""

import math
from collections.abc import Mapping
from functools import cache, partial

import numpy as np

from calibration.effort import Effort, table
from calibration.truth import Truth, true_values
from calibration.workloads import Machine, Population, Simulator, draft
from specmeasure.estimate import latency
from specmeasure.estimate.intervals import MIN_PROMPTS, Intervals, Spread
from specmeasure.estimate.pairing import Names, pair_trials
from specmeasure.estimate.summary import estimate
from specmeasure.records.estimates import ArmEstimates, Estimate, Interval
from specmeasure.records.trace import Trace

SIZES = (MIN_PROMPTS, 12, 20, 50, 200)  # prompts
PROVEN_FROM = 20  # prompts, at which 93-97 % is claimed
DRAFT = draft(draft_ratio=0.1)
INTERVALS = Intervals(num_resamples=20)  # medians are not looked at
FEW = 0.1  # below this share of workloads with an interval, no coverage is stated
_PLAIN = (
    "decode_speedup",
    "end_to_end_speedup",
    "mean_acceptance_length",
    "tokens_per_target_pass",
    "draft_acceptance_rate",
)
_CURVES = ("acceptance_survival", "conditional_acceptance")
ALL_SLICES = "all slices of a run at once"


def section(effort: Effort) -> str:
    """The table of coverage by quantity and number of prompts."""
    by_size = {n: hits(effort, n) for n in SIZES}
    names = dict.fromkeys(name for found in by_size.values() for name in found)
    rows = [(name, *(_cell(by_size[n].get(name, [])) for n in SIZES)) for name in names]
    measured = [
        coverage(by_size[n][name])
        for n in SIZES
        if n >= PROVEN_FROM
        for name in names
        if name != ALL_SLICES and _is_stated(by_size[n].get(name, []))
    ]
    within = sum(0.93 <= one <= 0.97 for one in measured)
    chance = 196 * math.sqrt(0.95 * 0.05 / effort.num_workloads)
    return f"""## Do 95 % intervals hold the truth?

Percent of {effort.num_workloads:,} workloads whose interval holds the true value, by the number of
prompts; behind it the percent that lie wholly below / above the truth. Of {len(measured)} cells
from {PROVEN_FROM} prompts, {within} are within 93-97 % and {len(measured) - within} outside, the
least {100 * min(measured):.1f} % and the most {100 * max(measured):.1f} %; chance alone moves a
cell by ± {chance:.1f} points (95 %). With fewer prompts, and in slices of so few, intervals are
rather too wide than too narrow, and with fewer than {MIN_PROMPTS} there is none ("not enough
prompts").

Slices stand by their share of the prompts. A dash: less than {100 * FEW:.0f} % of the workloads had
an interval; percentages are of those that had one. The last line is the chance that the intervals
of all slices of a run, corrected for their number, hold at once; 95 % is meant.

{table(("quantity", *(f"{n} prompts" for n in SIZES)), rows)}"""


def hits(effort: Effort, num_prompts: int) -> dict[str, list[int | None]]:
    """Where the intervals of each workload lie: see ``side``."""
    found = effort.each(partial(sides, num_prompts))
    names = dict.fromkeys(name for one in found for name in one)
    return {name: [one.get(name) for one in found] for name in names}


def sides(num_prompts: int, seed: int) -> dict[str, int | None]:
    """One workload's intervals against the truth, through the whole estimator."""
    rng = np.random.default_rng((num_prompts, seed))
    trace = Simulator(drafts=(DRAFT,)).trace(num_prompts, rng)
    arm = estimate(trace, INTERVALS).arms[0]
    known = _truth()
    found = {
        name.replace("_", " "): side(getattr(arm, name), getattr(known, name)) for name in _PLAIN
    }
    for name in _CURVES:
        for i, (one, value) in enumerate(
            zip(getattr(arm, name), getattr(known, name), strict=True), start=1
        ):
            found[f"{name.replace('_', ' ')} {i}"] = side(one, value)
    return found | _slice_sides(trace, known.slice_speedups) | {ALL_SLICES: _all_slices(arm, known)}


def side(found: Estimate, value: float) -> int | None:
    """0 where the interval holds the value, -1 wholly below it, 1 above; None: no interval."""
    if not isinstance(found, Interval):
        return None
    return (found.low > value) - (found.high < value)


def coverage(found: list[int | None]) -> float:
    """The share of intervals that hold the truth, of those that there are."""
    told = [one for one in found if one is not None]
    return told.count(0) / len(told)


def _slice_sides(trace: Trace, values: Mapping[str, float]) -> dict[str, int | None]:
    """Slice by slice at 95 %, where a brief corrects for their number."""
    trials = [[t for t in trace.trials if t.key.arm == arm] for arm in _arms(trace)]
    pairs = pair_trials(*trials)
    parts = pairs.split(Names.of([trial.category for trial in pairs.arm.flat]))
    found: dict[str, int | None] = {}
    for one in Population().categories:
        part, name = parts.get(one.name), f"decode speedup, slice of {100 * one.share:.0f} %"
        spread = part and latency.decode_spread(
            latency.times(part.baseline), latency.times(part.arm), INTERVALS
        )
        found[name] = (
            side(INTERVALS.around(spread), values[one.name]) if isinstance(spread, Spread) else None
        )
    return found


def _arms(trace: Trace) -> tuple[str, str]:
    plan = trace.manifest.plan
    return plan.arms[0].name, plan.speculative_arms[0].name


def _all_slices(arm: ArmEstimates, known: Truth) -> int | None:
    """0 where the corrected intervals of all measured slices hold at once, else 1."""
    sides = [
        side(one.decode_speedup_corrected, known.slice_speedups[one.name])
        for one in arm.slices
        if one.decode_speedup_corrected is not None
    ]
    told = [one for one in sides if one is not None]
    return int(any(told)) if told else None


@cache
def _truth() -> Truth:
    return true_values(Population(), Machine(), DRAFT)


def _is_stated(found: list[int | None]) -> bool:
    return len(found) - found.count(None) > FEW * len(found)


def _cell(found: list[int | None]) -> str:
    if not _is_stated(found):
        return "–"
    num_told = len(found) - found.count(None)
    below, above = found.count(-1) / num_told, found.count(1) / num_told
    return f"{100 * coverage(found):.1f} ({100 * below:.1f} / {100 * above:.1f})"
