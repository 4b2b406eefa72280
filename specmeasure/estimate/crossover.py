"""Where speculation stops paying as requests run side by side."""

from collections.abc import Sequence

from specmeasure.records.estimates import ArmEstimates, Estimate, Interval
from specmeasure.records.load_curve import Crossover, LoadPoint

FEWEST_POINTS = 2


def crossovers(points: Sequence[LoadPoint]) -> tuple[Crossover, ...]:
    """By arm, of decode speedups that were measured at two concurrencies or more.

    An arm pays where the interval of its decode speedup lies above 1, at the level that is
    corrected for the arms tried. Each load's interval holds at that level; the crossover is found
    by looking at them in turn until the first that does not.
    """
    found = (_crossover(arm, measured_speedups(points, arm)) for arm in _arms(points))
    return tuple(one for one in found if one is not None)


def measured_speedups(points: Sequence[LoadPoint], arm: str) -> dict[int, Interval]:
    """Decode speedups by concurrency, rising, at the level corrected for the arms tried.

    Rates of arrival and unmeasured points are left out; of several points at one concurrency the
    last stands.
    """
    by_concurrency = {
        point.load.concurrency: speedup
        for point in points
        if point.load.concurrency is not None
        and isinstance(speedup := _speedup(point, arm), Interval)
    }
    return dict(sorted(by_concurrency.items()))


def _crossover(arm: str, speedups: dict[int, Interval]) -> Crossover | None:
    if len(speedups) < FEWEST_POINTS:
        return None
    pays_up_to, ends_at = None, None
    for concurrency, speedup in speedups.items():
        if speedup.low <= 1:
            ends_at = concurrency
            break
        pays_up_to = concurrency
    return Crossover(arm=arm, pays_up_to=pays_up_to, ends_at=ends_at)


def _arms(points: Sequence[LoadPoint]) -> list[str]:
    return list(dict.fromkeys(arm.name for point in points for arm in point.estimates.arms))


def _speedup(point: LoadPoint, arm: str) -> Estimate | None:
    own: ArmEstimates | None = next((one for one in point.estimates.arms if one.name == arm), None)
    return own.decode_speedup_corrected if own else None
