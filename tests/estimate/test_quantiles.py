"""Coverage over 1000 simulated runs stands in the docstring of ``quantile``; here are 400."""

import numpy as np
import pytest
from scipy import stats

from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.quantiles import quantile, quantiles, request_times
from specmeasure.records.estimates import Interval, Unmeasured
from tests.fakes import make_block, make_trial

NUM_RUNS = 400
INTERVALS = Intervals()


def waits(rng, num_prompts, num_each, shared):
    """Log-normal waits [R] with their prompts; ``shared`` of the variance lies between prompts."""
    between = rng.normal(size=(num_prompts, 1)) * np.sqrt(shared)
    within = rng.normal(size=(num_prompts, num_each)) * np.sqrt(1 - shared)
    return np.exp(between + within).ravel(), np.repeat(np.arange(num_prompts), num_each)


@pytest.mark.parametrize(
    ("num_prompts", "num_each", "shared", "share"),
    [
        (20, 1, 0.0, 0.50),
        (200, 1, 0.0, 0.50),
        (200, 1, 0.0, 0.95),
        (500, 1, 0.0, 0.99),
        (50, 4, 0.95, 0.50),
        (200, 3, 0.95, 0.95),
    ],
)
def test_quantiles_are_covered(num_prompts, num_each, shared, share):
    """95 % intervals hold the true quantile in 93 to 97 % of runs, ± 2 errors of the count."""
    rng = np.random.default_rng(1)
    truth = float(np.exp(stats.norm.ppf(share)))
    found = [
        quantile(*waits(rng, num_prompts, num_each, shared), share, INTERVALS)
        for _ in range(NUM_RUNS)
    ]
    covered = np.mean([one.low <= truth <= one.high for one in found])

    assert 0.93 - 0.02 <= covered <= 0.97 + 0.02


@pytest.mark.parametrize(
    ("share", "num_requests", "enough"),
    [
        *[(0.50, 5, False), (0.50, 6, True)],
        *[(0.95, 71, False), (0.95, 72, True)],
        *[(0.99, 367, False), (0.99, 368, True)],
    ],
)
def test_a_quantile_needs_requests_beyond_it(share, num_requests, enough):
    """Of n independent requests the slowest passes p99 with a chance of 1 − 0.99^n only."""
    seconds = np.arange(1.0, num_requests + 1)
    found = quantile(seconds, np.arange(num_requests), share, INTERVALS)

    assert enough == isinstance(found, Interval)
    assert enough or "this has fewer" in found.reason or "this has 5" in found.reason


def test_alike_requests_of_few_prompts_count_as_few():
    """Ten prompts asked twenty times each say no more of p95 than ten requests."""
    rng = np.random.default_rng(0)
    seconds, prompt = waits(rng, 10, 20, 0.999)
    found = quantile(seconds, prompt, 0.95, INTERVALS)

    assert isinstance(found, Unmeasured)
    assert "needs 108 requests that are independent" in found.reason


def test_a_quantile_lies_between_neighbours():
    """The median of 1 … 99 is 50; equal waits have an interval without width."""
    assert 50 == quantile(np.arange(1.0, 100.0), np.arange(99), 0.5, INTERVALS).value
    flat = quantile(np.full(99, 2.0), np.arange(99), 0.5, INTERVALS)
    assert (2.0, 2.0, 2.0) == (flat.low, flat.value, flat.high)


def test_a_request_is_one_trial():
    """End to end is first token and decoding; one token has no time per further token."""
    times = request_times(
        [
            make_trial("a", make_block(4, 4), ttft_s=0.5, decode_s=1.0),
            make_trial("b", ttft_s=0.25, decode_s=0.0),
            make_trial("a", make_block(4, 1), ttft_s=0.5, decode_s=1.0),
            make_trial("c", error="out of memory", ttft_s=None, decode_s=None),
        ]
    )

    assert [1.5, 0.25, 1.5] == times.end_to_end_s.tolist()
    assert [0, 1, 0] == times.cluster.tolist()
    assert [0.2, 0.5] == times.tpot_s[~np.isnan(times.tpot_s)].tolist()


def test_unknown_waits_are_left_out():
    """Answers of one token do not move the quantiles of the time per further token."""
    seconds = np.arange(1.0, 100.0)
    some = np.append(seconds, [np.nan, np.nan])

    assert quantiles(seconds, np.arange(99), INTERVALS) == quantiles(
        some, np.arange(101), INTERVALS
    )


def test_no_request_has_no_quantile():
    """An arm that answered nothing: each quantile says so."""
    found = quantiles(np.array([]), np.array([], dtype=np.int64), INTERVALS)

    assert all(isinstance(one, Unmeasured) for one in (found.p50, found.p95, found.p99))
