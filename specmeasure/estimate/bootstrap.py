"""Intervals over prompts: the paired cluster bootstrap, and jackknife-t for few prompts.

A prompt (conversation) is the unit that is resampled, whole, with everything every arm did on it.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from specmeasure.records.estimates import Estimate, Interval, Unmeasured

Floats = NDArray[np.float64]
FEW_PROMPTS = 20  # below it the bootstrap undercovers; see tests/estimate/test_bootstrap.py
Statistic = Callable[..., Floats]  # (*arrays, axis) -> statistic along that axis


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """How intervals are made."""

    seed: int = 0
    num_samples: int = 5000
    level: float = 0.95

    def corrected(self, num_looks: int) -> "Bootstrap":
        """The level at which ``num_looks`` intervals hold together (Bonferroni)."""
        return replace(self, level=1 - (1 - self.level) / max(1, num_looks))

    def interval(self, statistic: Statistic, *arrays: Floats) -> Estimate:
        """A statistic of per-prompt arrays [n], resampled together."""
        num_prompts = len(arrays[0])
        if num_prompts < 2:
            return Unmeasured(reason=f"an interval needs 2 prompts or more, this has {num_prompts}")
        value = float(statistic(*arrays, axis=-1))
        few = num_prompts < FEW_PROMPTS
        low, high = (self._jackknife if few else self._resampled)(statistic, arrays)
        return Interval(
            value=value,
            low=min(low, value),  # a BCa bound can pass the estimate by rounding
            high=max(high, value),
            level=self.level,
            num_prompts=num_prompts,
        )

    def _resampled(self, statistic: Statistic, arrays: Sequence[Floats]) -> tuple[float, float]:
        """BCa (Efron 1987) where the jackknife has spread, else percentiles, else no width."""
        with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
            warnings.simplefilter("ignore")  # degenerate data is handled below
            for method in ("BCa", "percentile"):
                found = stats.bootstrap(
                    tuple(arrays),
                    statistic,
                    paired=True,
                    vectorized=True,
                    n_resamples=self.num_samples,
                    batch=max(1, 2_000_000 // len(arrays[0])),
                    confidence_level=self.level,
                    method=method,
                    rng=np.random.default_rng(self.seed),
                ).confidence_interval
                if np.isfinite([found.low, found.high]).all():
                    return float(found.low), float(found.high)
        value = float(statistic(*arrays, axis=-1))
        return value, value

    def _jackknife(self, statistic: Statistic, arrays: Sequence[Floats]) -> tuple[float, float]:
        """Student's t on the jackknife's standard error (Tukey 1958).

        Resampling a handful of prompts repeats them and comes out too narrow. No bound below 0:
        everything that is estimated here is a rate, a ratio or a time.
        """
        num_prompts = len(arrays[0])
        left_out = np.array(
            [
                float(statistic(*(np.delete(one, place) for one in arrays), axis=-1))
                for place in range(num_prompts)
            ]
        )
        deviation = left_out - left_out.mean()
        error = float(np.sqrt((num_prompts - 1) / num_prompts * (deviation**2).sum()))
        reach = float(stats.t.ppf((1 + self.level) / 2, num_prompts - 1)) * error
        value = float(statistic(*arrays, axis=-1))
        return max(0.0, value - reach), value + reach

    def ratio(self, numerators: Floats, denominators: Floats, *, plus: float = 0) -> Estimate:
        """Σ numerators / Σ denominators + plus; prompts with nothing to count are left out."""
        counted = denominators > 0
        if not counted.any():
            return Unmeasured(reason="nothing was counted")
        return self.interval(
            lambda top, bottom, axis: plus + top.sum(axis=axis) / bottom.sum(axis=axis),
            numerators[counted],
            denominators[counted],
        )

    def median(self, values: Floats) -> Estimate:
        """The median over prompts."""
        return self.interval(lambda one, axis: np.median(one, axis=axis), values)
