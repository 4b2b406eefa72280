import os
import platform
from dataclasses import replace

import psutil
import pytest

from specmeasure.records.machine import Crowding, Worker
from specmeasure.run.cpu_times import own_cores
from specmeasure.run.environment import (
    busy_notes,
    cpu_name,
    environment,
    load_average,
    load_warning,
    quota_warning,
    team_notes,
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


def test_one_thread_cannot_become_fewer():
    """The remedy fits the run."""
    warning = load_warning(make_environment(load_average=7.0, num_threads=1, num_cores=2))

    assert "1 thread wanted, 2 cores" in str(warning)
    assert "--threads" not in str(warning)


def test_what_was_seen_counts_more_than_the_load():
    """A load average remembers work that has ended, and is of cores that are not ours."""
    quiet = make_environment(load_average=9.0, other_cores=0.2, num_threads=2, num_cores=4)
    busy = make_environment(load_average=0.0, other_cores=2.75, num_threads=2, num_cores=4)

    assert load_warning(quiet) is None
    assert "other work kept 2.8 cores busy before the run, 2 threads wanted, 4 cores" in str(
        load_warning(busy)
    )


@pytest.mark.parametrize(("quota", "warned"), [(None, False), (2.0, False), (1.5, True)])
def test_more_threads_than_a_container_is_granted_are_told(quota, warned):
    """It would be held back in turns."""
    machine = make_environment(load_average=None, cpu_quota=quota, num_threads=2)

    assert warned == (quota_warning(machine) is not None)
    assert warned == bool(busy_notes(machine))


def test_unknown_load_is_not_a_warning():
    """A system that does not tell its load is not called busy."""
    assert None is load_warning(make_environment(load_average=None))


def test_unknown_load_is_not_zero(monkeypatch):
    """A system without a load average has none."""

    def refuse():
        raise OSError

    monkeypatch.setattr(os, "getloadavg", refuse)

    assert None is load_average()


def test_the_environment_is_this_machine():
    """Versions of what is installed, and the number of threads that was asked for."""
    here = environment(num_threads=3, load_before=None)

    assert 3 == here.num_threads
    assert {"specmeasure", "torch", "numpy"} <= set(here.versions)
    assert psutil.virtual_memory().total == here.memory_bytes
    assert len(own_cores()) == here.num_cores
    assert here.other_cores is None


def test_the_environment_says_what_was_seen_and_what_caps_it(monkeypatch):
    """Other work while models were loaded; a variable of the user's."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    here = environment(2, 0.5, Crowding(other_cores=0.75))

    assert 0.75 == here.other_cores
    assert "OMP_NUM_THREADS=2" == here.threads_capped_by


X86 = "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\n\nprocessor\t: 1\nmodel name\t: A CPU\n"
ARM = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\nCPU part\t: 0xd40\n"


@pytest.mark.parametrize(
    ("info", "named"),
    [
        (X86, "A CPU, A CPU @ 2 GHz"),
        (ARM, f"{platform.machine()}, implementer 0x41, part 0xd0c and 0xd40"),
        ("", platform.processor() or platform.machine()),
    ],
)
@pytest.mark.skipif(platform.system() == "Darwin", reason="the system is asked there")
def test_processors_are_told_apart(tmp_path, info, named):
    """Also those that have numbers in the place of a name."""
    path = tmp_path / "cpuinfo"
    path.write_text(info)

    assert named == cpu_name(path)


def test_the_load_of_workers_that_load_is_no_other_work():
    """Of the first worker the load counts; of later ones what was seen, and a quota."""
    busy = make_environment(load_average=9.0, other_cores=None, num_threads=2, num_cores=4)
    seen = replace(busy, other_cores=3.5)
    short = replace(busy, cpu_quota=1.5)
    workers = [
        Worker(number=number, node=f"node-{number}", environment=machine)
        for number, machine in enumerate([busy, busy, seen, short], start=3)
    ]
    notes = team_notes(workers)

    assert [3, 5, 6] == [int(note.split()[1]) for note in notes]
    assert "load 9.0" in notes[0]
    assert "kept 3.5 cores busy" in notes[1]
    assert "granted 1.5 cores" in notes[2]
