"""What a window's requests say, next to what the server's own counters say of it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from specmeasure.records.trace import DraftCounts, Trace, TrialRecord, WindowRecord

Sums = tuple[int, int, int, tuple[int, ...]]  # drafted, accepted, blocks, kept by position
Of = Callable[[DraftCounts], Sums]


def speculative_windows(trace: Trace) -> list[tuple[WindowRecord, list[TrialRecord]]]:
    """Of arms that draft, with their requests."""
    drafting = {arm.name for arm in trace.manifest.plan.speculative_arms}
    return [
        (window, [trial for trial in trace.trials if belongs(trial, window)])
        for window in trace.windows
        if window.key.arm in drafting
    ]


def belongs(trial: TrialRecord, window: WindowRecord) -> bool:
    key = window.key
    return (key.load, key.group, key.arm) == (trial.key.load, trial.group, trial.key.arm)


def by_steps(counts: DraftCounts) -> Sums:
    """From each block; a request that drafted nothing has none."""
    steps = counts.steps or ()
    return (
        sum(drafted for drafted, _ in steps),
        sum(accepted for _, accepted in steps),
        len(steps),
        tuple(sum(accepted > place for _, accepted in steps) for place in range(4)),
    )


def by_histogram(counts: DraftCounts) -> Sums:
    """From the histogram, which does not tell how many were drafted."""
    histogram = counts.histogram or ()
    return (
        counts.num_draft_tokens,
        sum(kept * blocks for kept, blocks in enumerate(histogram)),
        sum(histogram),
        tuple(sum(histogram[place + 1 :]) for place in range(4)),
    )


def by_counters(counts: DraftCounts) -> Sums:
    """From Prometheus."""
    return (
        counts.num_draft_tokens,
        counts.num_accepted_tokens,
        counts.num_drafted_blocks or 0,
        counts.accepted_by_position or (0, 0, 0, 0),
    )


def summed(trials: Sequence[TrialRecord], of: Of) -> Sums:
    """Over all requests."""
    told = [of(trial.counts) for trial in trials if trial.counts is not None]
    drafted, accepted, blocks, positions = zip(*told, strict=True)
    kept = tuple(map(sum, zip(*positions, strict=True)))
    return (sum(drafted), sum(accepted), sum(blocks), kept)


def writers(folder: Path) -> list[int]:
    """Processes, wherever they hang in the tree, that have a file of the folder open."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(folder in Path(file.path).parents for file in process.open_files()):
                found.append(process.pid)
        except psutil.Error:  # gone, or not ours
            continue
    return found
