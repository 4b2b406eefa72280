"""Do sampled tokens follow the target's own law? Four tests of the teacher-forced audits.

Each test is exact given the text before every token, whatever that text is, so tokens count one by
one and prompts are no clusters here. Every trial has a seed of its own: none counts twice. A law
that is itself off (half precision at a low temperature) shows in the baseline's tokens as well.
"""

import math
from collections.abc import Sequence
from functools import reduce
from operator import add

from scipy import stats

from specmeasure.estimate.trials import Trials
from specmeasure.records.estimates import SampledLosslessness, Unmeasured
from specmeasure.records.trace import Pull, SampledAudit, Score, TrialRecord

LEVEL, POWER = 0.05, 0.8  # at which what could have been found is stated
ROUNDING = 1e-6  # of a token's score in float32; sums that this explains say nothing


def sampled_losslessness(
    trials: Sequence[TrialRecord], baseline: Sequence[TrialRecord]
) -> SampledLosslessness | Unmeasured | None:
    """The tests of one arm's sampled trials; None where it sampled nothing.

    Args:
        trials: of the arm, greedy ones among them or not.
        baseline: trials that decoded without drafts, other ones than ``trials``.
    """
    answered = Trials.of(trials).answered()
    sampled = answered.where(~answered.table.is_greedy)
    if not sampled:
        return None
    audits = _audits(sampled)
    if not audits:
        return Unmeasured(reason="no sampled answer was checked against the target")
    pit = [one for audit in audits for one in audit.pit]
    others = [one for audit in _audits(baseline) for one in audit.pit]
    surprise = reduce(add, (audit.surprise for audit in audits))
    pull = _whole_pull(audits)
    p_uniform = float(stats.kstest(pit, "uniform").pvalue)
    p_baseline = float(stats.ks_2samp(pit, others, method="asymp").pvalue) if others else None
    p_surprise = chance_both_sides(surprise, len(pit))
    p_pull = chance_above(pull.score, pull.num_judged) if pull else None
    tests = [p for p in (p_uniform, p_baseline, p_surprise, p_pull) if p is not None]
    detectable = _detectable_share(pull, len(tests)) if pull else None
    return SampledLosslessness(
        num_trials=len(audits),
        num_tokens=len(pit),
        num_impossible=sum(audit.num_impossible for audit in audits),
        p_uniform=p_uniform,
        p_baseline=p_baseline,
        p_surprise=p_surprise,
        p_pull=p_pull,
        p_value=min(1.0, min(tests) * len(tests)),
        excess_nats=surprise.excess / len(pit),
        pull_share=pull.score.excess / pull.shift if pull else None,
        detectable_share=detectable,
        detectable_acceptance=(
            detectable * pull.total_variation / pull.num_judged if detectable and pull else None
        ),
    )


def chance_above(score: Score, num_tokens: int) -> float:
    """Chance of a sum as large as this, or larger, if the tokens follow the target.

    The sum's law is taken as Pearson's third with its variance and skewness: where single rare
    tokens decide, a normal law's tail is orders of magnitude too thin. A sum that is not above its
    mean is no evidence, however lopsided the law.
    """
    slack = ROUNDING * num_tokens
    if score.variance <= slack**2:
        return 1.0
    deviation = math.sqrt(score.variance)
    beyond = (score.excess - slack) / deviation
    chance = float(stats.pearson3.sf(beyond, score.third_moment / deviation**3))
    return chance if beyond > 0 else max(0.5, chance)


def chance_both_sides(score: Score, num_tokens: int) -> float:
    """Chance of a sum as far from 0 as this, the nearer tail counted twice."""
    mirrored = Score(
        excess=-score.excess, variance=score.variance, third_moment=-score.third_moment
    )
    sides = (chance_above(score, num_tokens), chance_above(mirrored, num_tokens))
    return min(1.0, 2 * min(sides))


def _audits(trials: Sequence[TrialRecord]) -> list[SampledAudit]:
    return [trial.sampled_audit for trial in trials if trial.sampled_audit is not None]


def _whole_pull(audits: Sequence[SampledAudit]) -> Pull | None:
    """All judged drafts; None where none was, or where draft and target are one law."""
    pulls = [audit.pull for audit in audits if audit.pull is not None]
    shift = math.fsum(one.shift for one in pulls)
    if shift <= ROUNDING * sum(one.num_judged for one in pulls):
        return None
    return Pull(
        score=reduce(add, (one.score for one in pulls)),
        shift=shift,
        num_judged=sum(one.num_judged for one in pulls),
        total_variation=math.fsum(one.total_variation for one in pulls),
    )


def _detectable_share(pull: Pull, num_tests: int) -> float:
    """ε that the pull finds with a chance of ``POWER`` at ``LEVEL`` shared by all tests.

    Formula: (z of LEVEL / tests + z of POWER) · sd of the sum / shift; normal, for planning.
    """
    quantiles = stats.norm.isf(LEVEL / num_tests) + stats.norm.ppf(POWER)
    return float(quantiles * math.sqrt(pull.score.variance) / pull.shift)
