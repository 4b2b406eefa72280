"""From a pilot's spread to the number of prompts and repeats that a decision needs.

A run decides GO where the lower bound of the decode speedup reaches the policy's threshold. A plan
finds an effect of δ when, at a true speedup of (1 + δ) times the threshold, that happens with the
wished power; NO_GO at the threshold over (1 + δ) is found alike.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.intervals import MIN_PROMPTS
from specmeasure.estimate.pairing import pair_trials
from specmeasure.records.precision import (
    MeasurementPlan,
    PilotCost,
    PromptSpread,
    SlicePlan,
    Wish,
)
from specmeasure.records.trace import Trace, TrialRecord

MOST_REPEATS = 10
FEWEST_PROMPTS = MIN_PROMPTS
# What longer bounds for skewed prompts cost (``intervals``): simulated plans of 40 to 110 prompts
# keep their power with so much more of a quantile, over √n.
SKEWNESS_ALLOWANCE = 1.6
# The embedded pair on its own prompts: 1.45 [1.36, 1.54] over 176 prompts is a spread of 0.42, the
# A/A interval one of 0.05 (reports/LOG.md).
ASSUMED = PromptSpread(between=0.42, within=0.05, num_pilot_prompts=None)


def pilot_spread(trace: Trace) -> PromptSpread:
    """The largest spread of any arm of a pilot run.

    With u the influence of a prompt on log speedup, u_i = n (a_i/Σa − b_i/Σb) over seconds per
    token, between² = Var(mean of u over repeats) − within²/r.

    Raises:
        InsufficientEvidence: fewer than six prompts were answered by both, or on a server.
    """
    plan = trace.manifest.plan
    if plan.serving is not None:
        raise InsufficientEvidence(
            "the pilot ran on a server, where windows are independent and prompts are not; plan "
            "with a pilot in process."
        )
    by_arm = {
        arm.name: [trial for trial in trace.trials if trial.key.arm == arm.name]
        for arm in plan.arms
    }
    spreads = []
    for arm in plan.speculative_arms:
        pairs = pair_trials(by_arm[plan.arms[0].name], by_arm[arm.name])
        influences = _influences(pairs.baseline, pairs.arm)
        spreads.append(_spread(influences))
    return max(spreads, key=lambda spread: spread.between**2 + spread.within**2)


def pilot_cost(trace: Trace) -> PilotCost:
    """Means over the pilot's prompts of what all arms took together, once each."""
    answered = [trial for trial in trace.trials if not trial.failed]
    num_rounds = len({(t.key.prompt_id, t.key.repeat) for t in answered})
    if not num_rounds:
        raise InsufficientEvidence("the pilot has no answered trial.")
    return PilotCost(
        seconds=sum((t.ttft_s or 0.0) + (t.decode_s or 0.0) for t in answered) / num_rounds,
        num_prompt_tokens=sum(t.num_prompt_tokens or 0 for t in answered) / num_rounds,
        num_emitted_tokens=sum(t.num_emitted_tokens or 0 for t in answered) / num_rounds,
    )


def plan_measurement(
    wish: Wish,
    spread: PromptSpread,
    sizes: Mapping[str, int],  # prompts of each category in the corpus
    *,
    cost: PilotCost | None = None,
) -> MeasurementPlan:
    """Prompts first; repeats only where the corpus is too small for one."""
    num_in_corpus = sum(sizes.values())
    repeats = range(1, MOST_REPEATS + 1)
    needs = {r: _needed(wish, spread, r, num_in_corpus, sizes) for r in repeats}
    num_repeats = next((r for r in repeats if needs[r] <= num_in_corpus), 1)
    num_prompts = min(needs[num_repeats], num_in_corpus)
    planned = _shares(sizes, num_prompts)
    num_looks = max(1, len(sizes)) * wish.num_arms
    return MeasurementPlan(
        wish=wish,
        spread=spread,
        num_needed=needs[num_repeats],
        num_prompts=num_prompts,
        num_repeats=num_repeats,
        num_in_corpus=num_in_corpus,
        detectable_effect=detectable_effect(
            num_prompts, spread, num_repeats, wish.power, _error(wish, wish.num_arms)
        ),
        slices=tuple(
            SlicePlan(
                name=name,
                num_in_corpus=size,
                num_planned=planned[name],
                detectable_effect=detectable_effect(
                    planned[name], spread, num_repeats, wish.power, _error(wish, num_looks)
                ),
            )
            for name, size in sizes.items()
        ),
        cost=cost,
    )


