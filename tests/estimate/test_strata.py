"""Workers as strata: prompts vary within one, workers are given."""

import numpy as np
import pytest

from specmeasure.estimate import strata
from specmeasure.estimate.intervals import Intervals

SIZES = (20, 12, 30)
PACES = (1.0, 1.6, 0.6)  # seconds of a worker, relative to each other
SPEEDUPS = (1.4, 1.55, 1.25)


def ratio(base_s, arm_s):
    return base_s / arm_s


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        ([0, 0, 1, 1], [0, 0, 1, 1]),
        ([5, 5, 9, 9, 9], [0, 0, 1, 1, 1]),
        ([0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 1]),  # joined with the smallest
        ([0, 0, 1, 2, 3], [0, 0, 1, 1, 1]),  # those of one prompt are one worker
        ([4], [0]),
    ],
)
def test_no_stratum_has_one_prompt(workers, expected):
    """Workers of a single prompt are joined, alone with the smallest of the others."""
    assert expected == strata.joined(np.array(workers)).tolist()


def test_the_variance_is_that_of_a_stratified_sum():
    """By hand, of a mean: Σ_h n_h s_h² / N², whatever sets the workers apart."""
    rng = np.random.default_rng(0)
    workers = np.repeat([0, 1, 2], (2, 5, 9))
    values = rng.normal(0, 1, 16) + 100.0 * workers + 1000
    found = Intervals().spread(ratio, values, np.ones(16), strata=workers)
    variances = [np.var(values[workers == worker], ddof=1) for worker in range(3)]

    parts = np.array([2, 5, 9]) * variances / 16**2
    assert parts.sum() == pytest.approx(found.standard_error**2)
    assert min(16 - 3, parts.sum() ** 2 / (parts**2 / [1, 4, 8]).sum()) == pytest.approx(
        found.degrees
    )


def test_sums_keep_what_is_small_beside_one_of_their_own():
    """Of 10^17, 1 and 1 on one worker, what is left without the first is not 0."""
    workers = np.array([0, 0, 0, 1, 1])
    found = strata.sums_without_each(np.array([1e17, 1.0, 1.0, 2.0, 3.0]), workers)

    assert 5 + 3 / 2 * 2 == found[0]


def test_a_slow_worker_of_few_prompts_decides_how_sure_the_error_is():
    """Three prompts on a worker 40 times slower carry the spread: 95 % still hold the truth."""
    rng = np.random.default_rng(5)
    workers = np.repeat([0, 1], (200, 3))
    pace = np.where(workers == 0, 1.0, 40.0)
    truth, held = 1.5, []
    for _ in range(800):
        noise = rng.normal(1, 0.1, 203)
        found = Intervals().smooth(ratio, pace, pace * noise / truth, strata=workers)
        held.append(found.low <= truth <= found.high)

    assert 0.93 <= np.mean(held)


def test_one_worker_is_no_stratum():
    """The numbers of a run on one worker are those of a run in one process, to the last bit."""
    rng = np.random.default_rng(1)
    base_s, arm_s = rng.lognormal(size=(2, 40))

    assert Intervals().spread(ratio, base_s, arm_s) == Intervals().spread(
        ratio, base_s, arm_s, strata=np.full(40, 7)
    )


def test_intervals_hold_the_truth_over_unlike_workers():
    """95 % intervals over three workers of unlike speed and speedup hold it in 93 to 97 %."""
    rng = np.random.default_rng(2)
    workers = np.repeat(np.arange(3), SIZES)
    pace, speedup = np.array(PACES)[workers], np.array(SPEEDUPS)[workers]
    truth = pace.sum() / (pace / speedup).sum()
    held = []
    for _ in range(1000):
        base_s = pace * rng.lognormal(-0.18, 0.6, len(workers))
        arm_s = base_s / speedup * rng.lognormal(-0.045, 0.3, len(workers))
        found = Intervals().smooth(ratio, base_s, arm_s, strata=workers)
        held.append(found.low <= truth <= found.high)

    assert 0.93 <= np.mean(held) <= 0.97
