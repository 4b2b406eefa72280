import pytest
from hypothesis import given
from hypothesis import strategies as st

from specmeasure.brief.numbers import (
    NOT_APPLICABLE,
    NOT_MEASURED,
    TIMES,
    byte_size,
    duration,
    noise,
    quantity,
    rate,
    reason,
    seconds,
    speedup,
)
from specmeasure.records.estimates import Unmeasured
from tests.brief.examples import interval

SPEAKERS = (speedup, noise, quantity, rate, seconds)


def test_speedup_has_two_decimals():
    """Value, unit, bounds."""
    assert f"1.42{TIMES} [1.35, 1.49]" == speedup(interval(1.4193, 1.3512, 1.4899))


def test_wide_speedup_keeps_two_decimals():
    """A bound is compared with a threshold in hundredths, however wide the interval."""
    assert f"2.41{TIMES} [1.08, 4.13]" == speedup(interval(2.413, 1.083, 4.127))


def test_wide_quantity_has_one_decimal():
    """An interval of 3 does not support hundredths."""
    assert "2.4 [1.1, 4.1]" == quantity(interval(2.413, 1.083, 4.127))


def test_noise_has_three_decimals():
    """The noise floor is read in thousandths."""
    assert f"1.003{TIMES} [0.994, 1.013]" == noise(interval(1.0034, 0.9941, 1.0127))


@pytest.mark.parametrize(
    ("expected", "estimate"),
    [
        ("71.3 % [69, 73]", interval(0.7132, 0.6912, 0.7299)),
        ("24 % [18, 31]", interval(0.241, 0.181, 0.311)),
        ("71.3 % [71.0, 71.7]", interval(0.7132, 0.7101, 0.7168)),
        ("68.7 % [68.6, 73.0]", interval(0.687, 0.686, 0.730)),  # [69, 73] would exclude 68.7
        ("0.0 % [0.0, 0.0]", interval(0.0, 0.0, 0.0)),
    ],
)
def test_rates(expected, estimate):
    """Shares are percents; bounds are whole percents where those still hold the value."""
    assert expected == rate(estimate)


@pytest.mark.parametrize(
    ("expected", "estimate"),
    [
        ("12.3 ms [12.1, 12.6]", interval(0.01234, 0.0121, 0.0126)),
        ("457 ms [456, 458]", interval(0.4567, 0.4562, 0.4577)),
        ("1.50 s [1.41, 1.59]", interval(1.5, 1.41, 1.59)),
        ("12 µs [10, 20]", interval(1.2e-5, 1e-5, 2e-5)),
    ],
)
def test_seconds(expected, estimate):
    """The value chooses the unit; the bounds share it; three digits at most."""
    assert expected == seconds(estimate)


@pytest.mark.parametrize("speak", SPEAKERS)
def test_unmeasured_is_never_a_number(speak):
    """What was not measured holds no digit, and its reason is to be had."""
    unmeasured = Unmeasured(reason="1 prompt is too few")

    assert NOT_MEASURED == speak(unmeasured)
    assert unmeasured.reason == reason(unmeasured)


@pytest.mark.parametrize("speak", SPEAKERS)
def test_none_does_not_apply(speak):
    """None is a dash, not zero."""
    assert NOT_APPLICABLE == speak(None)


@pytest.mark.parametrize("speak", SPEAKERS)
@given(st.lists(st.floats(1e-4, 1.0), min_size=3, max_size=3))
def test_printed_bounds_hold_the_printed_value(speak, numbers):
    """Rounding never puts the value outside its own interval."""
    low, value, high = sorted(numbers)
    said = speak(interval(value, low, high)).replace(TIMES, " ")
    shown_value, shown_low, shown_high = (
        float(word.strip("[],")) for word in said.split() if word.strip("[],")[0].isdigit()
    )

    assert shown_low <= shown_value <= shown_high


@given(st.floats(0.5, 1.5), st.floats(0.001, 0.4))
def test_last_digit_is_supported(value, half_width):
    """The last digit printed is worth at least a hundredth of the interval's width."""
    said = noise(interval(value, value - half_width, value + half_width))
    digits = len(said.partition(TIMES)[0].partition(".")[2])

    assert 2 * half_width <= 100.0000001 * 10**-digits


@pytest.mark.parametrize(
    ("expected", "num_bytes"),
    [
        ("512 B", 512),
        ("2.00 MiB", 2 * 1024**2),
        ("-2.00 MiB", -2 * 1024**2),
        ("24.0 GiB", 24 * 1024**3),
        ("3000 GiB", 3000 * 1024**3),
        (NOT_APPLICABLE, None),
    ],
)
def test_byte_sizes(expected, num_bytes):
    """Sizes are binary units; unknown is a dash."""
    assert expected == byte_size(num_bytes)


def test_duration_without_interval():
    """Three digits."""
    assert "12.2 ms" == duration(0.01218)
