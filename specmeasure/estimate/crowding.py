"""How much of a run other work crowded, whether all arms alike, and what the noise was meanwhile.

What makes a trial crowded is said by ``Crowding.is_crowded``. Nothing here says that a crowded
trial was slow, nor is any removed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from specmeasure.estimate.blocks import Flags, Floats, Ints
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.trials import NO_WORKER, Table, Trials, numbered_together, renumbered
from specmeasure.records.estimates import CrowdedArm, CrowdedTrials, Estimate, Unmeasured
from specmeasure.records.machine import MOST_STALLED, SPARE_CORES, Crowding
from specmeasure.records.plan import BASELINE_AGAIN
from specmeasure.records.trace import Manifest, TrialRecord

MIN_CELLS = 24  # trials in cycles that differ; with fewer, χ² is no law of Q (Tate & Brown 1970)
UNSEEN = Crowding()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watched:
    """Trials around which other work was looked for, [n] each.

    A cycle is one prompt's turn in one repeat, on one worker. Arms take turns in it in a rotated
    order, so that other work that comes and goes meets each of them as often.
    """

    other_cores: Floats  # NaN: not told
    stalled_share: Floats  # NaN: not told
    is_crowded: Flags
    arm: Ints  # place in the plan
    cycle: Ints
    prompt: Ints  # on one worker
    worker: Ints  # 0 without workers
    num_decoded: Floats  # tokens after the first
    decode_s: Floats


def crowded_trials(
    trials: Sequence[TrialRecord], manifest: Manifest, intervals: Intervals
) -> CrowdedTrials | Unmeasured:
    """How often other work crowded a run's trials, by arm; the A/A interval with and without it."""
    names = [arm.name for arm in manifest.plan.arms]
    watched = _watched(Trials.of(trials), manifest, names)
    num_trials = len(watched.is_crowded)
    if not num_trials:
        return Unmeasured(reason="no trial was watched for other work")
    by_arm = np.bincount(watched.arm, minlength=len(names)).tolist()
    num_crowded = np.bincount(watched.arm[watched.is_crowded], minlength=len(names)).tolist()
    cells = _cells(watched, len(names))
    whole = cells[(cells >= 0).all(axis=1)]
    return CrowdedTrials(
        num_trials=num_trials,
        crowded_share=int(watched.is_crowded.sum()) / num_trials,
        num_cores=_num_cores(manifest),
        other_cores=_mean(watched.other_cores[watched.is_crowded]),
        stalled_share=_mean(watched.stalled_share[watched.is_crowded]),
        arms=tuple(
            CrowdedArm(name=name, num_trials=seen, crowded_share=number / seen if seen else None)
            for name, seen, number in zip(names, by_arm, num_crowded, strict=True)
        ),
        p_value=cochran_q(watched.is_crowded[whole]),
        crowded_noise_floor=_noise_floor(watched, cells, names, intervals, crowded=True),
        quiet_noise_floor=_noise_floor(watched, cells, names, intervals, crowded=False),
    )


def says_crowded(
    other_cores: Floats, stalled_share: Floats, threads: Floats, cores: Floats
) -> Flags:
    """What ``Crowding.is_crowded`` says of trials [T]; False where both signs are NaN."""
    is_full = other_cores + threads > cores + SPARE_CORES
    return np.asarray(is_full | (stalled_share > MOST_STALLED))


def cochran_q(was_crowded: Flags) -> float | None:
    """The p-value of columns [arms] that are as often true as each other over rows [cycles].

    Rows that are all alike say nothing. None where fewer than two columns or too few cells remain.

    Formula: Q = (k − 1)(k Σ_j C_j² − N²) / (k N − Σ_i R_i²) with column sums C, row sums R and
    their total N, χ² with k − 1 degrees of freedom (Cochran 1950).
    """
    num_arms = was_crowded.shape[1]
    rows = was_crowded.sum(axis=1)
    mixed = was_crowded[(rows > 0) & (rows < num_arms)]
    if num_arms < 2 or mixed.size < MIN_CELLS:
        return None
    columns, rows = mixed.sum(axis=0), mixed.sum(axis=1)
    total = int(mixed.sum())
    spread = num_arms * np.square(columns).sum() - total**2
    q = (num_arms - 1) * spread / (num_arms * total - np.square(rows).sum())
    return float(special.chdtrc(num_arms - 1, q))


