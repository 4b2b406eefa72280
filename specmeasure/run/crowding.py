"""What other work does to a run while it goes on: seen around every trial, told when it begins.

A meter says how busy others kept our cores and how long something waited for one. That threads
spin while they wait for each other cannot be told from their own CPU time: on a full machine they
get little of it. What shows is that passes become far slower with more threads than free cores.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from specmeasure.records.machine import Crowding, Environment
from specmeasure.records.trace import Manifest, TrialRecord
from specmeasure.run.cgroups import PROC, CpuGroups, waited_s
from specmeasure.run.cpu_times import CoreTimes, core_times, own_cores, own_seconds

MIN_SPAN_S = 0.25  # what is counted in ticks of 10 ms is then known to a twentieth of a core
STRETCH = 3  # trials in a row, before a stretch has begun or ended
MOST_WARNINGS = 3  # of stretches, in one run
OTHERS = "other work"
OTHERS_OF_A_TEAM = "other work, or that of this run's other workers,"  # on the same machine
FAR_SLOWER = 5.0  # passes, than the arm's fastest in this run


class Meter(Protocol):
    """Sees what other work does."""

    def begin(self) -> None:
        """Look now; nothing is being timed."""

    def end(self) -> Crowding | None:
        """What other work did since; None where nothing is known."""


class Unmetered:
    """Sees nothing."""

    def begin(self) -> None:
        """Look nowhere."""

    def end(self) -> None:
        """Nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    at_s: float
    cores: CoreTimes | None  # of our cores
    own_s: float  # CPU time of ours
    waited_s: float | None
    throttled_s: float | None


class CpuMeter:
    """Reads Linux's own counts; on other systems it knows nothing.

    A look takes some 0.2 ms, and a millisecond or two on machines of a hundred cores. A trial
    shorter than a quarter of a second is given what was seen over the quarter that ends with it.

    Args:
        proc: where the system's counts are.
        clock: that spans are measured by.
        own_clock: of this process's work and its children's.
    """

    def __init__(
        self,
        proc: Path = PROC,
        clock: Callable[[], float] = time.monotonic,
        own_clock: Callable[[], float] = own_seconds,
    ) -> None:
        self._proc, self._clock, self._own_clock = proc, clock, own_clock
        self._cores = own_cores()
        self._groups = CpuGroups.of_this_process(proc)
        self._pressure = self._groups.pressure_file(proc)
        self._looks = deque([self._look()])

    def begin(self) -> None:
        """See ``Meter``."""
        now = self._look()
        self._looks.append(now)
        while len(self._looks) > 1 and self._looks[1].at_s <= now.at_s - MIN_SPAN_S:
            self._looks.popleft()

    def end(self) -> Crowding | None:
        """See ``Meter``; a share or a number of cores is None where its counts are."""
        now = self._look()
        before = [look for look in self._looks if look.at_s <= now.at_s - MIN_SPAN_S]
        if not before:
            return None
        seen = Crowding(
            other_cores=_other_cores(before[-1], now, len(self._cores)),
            stalled_share=_stalled_share(before[-1], now),
        )
        return None if seen == Crowding() else seen

    def _look(self) -> _Sample:
        return _Sample(
            at_s=self._clock(),
            cores=core_times(self._cores, self._proc),
            own_s=self._own_clock(),
            waited_s=None if self._pressure is None else waited_s(self._pressure),
            throttled_s=self._groups.throttled_s(),
        )


def _other_cores(before: _Sample, now: _Sample, num_cores: int) -> float | None:
    """Formula: busy time / all time on our cores · cores − own CPU time / wall time."""
    if before.cores is None or now.cores is None:
        return None
    passed = now.cores - before.cores
    if passed.busy_s + passed.idle_s <= 0:
        return None  # a sandbox whose counts stand still
    busy = passed.busy_s / (passed.busy_s + passed.idle_s) * num_cores
    own = (now.own_s - before.own_s) / (now.at_s - before.at_s)
    return min(float(num_cores), max(0.0, busy - own))


def _stalled_share(before: _Sample, now: _Sample) -> float | None:
    """The larger of the shares of waiting and of being throttled, which may be the same time.

    Throttling is summed over cores, so that it is cut at 1.
    """
    spans = [(before.waited_s, now.waited_s), (before.throttled_s, now.throttled_s)]
    stalls = [end - begin for begin, end in spans if begin is not None and end is not None]
    wall_s = now.at_s - before.at_s
    return max((min(1.0, max(0.0, one / wall_s)) for one in stalls), default=None)


