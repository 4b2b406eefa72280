"""Runs that several workers measured: may they be read as one, and do the workers agree?"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.blocks import Ints
from specmeasure.estimate.intervals import Intervals, Spread
from specmeasure.estimate.latency import decode_spread, times
from specmeasure.estimate.pairing import Names, Pairs
from specmeasure.estimate.trials import NO_WORKER
from specmeasure.records.machine import Worker
from specmeasure.records.trace import Manifest


def refuse_unlike_workers(manifest: Manifest, workers: Ints) -> None:
    """Raise InsufficientEvidence where unlike hardware measured, and pooling it was not asked for.

    Args:
        manifest: of the run.
        workers: the number of each trial's worker.
    """
    if manifest.fleet is None or manifest.fleet.pools_hardware:
        return
    measured = {worker for worker in np.unique(workers).tolist() if worker != NO_WORKER}
    kinds: dict[tuple[str, ...], Worker] = {}
    for one in manifest.workers:
        if one.number in measured:
            kinds.setdefault(one.hardware, one)
    if len(kinds) > 1:
        said = "; ".join(
            f"worker {one.number} on {one.node}: {', '.join(hardware)}"
            for hardware, one in kinds.items()
        )
        raise InsufficientEvidence(
            f"this run's workers are unlike ({said}), so that one speedup over all of them is that "
            "of no machine. Pass --pool-hardware to pool them all the same, with the speedup of "
            "each worker beside it, or measure on workers of one kind."
        )


def chance_of_workers(pairs: Pairs, intervals: Intervals) -> float | None:
    """The chance that an arm's decode speedup differs as much from worker to worker by luck alone.

    None where fewer than two workers measured enough prompts.
    """
    workers = pairs.arm.table.worker[pairs.arm.places]
    if (workers == workers[:1]).all():
        return None
    found = (
        decode_spread(times(own.baseline), times(own.arm), intervals)
        for own in pairs.split(Names.of(list(map(str, workers.tolist())))).values()
    )
    return chance_of_differing([one for one in found if isinstance(one, Spread)])


def chance_of_differing(spreads: Sequence[Spread]) -> float | None:
    """The chance that speedups of workers differ as much as these, were they alike.

    Of log speedups, whose errors are relative ones; None of fewer than two.

    Formula: Welch's F for means of unequal variances (Welch 1951), w_h = (value / se)²,
    F = Σ w_h (log value_h − mean)² / (H − 1) / (1 + 2 (H − 2) Λ / (H² − 1)),
    Λ = Σ (1 − w_h / Σ w)² / ν_h, on H − 1 and (H² − 1) / (3 Λ) degrees of freedom
    """
    told = [one for one in spreads if one.standard_error > 0]
    number = len(told)
    if number < 2:
        return None
    logs = np.log([one.value for one in told])
    weights = np.array([(one.value / one.standard_error) ** 2 for one in told])
    shares = weights / weights.sum()
    apart = float((weights * (logs - shares @ logs) ** 2).sum()) / (number - 1)
    uncertain = float(((1 - shares) ** 2 / [one.degrees for one in told]).sum())
    statistic = apart / (1 + 2 * (number - 2) * uncertain / (number**2 - 1))
    return float(stats.f.sf(statistic, number - 1, (number**2 - 1) / (3 * uncertain)))
