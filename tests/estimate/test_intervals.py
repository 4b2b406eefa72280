import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from specmeasure.estimate.intervals import MIN_PROMPTS, Intervals, Spread, resampled_medians
from specmeasure.records.estimates import Interval, Unmeasured

VALUES = np.array([3.0, 5.0, 4.0, 9.0, 2.0, 7.0])


def test_a_symmetric_mean_takes_students_interval():
    """Of a mean, the jackknife's error is the textbook's: s / √n."""
    values = np.array([1.0, 2.0, 4.0, 6.0, 8.0, 9.0])

    found = Intervals().ratio(values, np.ones(6))

    low, high = stats.t.interval(0.95, 5, loc=5.0, scale=values.std(ddof=1) / math.sqrt(6))
    assert (5.0, low, high) == pytest.approx((found.value, found.low, found.high), rel=1e-12)
    assert (0.95, 6) == (found.level, found.num_clusters)


def test_a_dominant_prompt_counts_for_little():
    """Kish: one prompt of three times the others' tokens leaves 5.1 prompts of 7."""
    tokens = np.array([3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])

    found = Intervals().spread(np.divide, tokens * 2, tokens)

    assert pytest.approx(81 / 15) == found.num_effective_prompts
    assert pytest.approx(81 / 15 - 1) == found.degrees


def test_the_long_tail_is_on_the_other_side():
    """One prompt far above the rest: what is not seen lies above, so the upper bound is far."""
    values = np.array([1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 3.0])

    found, mirrored = (
        Intervals().spread(np.divide, one, np.ones(7)) for one in (values, 4 - values)
    )

    quantile = stats.t.ppf(0.975, 6)
    low, high = found.bounds(0.95)
    assert found.skewness > 0.5
    assert found.value - quantile * found.standard_error == pytest.approx(low)
    assert found.value + quantile * found.standard_error < high - 0.5 * found.standard_error
    assert (4 - high, 4 - low) == pytest.approx(mirrored.bounds(0.95))


@pytest.mark.parametrize("skewness", [-0.9, -0.2, -1e-9, 0.0, 0.3, 0.9])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.9999, 1 - 1e-10])
def test_p_values_say_what_intervals_say(skewness, level):
    """At a bound the p-value is 1 − level; within it is larger, beyond it is smaller."""
    spread = Spread(value=1.0, standard_error=0.1, num_prompts=30, skewness=skewness)

    for bound in spread.bounds(level):
        outward = 1e-6 * (bound - spread.value)

        assert 1 - level == pytest.approx(spread.p_value(bound), rel=1e-4)
        assert spread.p_value(bound + outward) < 1 - level < spread.p_value(bound - outward)


@given(st.floats(-0.99, 0.99), st.floats(0.01, 0.99999), st.floats(0.01, 0.99999))
def test_higher_levels_are_wider(skewness, one, other):
    """Whatever the skewness."""
    spread = Spread(value=0.0, standard_error=1.0, num_prompts=9, skewness=skewness)
    low, high = spread.bounds(min(one, other))
    lower, higher = spread.bounds(max(one, other))

    assert lower <= low <= 0 <= high <= higher


def test_an_added_error_is_not_skewed():
    """Third cumulants add: the skewness of a sum falls with the error's share of the variance."""
    own = Spread(value=1.0, standard_error=3.0, num_prompts=11, skewness=0.5)

    assert pytest.approx(0.5 * (9 / 25) ** 1.5) == own.with_error(16.0, 4).skewness


def test_more_looks_need_a_higher_level():
    """Bonferroni: five looks at 95 % hold together when each is at 99 %."""
    assert 0.99 == pytest.approx(Intervals().corrected(5).level)
    assert 0.95 == Intervals().corrected(1).level == Intervals().corrected(0).level


def test_a_higher_level_is_wider():
    """The same numbers at 99 % give an interval around that at 95 %."""
    narrow = Intervals().ratio(VALUES, np.ones(6))
    wide = Intervals(level=0.99).ratio(VALUES, np.ones(6))

    assert wide.low < narrow.low < narrow.value == wide.value < narrow.high < wide.high


def test_equal_prompts_have_no_width():
    """Where every prompt says the same, the interval is a point."""
    found = Intervals().ratio(np.full(6, 2.0), np.full(6, 4.0))

    assert (0.5, 0.5, 0.5) == (found.low, found.value, found.high)


def test_a_prompt_with_nothing_to_count_is_left_out():
    """A zero denominator is no observation of a zero rate."""
    top, bottom = np.array([1.0, 2.0] * 3 + [0.0]), np.array([2.0] * 6 + [0.0])

    found = Intervals().ratio(top, bottom)

    assert (0.75, 6) == (found.value, found.num_clusters)


