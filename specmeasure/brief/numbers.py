"""How numbers are spoken: never more digits than the interval supports, never one for "unknown".

The last digit shown is between a tenth and a hundredth of the interval's width. Speedups alone have
two decimals always, as their thresholds and the decision's findings do. Bounds are rounded to
nearest, so a bound within half a last digit of a threshold can print as the threshold.
"""

import math
from collections.abc import Callable

from specmeasure.records import amounts
from specmeasure.records.amounts import three_digits
from specmeasure.records.estimates import Estimate, Interval, Unmeasured, percent

NOT_MEASURED = "not measured"
NOT_APPLICABLE = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"
count = amounts.count


def speedup(estimate: Estimate | None) -> str:
    """A ratio of times with its interval, in hundredths."""
    return _spoken(estimate, lambda interval: _factor(interval, digits=2, unit=TIMES))


def noise(estimate: Estimate | None) -> str:
    """A ratio of times that should be 1, so its third decimal matters."""
    return _spoken(
        estimate,
        lambda interval: _factor(interval, digits=_digits(interval, at_most=3), unit=TIMES),
    )


def quantity(estimate: Estimate | None) -> str:
    """A number without a unit, such as tokens per target pass."""
    return _spoken(
        estimate, lambda interval: _factor(interval, digits=_digits(interval, at_most=2))
    )


def rate(estimate: Estimate | None) -> str:
    """A share from 0 to 1 in percent; its bounds in whole percents where they are 3 or more apart.

    >>> rate(Interval(value=0.7132, low=0.6912, high=0.7299, level=0.95, num_clusters=160))
    '71.3 % [69, 73]'
    """
    return _spoken(estimate, _percent)


def points(estimate: Estimate | None) -> str:
    """A difference of shares in percentage points.

    >>> points(Interval(value=-0.0132, low=-0.0312, high=0.0049, level=0.95, num_clusters=160))
    '-1.3 points [-3.1, +0.5]'
    """
    return _spoken(estimate, _percentage_points)


def nats(estimate: Estimate | None) -> str:
    """Nats per token, whose third and fourth decimals matter."""
    return _spoken(
        estimate, lambda interval: _factor(interval, digits=_digits(interval, at_most=4))
    )


def chance(probability: float) -> str:
    """A p-value, two digits.

    >>> chance(0.4271), chance(0.0000012)
    ('0.43', 'below 0.0001')
    """
    return "below 0.0001" if probability < 1e-4 else f"{probability:.2g}"


def share(value: float) -> str:
    """A share that has no interval, in percent with three digits.

    >>> share(0.01234), share(1)
    ('1.23 %', '100 %')
    """
    return f"{100 * value:.3g} %"


def seconds(estimate: Estimate | None) -> str:
    """A duration in the unit that suits it, three digits at most.

    >>> seconds(Interval(value=0.01234, low=0.0121, high=0.0126, level=0.95, num_clusters=160))
    '12.3 ms [12.1, 12.6]'
    """
    return _spoken(estimate, _interval_of_time)


def duration(value_s: float) -> str:
    """A duration that has no interval, three digits."""
    unit, size_s = _time_unit(value_s)
    return f"{value_s / size_s:.{three_digits(value_s / size_s)}f} {unit}"


def byte_size(num_bytes: int | None) -> str:
    """A size in binary units, three digits.

    >>> byte_size(13_631_488), byte_size(None)
    ('13.0 MiB', '–')
    """
    return NOT_APPLICABLE if num_bytes is None else amounts.byte_size(num_bytes)


def level(confidence: float) -> str:
    """A confidence level.

    >>> level(0.95), level(0.9916667)
    ('95 %', '99.17 %')
    """
    return f"{percent(confidence)} %"


def gap(delta: float | None, noise: float | None) -> str:
    """A difference of logits, with the rounding noise at its place behind it."""
    if delta is None or noise is None:
        return NOT_APPLICABLE
    return f"{delta:.2g} ({noise:.2g})"


def reason(estimate: object) -> str | None:
    """Why something was not measured, for a footnote; None when it was, or does not apply."""
    return estimate.reason if isinstance(estimate, Unmeasured) else None


def _spoken(estimate: Estimate | None, speak: Callable[[Interval], str]) -> str:
    match estimate:
        case None:
            return NOT_APPLICABLE
        case Unmeasured():
            return NOT_MEASURED
        case Interval():
            return speak(estimate)


def _digits(interval: Interval, *, at_most: int) -> int:
    return _supported_digits(interval.high - interval.low, at_most=at_most)


def _factor(interval: Interval, *, digits: int, unit: str = "") -> str:
    bounds = f"[{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
    return f"{interval.value:.{digits}f}{unit} {bounds}"


def _percent(interval: Interval) -> str:
    value, low, high = (100 * share for share in (interval.value, interval.low, interval.high))
    digits = _supported_digits(high - low, at_most=1)
    bound_digits = digits if high - low < 3 else 0
    if not round(low, bound_digits) <= round(value, digits) <= round(high, bound_digits):
        bound_digits = digits
    return f"{value:.{digits}f} % [{low:.{bound_digits}f}, {high:.{bound_digits}f}]"


def _percentage_points(interval: Interval) -> str:
    value, low, high = (100 * share for share in (interval.value, interval.low, interval.high))
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"


def _interval_of_time(interval: Interval) -> str:
    unit, size_s = _time_unit(interval.value)
    value, low, high = (t / size_s for t in (interval.value, interval.low, interval.high))
    digits = _supported_digits(high - low, at_most=three_digits(value))
    return f"{value:.{digits}f} {unit} [{low:.{digits}f}, {high:.{digits}f}]"


def _supported_digits(width: float, *, at_most: int) -> int:
    if width <= 0:  # every resample agreed: the bounds say so, more decimals would not
        return at_most
    return min(max(1 - math.floor(math.log10(width)), 0), at_most)


def _time_unit(value_s: float) -> tuple[str, float]:
    for unit, size_s in (("s", 1.0), ("ms", 1e-3)):
        if value_s >= size_s:
            return unit, size_s
    return "µs", 1e-6
