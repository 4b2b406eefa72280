"""Which K to run a candidate with, and what choosing it is worth.

A K that was chosen on the prompts it is valued on looks better than it is. So each half of the
prompts is valued at the K that the other half chose. Both halves take the same costs: chance in the
table's timing is not undone this way. The interval takes both choices as given, which is narrow
where they are luck: among eight equally fast Ks, each as unlike the others as other prompts would
be, nominal 95 % covers 89 %.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.cost import CostError, Spending, speedup_spread
from specmeasure.estimate.intervals import Floats, Intervals, Spread
from specmeasure.estimate.replay import Whole, sums_by_prompt
from specmeasure.records.prediction import LengthChoice

_SAME = 1e-9  # relative: seconds that differ by less are sums of the same terms


def choose_length(
    spending: Spending,
    prompts: Whole,  # [A] the number of each answer's prompt
    categories: Sequence[str],  # [n] of the prompts
    intervals: Intervals,
    *,
    seed: int,
) -> LengthChoice:
    """Choose by seconds over all prompts; cross-fit on halves that ``seed`` draws.

    Raises:
        InsufficientEvidence: no answer is longer than one token.
    """
    baseline_s = sums_by_prompt(spending.baseline_s, prompts)
    speculative_s = sums_by_prompt(spending.speculative_s, prompts)
    counted = baseline_s > 0
    if not counted.any():
        raise InsufficientEvidence(
            "no answer is longer than one token, so that there is nothing to speed up. "
            "Raise --max-new-tokens, or ask for longer answers."
        )
    baseline_s, speculative_s = baseline_s[counted], speculative_s[counted]
    best = _fastest(speculative_s)
    first = split_halves(np.array(categories)[counted].tolist(), seed=seed)
    chosen = [_fastest(speculative_s[half]) if half.any() else best for half in (first, ~first)]
    fitted_s = np.where(first, speculative_s[:, chosen[1] - 1], speculative_s[:, chosen[0] - 1])
    fitted = speedup_spread(baseline_s, fitted_s, spending.cost_error(best), intervals)
    oracle_s = speculative_s.min(axis=1).sum()
    return LengthChoice(
        best=best,
        indistinguishable=_indistinguishable(spending, speculative_s, best, intervals),
        chosen_by_half=(chosen[0], chosen[1]),
        cross_fitted_speedup=intervals.around(fitted) if isinstance(fitted, Spread) else fitted,
        oracle_gain=max(0.0, float(speculative_s[:, best - 1].sum() / oracle_s) - 1),
    )


def split_halves(categories: Sequence[str], *, seed: int) -> NDArray[np.bool_]:
    """Half of the prompts at random, and half of every category, but for one each.

    >>> int(split_halves(["a", "b", "a", "b"], seed=0).sum())
    2
    """
    shuffled = np.random.default_rng(seed).permutation(len(categories))
    by_category = shuffled[np.argsort(np.array(categories)[shuffled], kind="stable")]
    first = np.zeros(len(categories), dtype=np.bool_)
    first[by_category[::2]] = True
    return first


def _fastest(speculative_s: Floats) -> int:
    """The K of least seconds over these prompts [n, K]; of equal ones the shortest."""
    totals = speculative_s.sum(axis=0)
    return int(np.argmax(totals <= totals.min() * (1 + _SAME))) + 1


def _indistinguishable(
    spending: Spending, speculative_s: Floats, best: int, intervals: Intervals
) -> tuple[int, ...]:
    """Ks whose seconds may be the best's: the interval of their log ratio holds 0.

    The same prompts at the same costs are compared, with both errors. Bonferroni over the K − 1
    others keeps whichever is truly fastest among them at the level: it is left out only where its
    own comparison with the chosen one errs.
    """
    most = speculative_s.shape[1]
    looks = intervals.corrected(most - 1)
    of_part = spending.part_speculative_s[0]  # [K, R]
    found = []
    for k in range(1, most + 1):
        resampled = np.log(of_part[k - 1, 1:] / of_part[best - 1, 1:])
        ratio = looks.spread(_log_ratio, speculative_s[:, k - 1], speculative_s[:, best - 1])
        if isinstance(ratio, Spread):
            ratio = CostError.of(resampled, spending.num_rounds).added_to(ratio)
            told = abs(ratio.value) > _SAME and ratio.p_value(0.0) < 1 - looks.level
        else:
            told = False  # too few prompts tell nothing
        if not told:
            found.append(k)
    return tuple(found)


def _log_ratio(one_s: Floats, other_s: Floats) -> Floats:
    return np.asarray(np.log(one_s / other_s))
