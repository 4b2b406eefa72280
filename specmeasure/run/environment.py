"""What a run depends on that no argument says: versions, hardware, load."""

import os
import platform
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import pynvml

from specmeasure.records.machine import Crowding, Environment, Worker
from specmeasure.run.cores import cpu_quota, physical_cores, thread_cap
from specmeasure.run.cpu_times import own_cores

CPU_INFO = Path("/proc/cpuinfo")
PACKAGES = ("specmeasure", "torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy")


def environment(
    num_threads: int, load_before: float | None, seen: Crowding | None = None
) -> Environment:
    """The machine, with what was going on there before any of our own work.

    Args:
        num_threads: that decode on the CPU.
        load_before: see ``load_average``.
        seen: of other work, while models were loaded; None: nobody looked.
    """
    cap = thread_cap()
    return Environment(
        versions=versions(),
        platform=f"{platform.platform()}, Python {platform.python_version()}",
        cpu=cpu_name(),
        num_cores=len(own_cores()),
        memory_bytes=psutil.virtual_memory().total,
        accelerators=_accelerators(),
        num_threads=num_threads,
        load_average=load_before,
        other_cores=None if seen is None else seen.other_cores,
        cpu_quota=cpu_quota(),
        num_physical_cores=physical_cores(),
        threads_capped_by=None if cap is None else f"{cap[0]}={cap[1]}",
    )


def load_average() -> float | None:
    """Runnable processes over the last minute; None where the system does not tell."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def busy_notes(environment: Environment) -> list[str]:
    """What to tell a user before the run of a machine that is too full for it."""
    return [note for note in (load_warning(environment), quota_warning(environment)) if note]


def team_notes(workers: Sequence[Worker]) -> list[str]:
    """The same of a fleet's workers.

    The load of a machine before the first of them was set up is other work. Later it is also that
    of workers that load their models, so that of the others only what was seen counts.
    """
    return [
        f"Worker {worker.number} on node {worker.node}: {note}"
        for place, worker in enumerate(workers)
        for note in busy_notes(_without_load(worker.environment) if place else worker.environment)
    ]


def _without_load(environment: Environment) -> Environment:
    return replace(environment, load_average=None)


def introduction(worker: Worker) -> str:
    """Who a worker is, in one line."""
    return f"worker {worker.number}: {', '.join((worker.node, *worker.hardware))}"


def load_warning(environment: Environment) -> str | None:
    """What to tell a user whose machine is busy before the run, if it is.

    The run itself will occupy its threads; other work counts against it when both exceed the cores
    by half a one. What was seen on our own cores counts; where nobody looked, the load average,
    which is of the whole machine and remembers work that has ended.
    """
    seen, load = environment.other_cores, environment.load_average
    others = load if seen is None else seen
    if not Crowding(other_cores=others).is_crowded(environment.num_threads, environment.num_cores):
        return None
    said = f"load {load:.1f}" if seen is None else f"other work kept {seen:.1f} cores busy"
    number = environment.num_threads
    threads, lower = (
        (f"{number} threads", ", or lower --threads") if number > 1 else ("1 thread", "")
    )
    return (
        f"The machine is busy: {said} before the run, {threads} wanted, {environment.num_cores} "
        f"cores. Times will be noisy; see the A/A interval. Stop other work{lower}."
    )


def quota_warning(environment: Environment) -> str | None:
    """What to tell a user whose container grants fewer cores than there are threads, if it does."""
    quota = environment.cpu_quota
    if quota is None or environment.num_threads <= quota:
        return None
    return (
        f"The container is granted {quota:g} cores, and {environment.num_threads} threads are "
        "wanted: it is held back in turns, and times will be noisy. Lower --threads, or raise the "
        "quota."
    )


def versions() -> dict[str, str]:
    """Of the packages that times and tokens depend on, as far as they are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def cpu_name(info: Path = CPU_INFO) -> str:
    """What the processor calls itself; on ARM under Linux its maker's and its parts' numbers."""
    if platform.system() == "Darwin":
        return _apples_name() or platform.machine()
    if info.is_file():
        found = _named_in(info.read_text(encoding="utf-8", errors="replace"))
        if found:
            return found
    return platform.processor() or platform.machine()


def _named_in(info: str) -> str | None:
    values = defaultdict(set)
    for line in info.splitlines():
        name, _, value = line.partition(":")
        values[name.strip()].add(value.strip())
    if values["model name"]:
        return ", ".join(sorted(values["model name"]))
    if not values["CPU part"]:
        return None
    makers, parts = (" and ".join(sorted(values[key])) for key in ("CPU implementer", "CPU part"))
    return f"{platform.machine()}, implementer {makers or 'not told'}, part {parts}"


def _apples_name() -> str | None:
    asked = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.check_output(asked, text=True, timeout=5).strip()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None


def _accelerators() -> tuple[str, ...]:
    """Names of NVIDIA devices, as the driver tells them; empty without a driver."""
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return tuple(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles)
    except pynvml.NVMLError:
        return ()
