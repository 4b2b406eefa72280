"""What a run depends on that no argument says: versions, hardware, load."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import pynvml

from specmeasure.records.machine import Environment

PACKAGES = ("specmeasure", "torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy")


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_cores() -> int:
    """Usable cores less those that other work occupies now, at least 1.

    OpenMP threads spin while they wait for each other: with one thread too many on a busy machine
    a step can take a hundred times as long, so no default asks for a core that is taken.
    """
    busy = psutil.cpu_percent(interval=0.3, percpu=True)
    ours = psutil.Process().cpu_affinity() if psutil.LINUX else range(len(busy))
    occupied = sum(busy[core] for core in ours if core < len(busy)) / 100
    return max(1, usable_cores() - round(occupied))


def environment(num_threads: int, load_before: float | None) -> Environment:
    """The machine, with the load it had before any of our own work."""
    return Environment(
        versions=_versions(),
        platform=f"{platform.platform()}, Python {platform.python_version()}",
        cpu=_cpu_name(),
        num_cores=usable_cores(),
        memory_bytes=psutil.virtual_memory().total,
        accelerators=_accelerators(),
        num_threads=num_threads,
        load_average=load_before,
    )


def load_average() -> float | None:
    """Runnable processes over the last minute; None where the system does not tell."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def load_warning(environment: Environment) -> str | None:
    """What to tell a user whose machine is busy before the run, if it is.

    The run itself will occupy its threads; other work counts against it when both exceed the cores.
    """
    load = environment.load_average
    if load is None or load + environment.num_threads <= environment.num_cores + 0.5:
        return None
    return (
        f"The machine is busy: load {load:.1f} before the run, {environment.num_threads} threads "
        f"wanted, {environment.num_cores} cores. Times will be noisy; see the A/A interval. Stop "
        "other work, or lower --threads."
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _accelerators() -> tuple[str, ...]:
    """Names of NVIDIA devices, as the driver tells them; empty without a driver."""
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return tuple(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles)
    except pynvml.NVMLError:
        return ()
