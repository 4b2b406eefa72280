"""What a test of sampled tokens could have shown where no draft's law is known."""

import math

from scipy import stats

from specmeasure.estimate.sampled_drift import LEVEL, POWER
from specmeasure.records.estimates import SampledLosslessness

_LARGEST_SD = 0.5  # of a share's indicator, whatever the share


def detectable_shift(audit: SampledLosslessness) -> float:
    """The shift of chance that the uniformity test finds with a chance of ``POWER`` or more.

    A fault that moves so much chance from the target's likelier tokens to its less likely ones, or
    back, shifts the transforms' distribution by as much somewhere; there the empirical one is a
    mean of indicators, whose standard deviation is ½ at most.

    Formula: (Kolmogorov's quantile of LEVEL / tests + ½ · z of POWER) / √tokens.
    """
    tests = (audit.p_uniform, audit.p_baseline, audit.p_surprise, audit.p_pull)
    num_tests = sum(p is not None for p in tests)
    critical = stats.kstwobign.isf(LEVEL / num_tests)
    return float((critical + _LARGEST_SD * stats.norm.ppf(POWER)) / math.sqrt(audit.num_tokens))
