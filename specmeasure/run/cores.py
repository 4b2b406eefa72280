"""Which CPU cores this process may use, and which of them are free."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from specmeasure.run.cgroups import PROC, CpuGroups
from specmeasure.run.cpu_times import own_cores
from specmeasure.run.crowding import CpuMeter, Meter

WINDOW_S = 1.0  # that free cores are counted over: a hundred of the system's ticks
CAPPING = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
DEVICES = Path("/sys/devices/system/cpu")


def cpu_quota(proc: Path = PROC) -> float | None:
    """Cores that a container's quota grants in the long run; None: no limit that can be seen."""
    return CpuGroups.of_this_process(proc).quota()


def usable_cores() -> int:
    """Cores that this process may keep busy all the time, at least 1.

    A quota of 2.5 is 2: with a third thread all would be held back together, over and over.
    """
    quota = cpu_quota()
    granted = len(own_cores()) if quota is None else min(len(own_cores()), int(quota))
    return max(1, granted)


def physical_cores(devices: Path = DEVICES) -> int | None:
    """Of the cores that this process may run on, those that share none of their arithmetic.

    Two hardware threads of one core (SMT) multiply matrices hardly faster than one of them. None
    where the system does not tell.
    """
    siblings = set()
    for core in own_cores():
        try:
            listed = (devices / f"cpu{core}" / "topology" / "thread_siblings_list").read_text()
        except OSError:
            return None
        siblings.add(listed.strip())
    return len(siblings)


def thread_cap(variables: Mapping[str, str] = os.environ) -> tuple[str, int] | None:
    """The variable that caps the number of threads, and its number; None where none does.

    The first number counts of a list, which is for nested teams; what is no number caps nothing.
    """
    caps = []
    for name in CAPPING:
        first = variables.get(name, "").partition(",")[0].strip()
        if first.isdecimal() and int(first):
            caps.append((name, int(first)))
    return min(caps, key=lambda cap: cap[1], default=None)


def free_cores(variables: Mapping[str, str] = os.environ, meter: Meter | None = None) -> int:
    """Threads that no other work would get in the way of, at least 1.

    These are the usable cores less those that other work occupies now, seen over a second, and no
    more than a variable of the user's caps them to. With one thread too many on a busy machine a
    step can take a hundred times as long, as all threads wait for the one that has no core, so no
    default asks for a core that is taken.

    Work that another container does on these cores counts where the machine's ``/proc/stat`` can
    be seen, as it can in most containers; in a sandbox of its own kernel it is hidden. A core is
    called free while its hardware twin (SMT) is busy.
    """
    cap = thread_cap(variables)
    most = usable_cores() if cap is None else min(usable_cores(), cap[1])
    if most == 1:
        return 1
    return max(1, min(most, len(own_cores()) - round(_occupied_cores(meter))))


def _occupied_cores(meter: Meter | None) -> float:
    """Of our own, on average over the window; where nobody tells, none is known to be."""
    if meter is None and not psutil.LINUX:
        return sum(psutil.cpu_percent(interval=WINDOW_S, percpu=True)) / 100
    meter = meter or CpuMeter()
    meter.begin()
    time.sleep(WINDOW_S)
    seen = meter.end()
    return 0.0 if seen is None or seen.other_cores is None else seen.other_cores