def test_nothing_counted_is_unmeasured():
    """Zero over zero is not zero."""
    nothing = Intervals().ratio(np.zeros(3), np.zeros(3))

    assert Unmeasured(reason="nothing was counted") == nothing


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8))
def test_a_rate_stays_between_0_and_1(pairs):
    """Neither end of an interval of a rate leaves the range of rates."""
    top = np.array([min(pair) for pair in pairs], dtype=float)
    bottom = np.array([max(pair) for pair in pairs], dtype=float)

    found = Intervals().rate(top, bottom)

    if isinstance(found, Interval):
        assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize("size", range(MIN_PROMPTS))
def test_few_prompts_have_no_interval(size):
    """Every kind of interval needs some prompts and says how many, and how many there are."""
    intervals = Intervals()
    few = VALUES[:size]

    for found in (
        intervals.smooth(lambda one: one, few),
        intervals.median(few),
        intervals.share(few > 0),
    ):
        assert (
            Unmeasured(
                reason=f"not enough prompts: an interval needs {MIN_PROMPTS}, this has {size}"
            )
            == found
        )


def test_a_median_is_the_sample_median():
    """The percentile bootstrap stays within the sample and repeats with its seed."""
    found = Intervals(num_resamples=500).median(VALUES)

    assert 4.5 == found.value
    assert VALUES.min() <= found.low < found.value < found.high <= VALUES.max()
    assert found == Intervals(num_resamples=500).median(VALUES)


def test_equal_values_have_a_median_without_width():
    """Resampling equal values is no reason for NaN or a warning."""
    found = Intervals(num_resamples=50).median(np.full(7, 1.5))

    assert (1.5, 1.5, 1.5) == (found.low, found.value, found.high)


@pytest.mark.parametrize(("num_true", "low", "high"), [(0, 0.0, 0.2775), (5, 0.2366, 0.7634)])
def test_a_share_takes_wilsons_interval(num_true, low, high):
    """Of ten prompts: none, and half of them (Wilson 1927; z = 1.96)."""
    found = Intervals().share(np.arange(10) < num_true)

    assert (num_true / 10, low, high) == pytest.approx(
        (found.value, found.low, found.high), abs=1e-4
    )


def test_a_rate_of_all_or_nothing_has_width():
    """Every prompt at 1 (or 0) leaves Wilson's bound for that many prompts, not certainty."""
    ones = np.ones(6)
    all_kept = Intervals().rate(ones, ones)
    none_kept = Intervals().rate(np.zeros(6), ones)

    assert isinstance(all_kept, Interval)
    assert isinstance(none_kept, Interval)
    assert (1.0, 1.0) == (all_kept.value, all_kept.high)
    assert 0.6 < all_kept.low < 0.7
    assert 0.3 < none_kept.high < 0.4


def test_small_sums_survive_beside_large_ones():
    """Leaving a large prompt out leaves the small ones' sum, not the rounding of a difference."""
    large = np.array([1e20, 1.0, 2.0, 3.0, 4.0, 5.0])

    found = Intervals().spread(lambda one: 1 / one, large)

    left_out = np.array([1 / 15, 0, 0, 0, 0, 0])
    assert math.sqrt(5 * left_out.var()) == pytest.approx(found.standard_error)


def test_two_errors_add_up():
    """Variances add; degrees of freedom follow Satterthwaite: two alike have twice those of one."""
    own = Spread(value=1.0, standard_error=3.0, num_prompts=11)

    both = own.with_error(16.0, 4)
    alike = own.with_error(9.0, 10)

    assert (5.0, 25**2 / (81 / 10 + 256 / 4)) == pytest.approx((both.standard_error, both.degrees))
    assert 20 == pytest.approx(alike.degrees)
    assert own == own.with_error(0.0, 0)


def test_bounds_stay_where_values_can_be():
    """A correlation may be negative, and is within −1 and 1; a ratio is not negative."""
    wide = Spread(value=-0.5, standard_error=2.0, num_prompts=5)

    found = Intervals().around(wide, least=-1, most=1)

    assert (-1, -0.5, 1) == (found.low, found.value, found.high)
    assert 0 == Intervals().around(Spread(value=0.5, standard_error=2.0, num_prompts=5)).low


@pytest.mark.parametrize(("value", "certain"), [(1 + 1e-15, 1.0), (1 - 1e-15, 1.0), (1e-15, 0.0)])
def test_rounding_hides_no_certainty(value, certain):
    """Expected counts that say all or nothing but for rounding take Wilson's bound all the same."""
    found = Intervals().rate(np.full(6, value), np.ones(6))

    assert found == Intervals().rate(np.full(6, certain), np.ones(6))


@pytest.mark.parametrize("num_values", [7, 20, 51])
def test_medians_are_resampled_by_rank(num_values):
    """Drawing the middle ranks gives the law of scipy's bootstrap, which draws the resamples."""
    values = np.random.default_rng(5).lognormal(size=num_values)
    found = resampled_medians(values, 20_000, rng=np.random.default_rng(6))
    expected = stats.bootstrap(
        (values,), np.median, n_resamples=20_000, rng=np.random.default_rng(7)
    ).bootstrap_distribution

    assert stats.ks_2samp(found, expected).pvalue > 0.01