def _watched(trials: Trials, manifest: Manifest, names: Sequence[str]) -> _Watched:
    """Those of the plan's arms that did not fail."""
    table = trials.table
    seen = [record.crowding or UNSEEN for record in table.records]
    other = np.array([one.other_cores for one in seen], dtype=np.float64)
    stalled = np.array([one.stalled_share for one in seen], dtype=np.float64)
    is_told = ~(np.isnan(other) & np.isnan(stalled))
    threads, cores = _rooms(table, manifest)
    is_crowded = says_crowded(other, stalled, threads, cores)
    places = {name: number for number, name in enumerate(names)}
    in_plan = np.array([places.get(name, -1) for name in table.arms], dtype=np.int64)[table.arm]
    own = trials.answered().where(is_told & (in_plan >= 0)).places
    return _Watched(
        other_cores=other[own],
        stalled_share=stalled[own],
        is_crowded=is_crowded[own],
        arm=in_plan[own],
        cycle=renumbered(table.context[own]),
        prompt=numbered_together(table.prompt[own], table.worker[own] - NO_WORKER),
        worker=table.worker[own].clip(0),
        num_decoded=(table.num_emitted[own] - 1).clip(0),
        decode_s=table.decode_s[own],
    )


def _rooms(table: Table, manifest: Manifest) -> tuple[Floats, Floats]:
    """The threads [T] that decoded each trial, and the cores [T] that they had."""
    device = manifest.models[0].device if manifest.models else "cpu"
    workers, own = np.unique(table.worker, return_inverse=True)
    places = [
        manifest.environment_of(None if number == NO_WORKER else number)
        for number in workers.tolist()
    ]
    threads = np.array([place.threads_on(device) for place in places], dtype=np.float64)
    cores = np.array([place.num_cores for place in places], dtype=np.float64)
    return threads[own], cores[own]


def _cells(watched: _Watched, num_arms: int) -> Ints:
    """The place of each cycle's trial of each arm, [cycles, arms]; -1: it was not watched."""
    cells = np.full((int(watched.cycle.max()) + 1, num_arms), -1)
    cells[watched.cycle, watched.arm] = np.arange(len(watched.arm))
    return cells


def _num_cores(manifest: Manifest) -> int | None:
    """Of every worker's machine, or of the run's own."""
    places = [worker.environment for worker in manifest.workers] or [manifest.environment]
    found = {place.num_cores for place in places}
    return found.pop() if len(found) == 1 else None


def _mean(values: Floats) -> float | None:
    """Of those that were told."""
    told = values[~np.isnan(values)]
    return float(told.mean()) if len(told) else None


def _noise_floor(
    watched: _Watched, cells: Ints, names: Sequence[str], intervals: Intervals, *, crowded: bool
) -> Estimate:
    """The baseline against itself over the contexts where either trial was crowded, or neither.

    Formula: see ``latency.decode_speedup``, prompts as clusters and workers as strata; answers of
    one token do not count.
    """
    if BASELINE_AGAIN.name not in names:
        return Unmeasured(reason="the run has no second baseline (A/A) arm")
    pairs = cells[:, [0, names.index(BASELINE_AGAIN.name)]]
    pairs = pairs[(pairs >= 0).all(axis=1)]
    pairs = pairs[(watched.num_decoded[pairs] > 0).all(axis=1)]
    pairs = pairs[watched.is_crowded[pairs].any(axis=1) == crowded]
    if not len(pairs):
        which = "no A/A pair was" if crowded else "all A/A pairs were"
        return Unmeasured(reason=f"{which} crowded by other work")
    firsts = pairs[:, 0]
    _, places, rows = np.unique(watched.prompt[firsts], return_index=True, return_inverse=True)
    columns: list[Floats] = [
        np.bincount(rows, weights=values[pairs[:, side]]).astype(np.float64)
        for side in (0, 1)
        for values in (watched.num_decoded, watched.decode_s)
    ]
    return intervals.smooth(_speedup, *columns, strata=watched.worker[firsts[places]])


def _speedup(base_tokens: Floats, base_s: Floats, tokens: Floats, arm_s: Floats) -> Floats:
    return (base_s / base_tokens) / (arm_s / tokens)
