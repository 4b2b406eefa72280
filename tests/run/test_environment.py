import os

import psutil
import pytest

from specmeasure.run.environment import (
    environment,
    free_cores,
    load_average,
    load_warning,
    usable_cores,
)
from tests.fakes import make_environment


@pytest.mark.parametrize(("load", "warned"), [(0.0, False), (2.5, False), (2.51, True), (9, True)])
def test_a_busy_machine_is_named(load, warned):
    """Other work counts where it and the run's threads exceed the cores by more than a half."""
    machine = make_environment(load_average=load, num_threads=2, num_cores=4)

    assert warned == (load_warning(machine) is not None)


def test_the_warning_says_what_to_do():
    """It holds the load, the threads, the cores, and the option that lowers them."""
    warning = load_warning(make_environment(load_average=7.25, num_threads=2, num_cores=4))

    assert warning is not None
    assert "load 7.2 before the run, 2 threads wanted, 4 cores" in warning
    assert "--threads" in warning


def test_unknown_load_is_not_a_warning():
    """A system that does not tell its load is not called busy."""
    assert None is load_warning(make_environment(load_average=None))


def test_unknown_load_is_not_zero(monkeypatch):
    """A system without a load average has none."""

    def refuse():
        raise OSError

    monkeypatch.setattr(os, "getloadavg", refuse)

    assert None is load_average()


@pytest.mark.parametrize("percent", [0.0, 100.0])
def test_a_core_is_always_free(monkeypatch, percent):
    """However busy the machine is, one thread is asked for; on an idle one, all."""
    cores = [percent] * psutil.cpu_count()
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: cores)  # noqa: ARG005

    assert (usable_cores() if percent == 0 else 1) == free_cores()


def test_free_cores_are_usable():
    """On this machine, now."""
    assert 1 <= free_cores() <= usable_cores()


def test_the_environment_is_this_machine():
    """Versions of what is installed, and the number of threads that was asked for."""
    here = environment(num_threads=3, load_before=None)

    assert 3 == here.num_threads
    assert {"specmeasure", "torch", "numpy"} <= set(here.versions)
    assert psutil.virtual_memory().total == here.memory_bytes
