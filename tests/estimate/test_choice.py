"""The K that is chosen, those that are as good, and what the choice is worth."""

import numpy as np
import pytest

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.choice import choose_length, split_halves
from specmeasure.estimate.cost import Spending
from specmeasure.estimate.intervals import Intervals
from specmeasure.records.estimates import Unmeasured

INTERVALS = Intervals()


def spent(baseline_s, speculative_s, *, resampled=None):
    """Seconds [n] and [n, K] of one answer a prompt; ``resampled`` totals [K, R] or none."""
    totals = np.sum(speculative_s, axis=0)[:, None]
    rounds = totals if resampled is None else np.hstack([totals, resampled])
    return Spending(
        baseline_s=np.asarray(baseline_s),
        speculative_s=np.asarray(speculative_s),
        part_baseline_s=np.full((1, rounds.shape[1]), np.sum(baseline_s)),
        part_speculative_s=rounds[None],
        num_rounds=1 if resampled is None else 5,
    )


def choose(spending, *, categories=None, seed=0):
    n = len(spending.baseline_s)
    return choose_length(spending, np.arange(n), categories or ["chat"] * n, INTERVALS, seed=seed)


def unequal(num_prompts, ratios, *, noise, seed):
    """Prompts of different lengths, each K's seconds a ratio of them, apart by ``noise``."""
    rng = np.random.default_rng(seed)
    baseline_s = np.exp(0.5 * rng.normal(size=num_prompts))
    own = np.exp(noise * rng.normal(size=(num_prompts, len(ratios))) - noise**2 / 2)
    return spent(baseline_s, baseline_s[:, None] * ratios * own)


def test_the_fastest_length_is_chosen():
    """Without noise: the best K on all and on both halves, told from all others, worth itself."""
    found = choose(unequal(20, [0.8, 0.5, 0.6], noise=0.0, seed=0))

    assert (2, (2,), (2, 2)) == (found.best, found.indistinguishable, found.chosen_by_half)
    assert 2.0 == pytest.approx(found.cross_fitted_speedup.value)
    assert 0.0 == pytest.approx(found.oracle_gain, abs=1e-12)


def test_equal_lengths_are_not_told_apart():
    """The same seconds: the shortest is chosen, all are as good."""
    found = choose(unequal(20, [0.5, 0.5, 0.5], noise=0.0, seed=0))

    assert (1, (1, 2, 3), (1, 1)) == (found.best, found.indistinguishable, found.chosen_by_half)


def test_noisy_costs_tell_less():
    """The same prompts at a table whose rounds disagree by 10 %: more Ks are as good."""
    sure = unequal(40, [0.5, 0.52, 0.8], noise=0.01, seed=0)
    spread = np.exp(0.1 * np.random.default_rng(1).normal(size=(3, 200)))
    unsure = spent(
        sure.baseline_s, sure.speculative_s, resampled=sure.part_speculative_s[0] * spread
    )

    assert (1,) == choose(sure).indistinguishable
    assert (1, 2) == choose(unsure).indistinguishable


def test_each_half_is_valued_at_the_others_choice():
    """By hand: the halves prefer different Ks, and both get the wrong one."""
    first = split_halves(["chat"] * 6, seed=0)
    speculative_s = np.where(first[:, None], [1.0, 2.0], [2.0, 1.0])

    found = choose(spent(np.full(6, 3.0), speculative_s))

    assert (1, 2) == found.chosen_by_half
    assert 1.5 == found.cross_fitted_speedup.value
    assert 0.5 == found.oracle_gain


def test_halves_hold_half_of_every_category():
    """Seeded, and stratified."""
    categories = ["a"] * 10 + ["b"] * 4 + ["c"] * 6

    first = split_halves(categories, seed=3)

    assert [5, 2, 3] == [first[:10].sum(), first[10:14].sum(), first[14:].sum()]
    assert (first == split_halves(categories, seed=3)).all()
    assert (first != split_halves(categories, seed=4)).any()


@pytest.mark.parametrize("num_prompts", [1, 3])
def test_few_prompts_choose_without_intervals(num_prompts):
    """The best K stands; nothing is told from it, and no interval is given."""
    found = choose(unequal(num_prompts, [0.8, 0.5], noise=0.0, seed=0))

    assert (2, (1, 2)) == (found.best, found.indistinguishable)
    assert isinstance(found.cross_fitted_speedup, Unmeasured)


def test_prompts_without_decoding_do_not_count():
    """Answers of one token take no decode time, with any K."""
    longer = unequal(9, [0.8, 0.5], noise=0.1, seed=0)
    with_short = spent(
        np.append(longer.baseline_s, [0.0, 0.0]),
        np.vstack([longer.speculative_s, np.zeros((2, 2))]),
    )

    assert choose(longer) == choose(with_short)


def test_nothing_to_decode_is_refused():
    """No K of no work is best."""
    with pytest.raises(InsufficientEvidence, match="no answer is longer than one token"):
        choose(spent(np.zeros(5), np.zeros((5, 2))))


@pytest.fixture(scope="module")
def luck():
    """400 workloads of 40 prompts on which eight Ks are equally fast: 1.25 times."""
    workloads = [unequal(40, [0.8] * 8, noise=0.4, seed=seed) for seed in range(400)]
    return workloads, [choose(one, seed=seed) for seed, one in enumerate(workloads)]


@pytest.mark.slow
def test_cross_fitting_is_not_optimistic(luck):
    """Choosing by luck gains nothing on the other half; on the same prompts it seems to.

    Within 4 standard errors of the mean of 400, and of a ratio's own bias of under 0.5 %.
    """
    workloads, choices = luck
    naive = np.array(
        [
            one.baseline_s.sum() / one.speculative_s[:, choice.best - 1].sum()
            for one, choice in zip(workloads, choices, strict=True)
        ]
    )
    fitted = np.array([choice.cross_fitted_speedup.value for choice in choices])
    error = fitted.std() / np.sqrt(len(fitted))

    assert abs(fitted.mean() - 1.25) <= 4 * error + 0.005 * 1.25
    assert naive.mean() > fitted.mean() + 10 * error


@pytest.mark.slow
def test_the_truly_fastest_is_kept(luck):
    """A K that is as fast as any is left out in 5 % of the workloads at most.

    Each of eight here is; 400 workloads know a share of 5 % to 1.1 %.
    """
    _, choices = luck
    left_out = [np.mean([k not in one.indistinguishable for one in choices]) for k in range(1, 9)]

    assert max(left_out) <= 0.05 + 2 * 0.011
