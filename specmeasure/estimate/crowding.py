"""How much of a run other work crowded, whether all arms alike, and what the noise was meanwhile.

What makes a trial crowded is said by ``Crowding.is_crowded``. Nothing here says that a crowded
trial was slow, nor is any removed.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from specmeasure.estimate.intervals import Floats, Intervals
from specmeasure.records.estimates import CrowdedArm, CrowdedTrials, Estimate, Unmeasured
from specmeasure.records.machine import Crowding
from specmeasure.records.plan import BASELINE_AGAIN
from specmeasure.records.trace import Manifest, Trace, TrialRecord

MIN_CELLS = 24  # trials in cycles that differ; with fewer, χ² is no law of Q (Tate & Brown 1970)

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watched:
    """Trials around which other work was looked for, [n] each.

    A cycle is one prompt's turn in one repeat, on one worker. Arms take turns in it in a rotated
    order, so that other work that comes and goes meets each of them as often.
    """

    crowding: Sequence[Crowding]
    is_crowded: Bools
    arm: Ints  # place in the plan
    cycle: Ints
    prompt: Ints  # on one worker
    worker: Ints  # 0 without workers
    num_decoded: Floats  # tokens after the first
    decode_s: Floats


def crowded_trials(trace: Trace, intervals: Intervals) -> CrowdedTrials | Unmeasured:
    """How often other work crowded the run, by arm, and the A/A interval with and without it."""
    names = [arm.name for arm in trace.manifest.plan.arms]
    watched = _watched(trace, names)
    if not watched.crowding:
        return Unmeasured(reason="no trial was watched for other work")
    crowded = [
        one for one, is_so in zip(watched.crowding, watched.is_crowded, strict=True) if is_so
    ]
    trials = np.bincount(watched.arm, minlength=len(names)).tolist()
    num_crowded = np.bincount(watched.arm[watched.is_crowded], minlength=len(names)).tolist()
    cells = _cells(watched, len(names))
    whole = cells[(cells >= 0).all(axis=1)]
    return CrowdedTrials(
        num_trials=len(watched.crowding),
        crowded_share=len(crowded) / len(watched.crowding),
        num_cores=_num_cores(trace.manifest),
        other_cores=_mean([one.other_cores for one in crowded]),
        stalled_share=_mean([one.stalled_share for one in crowded]),
        arms=tuple(
            CrowdedArm(name=name, num_trials=seen, crowded_share=number / seen if seen else None)
            for name, seen, number in zip(names, trials, num_crowded, strict=True)
        ),
        p_value=cochran_q(watched.is_crowded[whole]),
        crowded_noise_floor=_noise_floor(watched, cells, names, intervals, crowded=True),
        quiet_noise_floor=_noise_floor(watched, cells, names, intervals, crowded=False),
    )


def cochran_q(was_crowded: Bools) -> float | None:
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


def _watched(trace: Trace, names: Sequence[str]) -> _Watched:
    """Those of the plan's arms that did not fail."""
    manifest = trace.manifest
    device = manifest.models[0].device if manifest.models else "cpu"
    rooms: dict[int | None, tuple[int, int]] = {}
    found: list[tuple[TrialRecord, Crowding, bool]] = []
    for trial in trace.trials:
        if trial.crowding is None or trial.failed:
            continue
        if trial.worker not in rooms:
            place = manifest.environment_of(trial.worker)
            rooms[trial.worker] = place.threads_on(device), place.num_cores
        is_crowded = trial.crowding.is_crowded(*rooms[trial.worker])
        if is_crowded is not None:
            found.append((trial, trial.crowding, is_crowded))
    trials = [trial for trial, _, _ in found]
    arms = {name: number for number, name in enumerate(names)}
    return _Watched(
        crowding=[crowding for _, crowding, _ in found],
        is_crowded=np.array([is_so for _, _, is_so in found], dtype=bool),
        arm=np.array([arms[trial.key.arm] for trial in trials], dtype=np.int64),
        cycle=_numbered([(t.key.prompt_id, t.key.turn, t.key.repeat, t.worker) for t in trials]),
        prompt=_numbered([(trial.key.prompt_id, trial.worker) for trial in trials]),
        worker=np.array([trial.worker or 0 for trial in trials], dtype=np.int64),
        num_decoded=np.array([(trial.num_emitted_tokens or 1) - 1.0 for trial in trials]),
        decode_s=np.array([trial.decode_s or 0.0 for trial in trials]),
    )


def _numbered(names: Sequence[Hashable]) -> Ints:
    """Each name by the place at which it is first met among the distinct ones."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


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


def _mean(values: Sequence[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return sum(told) / len(told) if told else None


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