@dataclass(slots=True, kw_only=True)
class CrowdingWatch:
    """Tells when other work begins to crowd a run, a few times at most.

    Args:
        environment_of: where a worker's trials take place; None: the process's own.
        device: of the target.
        tell: told a sentence.
        others: what else may be at work there.
    """

    environment_of: Callable[[int | None], Environment]
    device: str
    tell: Callable[[str], None]
    others: str = OTHERS
    _stretches: dict[int | None, "_Stretch"] = field(default_factory=dict)
    _fastest_s: dict[tuple[int | None, str], float] = field(default_factory=dict)  # a pass, by arm
    _num_warnings: int = 0
    _told_slow: bool = False

    def see(self, trial: TrialRecord) -> None:
        """The next trial, of any worker."""
        place = self.environment_of(trial.worker)
        num_threads, crowding = place.threads_on(self.device), trial.crowding
        if crowding is None:
            return
        is_crowded = crowding.is_crowded(num_threads, place.num_cores)
        if is_crowded is None:
            return
        stretch = self._stretches.setdefault(trial.worker, _Stretch())
        if stretch.begins(crowding if is_crowded else None) and self._num_warnings < MOST_WARNINGS:
            self._num_warnings += 1
            self.tell(_crowded(self.others, stretch.recent, num_threads, place.num_cores))
        self._see_pace(trial, num_threads, place, is_crowded=is_crowded)

    def _see_pace(
        self, trial: TrialRecord, num_threads: int, place: Environment, *, is_crowded: bool
    ) -> None:
        pass_s = _pass_s(trial)
        if pass_s is None:
            return
        key = (trial.worker, trial.key.arm)
        fastest_s = min(pass_s, self._fastest_s.get(key, pass_s))
        self._fastest_s[key] = fastest_s
        is_slow = pass_s > FAR_SLOWER * fastest_s
        if is_slow and is_crowded and num_threads > 1 and not self._told_slow:
            self._told_slow = True
            self.tell(_far_slower(pass_s / fastest_s, num_threads, place.num_cores))


def watch_crowding(manifest: Manifest, tell: Callable[[str], None]) -> CrowdingWatch:
    """Of a run in this process or over workers."""
    device = manifest.models[0].device if manifest.models else "cpu"
    return CrowdingWatch(environment_of=manifest.environment_of, device=device, tell=tell)


@dataclass(slots=True)
class _Stretch:
    """Whether crowded trials stand in a row."""

    is_on: bool = False
    recent: list[Crowding] = field(default_factory=list)  # the last crowded ones in a row
    num_quiet: int = 0  # in a row

    def begins(self, crowded: Crowding | None) -> bool:
        """Whether a stretch begins with this trial; None: other work did not crowd it."""
        if crowded is None:
            self.recent = []
            self.num_quiet += 1
            self.is_on &= self.num_quiet < STRETCH
            return False
        self.num_quiet = 0
        self.recent = [*self.recent, crowded][-STRETCH:]
        if self.is_on or len(self.recent) < STRETCH:
            return False
        self.is_on = True
        return True


def _pass_s(trial: TrialRecord) -> float | None:
    """Seconds of a target pass after the prefill; None where there was none."""
    num_passes = len(trial.blocks) - 1
    return trial.decode_s / num_passes if trial.decode_s and num_passes > 0 else None


def _crowded(who: str, seen: list[Crowding], num_threads: int, num_cores: int) -> str:
    found = []
    others = [one.other_cores for one in seen if one.other_cores is not None]
    if others:
        kept = sum(others) / len(others)
        found.append(f"{who} keeps {kept:.1f} of {num_cores} cores busy")
    stalled = [one.stalled_share for one in seen if one.stalled_share is not None]
    if stalled:
        share = sum(stalled) / len(stalled)
        found.append(f"something waits for a core {100 * share:.0f} % of the time")
    lower = ", start again with fewer --threads" if num_threads > 1 else ""
    return (
        f"The machine is crowded: {' and '.join(found)}, beside {_threads(num_threads)} of this "
        f"run. Its times are less sure for it: stop other work{lower}, or wait and measure again."
    )


def _far_slower(times: float, num_threads: int, num_cores: int) -> str:
    return (
        f"Passes take {times:.0f} times as long as at their fastest: {num_threads} threads want "
        f"{num_cores} cores that other work keeps busy, and all wait for the one that has none. "
        "The number of threads stays as it is, or pairs would break: stop other work, or start "
        "again with --threads 1."
    )


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"
