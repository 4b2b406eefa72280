"""What the test of uniformity is said to show, it shows."""

from dataclasses import replace

import numpy as np
from scipy import stats

from specmeasure.estimate.audit_power import detectable_shift
from specmeasure.estimate.sampled_drift import LEVEL, POWER
from specmeasure.records.estimates import SampledLosslessness

NUM_TOKENS = 2000
AUDIT = SampledLosslessness(
    num_trials=1,
    num_tokens=NUM_TOKENS,
    num_impossible=0,
    p_uniform=1.0,
    p_baseline=None,
    p_surprise=1.0,
    p_pull=None,
    p_value=1.0,
    excess_nats=0.0,
    pull_share=None,
    detectable_share=None,
    detectable_acceptance=None,
)


def test_a_shift_of_this_size_is_found_as_often_as_said():
    """Chance moved across any place of the unit interval; the worst is the middle."""
    rng, shift, num_tests = np.random.default_rng(5), detectable_shift(AUDIT), 2
    found = {}
    for place in (0.2, 0.5, 0.8):
        shares = []
        for _ in range(300):
            below = rng.random(NUM_TOKENS) < place + shift
            uniform = rng.random(NUM_TOKENS)
            pit = np.where(below, uniform * place, place + uniform * (1 - place))
            shares.append(stats.kstest(pit, "uniform").pvalue < LEVEL / num_tests)
        found[place] = float(np.mean(shares))

    assert min(found.values()) > POWER - 0.07, found  # three standard errors


def test_four_times_the_tokens_show_half_the_shift():
    """Precision grows with the root of the tokens."""
    more = replace(AUDIT, num_tokens=4 * NUM_TOKENS)

    assert np.isclose(detectable_shift(AUDIT), 2 * detectable_shift(more))
