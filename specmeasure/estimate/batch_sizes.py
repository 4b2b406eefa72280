"""The number of drafts to ask for, by the number of requests in flight.

vLLM takes it as ``num_speculative_tokens_per_batch_size`` of its speculative configuration, a list
of [first, last, K] (read in 0.32.0). Both ends are inclusive, the first range starts at 1, ranges
rise and do not overlap; K may be 0, and no K passes the server's own ``num_speculative_tokens``,
so that it is started with the largest. Sizes above the last range keep its K. The size is that of
the scheduler's step, prefills among them; with data parallelism vLLM ignores the table.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from specmeasure.estimate.crossover import measured_speedups
from specmeasure.records.estimates import Interval
from specmeasure.records.load_curve import BatchSizes, LoadPoint
from specmeasure.records.plan import Arm, Method

FEWEST_LENGTHS = 2  # K tried, for one of them to be the best
_LENGTH = "num_speculative_tokens"  # a key of vLLM's own settings

_Range = tuple[int, int, int]  # first, last, K


def batch_sizes(points: Sequence[LoadPoint], arms: Sequence[Arm]) -> tuple[BatchSizes, ...]:
    """A table for each candidate that was run at several K, at one concurrency or more.

    At each concurrency stands the K with the highest decode speedup of those whose interval,
    corrected for the arms tried, lies above 1, or else 0. A measured concurrency speaks of the
    sizes above the one before it, up to its own; the table ends at the highest.
    """
    candidates: dict[Arm, list[Arm]] = {}
    for arm in arms:
        candidates.setdefault(_apart_from_length(arm), []).append(arm)
    tried = [own for own in candidates.values() if _num_lengths(own) >= FEWEST_LENGTHS]
    tables = (_table(points, own) for own in tried)
    return tuple(table for table in tables if table is not None)


def _table(points: Sequence[LoadPoint], arms: Sequence[Arm]) -> BatchSizes | None:
    speedups = {arm.num_speculative_tokens: measured_speedups(points, arm.name) for arm in arms}
    measured = sorted({concurrency for own in speedups.values() for concurrency in own})
    if not measured:
        return None
    best = {at: _best({k: own[at] for k, own in speedups.items() if at in own}) for at in measured}
    first = arms[0]
    return BatchSizes(
        candidate=first.name.removesuffix(f" k={first.num_speculative_tokens}"),
        ranges=tuple(_ranges(best)),
    )


def _best(speedups: Mapping[int, Interval]) -> int:
    """K of the fastest that is surely faster than the baseline; 0: none is."""
    paying = {length: one.value for length, one in speedups.items() if one.low > 1}
    return max(paying, key=lambda length: paying[length], default=0)


def _ranges(best: Mapping[int, int]) -> list[_Range]:
    """Neighbours with the same K as one range, from 1 on."""
    ranges: list[_Range] = []
    last = 0
    for concurrency, length in best.items():
        if ranges and ranges[-1][2] == length:
            ranges[-1] = (ranges[-1][0], concurrency, length)
        else:
            ranges.append((last + 1, concurrency, length))
        last = concurrency
    return ranges


def _num_lengths(arms: Sequence[Arm]) -> int:
    return len({arm.num_speculative_tokens for arm in arms})


def _apart_from_length(arm: Arm) -> Arm:
    """The candidate: what is equal for arms that differ in K alone."""
    return replace(
        arm,
        name="",
        num_speculative_tokens=1,
        speculative_config=_config_apart_from_length(arm),
    )


def _config_apart_from_length(arm: Arm) -> str | None:
    if arm.method is not Method.SERVED or arm.speculative_config is None:
        return arm.speculative_config
    try:
        settings = json.loads(arm.speculative_config)
    except ValueError:
        return arm.speculative_config
    if not isinstance(settings, dict):
        return arm.speculative_config
    return json.dumps({k: v for k, v in settings.items() if k != _LENGTH}, sort_keys=True)
