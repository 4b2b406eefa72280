import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from specmeasure.estimate.sequential import boundaries, look_levels, plan_looks, spent_error

FIFTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.mark.parametrize(
    ("num_looks", "published"),
    [
        (1, [1.9600]),
        (2, [2.9626, 1.9686]),
        (3, [3.7103, 2.5114, 1.9930]),
        (4, [4.3326, 2.9631, 2.3590, 2.0141]),
        (5, [4.8769, 3.3570, 2.6803, 2.2898, 2.0310]),
    ],
)
def test_boundaries_are_the_published_ones(num_looks, published):
    """Equal looks, two-sided 5 %, O'Brien-Fleming-type spending: tables of Lan and DeMets."""
    fractions = [look / num_looks for look in range(1, num_looks + 1)]

    assert published == pytest.approx(boundaries(fractions, 0.05), abs=2e-4)


def test_all_of_the_error_is_spent():
    """At the end of the run it is the whole, whatever it was."""
    for error in (0.1, 0.05, 0.05 / 40):
        assert error == pytest.approx(spent_error(1.0, error))


def test_looks_err_as_often_as_one():
    """A million normal paths without drift, looked at unevenly: 5 % ± 0.07 % cross anywhere."""
    fractions = (0.3, 0.35, 0.7, 0.95, 1.0)
    steps = np.random.default_rng(0).normal(size=(1_000_000, 5))
    score = np.cumsum(steps * np.sqrt(np.diff(fractions, prepend=0)), axis=1)

    crossed = np.abs(score) >= np.sqrt(fractions) * boundaries(fractions, 0.05)

    assert crossed.any(axis=1).mean() == pytest.approx(0.05, abs=3 * 0.00022)


def test_one_look_is_no_correction():
    """A run that is looked at once has the level that was asked for."""
    assert (0.95,) == pytest.approx(look_levels([37], 0.95))


def test_levels_are_those_of_the_boundaries():
    """|Z| below the boundary is what the interval of the level holds."""
    levels = look_levels((40, 80, 120, 160, 200), 0.95)

    assert boundaries(FIFTHS, 0.05) == pytest.approx(
        [stats.norm.isf((1 - level) / 2) for level in levels], rel=1e-6
    )
    assert sorted(levels, reverse=True) == list(levels)


def test_very_early_looks_keep_finite_intervals():
    """No error is left for a look after 1 % of the prompts, but its level is below 1."""
    first, *_ = look_levels((2, 100, 200), 0.95)

    assert 1 - 2e-12 < first < 1


@pytest.mark.parametrize("looks", [(), (20, 20), (30, 20)])
def test_looks_go_forward(looks):
    """Looks without an order have no boundaries."""
    with pytest.raises((ValueError, IndexError)):
        look_levels(looks, 0.95)


@given(st.integers(1, 3000), st.integers(1, 60))
def test_plans_end_at_the_most(max_prompts, min_prompts):
    """At most five looks, forward, the last at the most and none below the fewest."""
    looks = plan_looks(max_prompts, min_prompts)

    assert len(looks) <= 5
    assert list(looks) == sorted(set(looks))
    assert max_prompts == looks[-1]
    assert min(max_prompts, min_prompts) <= looks[0]