def detectable_effect(
    num_prompts: int, spread: PromptSpread, num_repeats: int, power: float, error: float
) -> float | None:
    """The smallest effect that so many prompts tell; None where there are too few for any.

    Formula: δ/(1 + δ) = (t_{1−α/2} + 1.6/√n + t_power) · sqrt((between² + within²/r) / n), with t
    at the pilot's degrees of freedom, or the run's where those are fewer: a pilot's spread is
    itself uncertain (Stein 1945).
    """
    if num_prompts < FEWEST_PROMPTS:
        return None
    degrees = num_prompts - 1
    if spread.num_pilot_prompts is not None:
        degrees = min(degrees, spread.num_pilot_prompts - 1)
    quantiles = stats.t.ppf(1 - error / 2, degrees) + stats.t.ppf(power, degrees)
    quantiles += SKEWNESS_ALLOWANCE / math.sqrt(num_prompts)
    total = math.sqrt(spread.between**2 + spread.within**2 / num_repeats)
    reach = float(quantiles) * total / math.sqrt(num_prompts)
    return reach / (1 - reach) if reach < 1 else None


def _influences(
    baseline: Sequence[Sequence[TrialRecord]], arm: Sequence[Sequence[TrialRecord]]
) -> list[list[float]]:
    """By prompt and repeat; turns of a repeat are summed."""
    rows: list[list[tuple[float, float, float, float]]] = []
    for base_row, arm_row in zip(baseline, arm, strict=True):
        by_repeat: dict[int, list[float]] = {}
        for base, own in zip(base_row, arm_row, strict=True):
            sums = by_repeat.setdefault(own.key.repeat, [0.0] * 4)
            sums[0] += base.decode_s or 0.0
            sums[1] += (base.num_emitted_tokens or 1) - 1
            sums[2] += own.decode_s or 0.0
            sums[3] += (own.num_emitted_tokens or 1) - 1
        rows.append([(s[0], s[1], s[2], s[3]) for s in by_repeat.values()])
    totals = np.array([sums for row in rows for sums in row]).reshape(-1, 4).sum(axis=0)
    if len(rows) < FEWEST_PROMPTS or not totals.all():
        raise InsufficientEvidence(
            f"a plan needs {FEWEST_PROMPTS} prompts or more that every arm answered with two "
            f"tokens or more; the pilot has {len(rows)}. Raise --pilot or --max-new-tokens."
        )
    signs = np.array([1, -1, -1, 1])
    number = sum(map(len, rows))
    return [
        [float(number * (np.array(sums) / totals * signs).sum()) for sums in row] for row in rows
    ]


def _spread(influences: Sequence[Sequence[float]]) -> PromptSpread:
    means = np.array([np.mean(row) for row in influences])
    repeated = [np.var(row, ddof=1) for row in influences if len(row) > 1]
    within = float(np.mean(repeated)) if repeated else 0.0
    num_repeats = np.mean([len(row) for row in influences])
    between = max(0.0, float(np.var(means, ddof=1)) - within / float(num_repeats))
    return PromptSpread(
        between=math.sqrt(between), within=math.sqrt(within), num_pilot_prompts=len(influences)
    )


def _error(wish: Wish, num_looks: int) -> float:
    return (1 - wish.level) / num_looks


def _needed(
    wish: Wish,
    spread: PromptSpread,
    num_repeats: int,
    num_in_corpus: int,
    sizes: Mapping[str, int],
) -> int:
    """Prompts at which the wish is met, in all and, where asked, in every category by its share."""
    needed = max(wish.min_prompts, _enough(wish, spread, num_repeats, num_looks=wish.num_arms))
    if wish.each_slice and sizes:
        looks = len(sizes) * wish.num_arms
        of_slice = _enough(wish, spread, num_repeats, num_looks=looks)
        smallest = min(sizes.values())
        needed = max(needed, math.ceil(of_slice * num_in_corpus / smallest))
    return needed


def _enough(wish: Wish, spread: PromptSpread, num_repeats: int, *, num_looks: int) -> int:
    """The smallest number of prompts whose detectable effect is the wished one, by bisection."""
    low, high = FEWEST_PROMPTS - 1, FEWEST_PROMPTS
    while not _tells(high, wish, spread, num_repeats, num_looks):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if _tells(middle, wish, spread, num_repeats, num_looks):
            high = middle
        else:
            low = middle
    return high


def _tells(
    num_prompts: int, wish: Wish, spread: PromptSpread, num_repeats: int, num_looks: int
) -> bool:
    effect = detectable_effect(
        num_prompts, spread, num_repeats, wish.power, _error(wish, num_looks)
    )
    return effect is not None and effect <= wish.effect


def _shares(sizes: Mapping[str, int], num_prompts: int) -> dict[str, int]:
    """About what a sample by shares gives each category."""
    total = sum(sizes.values())
    return {name: round(size * num_prompts / total) for name, size in sizes.items()}
