"""How long cores were busy, and how much of it was this process's own work (Linux).

Ticks of ten milliseconds are what the system counts in, so shorter spans tell nothing. In a
container the counts are of the whole machine where it shows them; a sandbox that shows zeros, or a
system without ``/proc/stat``, tells nothing. Time that a hypervisor gave to other guests counts as
busy: no work of ours could have it.
"""

import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from specmeasure.run.cgroups import PROC

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_IDLE = (3, 4)  # idle and waiting for a disk, of user nice system idle iowait irq softirq steal


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreTimes:
    """Seconds since the machine began, summed over some cores."""

    busy_s: float
    idle_s: float

    def __sub__(self, earlier: "CoreTimes") -> "CoreTimes":
        return CoreTimes(busy_s=self.busy_s - earlier.busy_s, idle_s=self.idle_s - earlier.idle_s)


def own_cores() -> frozenset[int]:
    """Numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def core_times(cores: Collection[int], proc: Path = PROC) -> CoreTimes | None:
    """Of these cores together; None where the system does not tell."""
    try:
        lines = (proc / "stat").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    busy = idle = 0
    for name, ticks in _core_lines(lines):
        if name in cores:
            waiting = sum(ticks[place] for place in _IDLE)
            idle += waiting
            busy += sum(ticks) - waiting
    if not busy + idle:
        return None
    return CoreTimes(busy_s=busy / _TICKS, idle_s=idle / _TICKS)


def _core_lines(lines: list[str]) -> Iterator[tuple[int, list[int]]]:
    """Number and ticks of each core; the first line is of all, those after cores of other things.

    The two last counts are of guests and stand in the first two as well.
    """
    for line in lines:
        name, *counts = line.split()
        if not name.startswith("cpu"):
            return
        if name != "cpu":
            yield int(name[3:]), [int(one) for one in counts[:8]]


def own_seconds(proc: Path = PROC) -> float:
    """CPU seconds of this process, of children that ended, and of those that live, all the way.

    What a child's own children did counts when they were waited for, or while they live.
    """
    ended = os.times()
    living = 0.0
    if _has_children():  # asked first: the lists below take some 20 µs a thread
        living = sum(_seconds_of(pid, proc) for pid in _descendants(os.getpid(), proc))
    return time.process_time() + ended.children_user + ended.children_system + living


def _has_children() -> bool:
    """Whether any child lives, or ended and was not waited for; none is waited for here."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _descendants(pid: int, proc: Path) -> Iterator[int]:
    for child in _children(pid, proc):
        yield child
        yield from _descendants(child, proc)


def _children(pid: int, proc: Path) -> list[int]:
    """Of all threads; none where the kernel does not list them, or the process has just ended."""
    found: list[int] = []
    try:
        threads = list((proc / str(pid) / "task").iterdir())
    except OSError:
        return found
    for thread in threads:
        try:
            listed = (thread / "children").read_text(encoding="ascii")
        except OSError:
            continue
        found += map(int, listed.split())
    return found


def _seconds_of(pid: int, proc: Path) -> float:
    """User and system time, its own and that of children it waited for; 0 once it is gone."""
    try:
        line = (proc / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    after_name = line.rpartition(")")[2].split()  # a name may hold blanks and brackets
    return sum(map(int, after_name[11:15])) / _TICKS
