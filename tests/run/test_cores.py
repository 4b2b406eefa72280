import pytest

from specmeasure.records.machine import Crowding
from specmeasure.run import cores
from specmeasure.run.cores import (
    cpu_quota,
    free_cores,
    physical_cores,
    thread_cap,
    usable_cores,
)
from specmeasure.run.cpu_times import own_cores
from tests.run.fake_linux import FakeLinux


class Seen:
    """A meter that has seen so many cores busy with other work."""

    def __init__(self, other_cores):
        self.crowding = other_cores if other_cores is None else Crowding(other_cores=other_cores)

    def begin(self):
        pass

    def end(self):
        return self.crowding


@pytest.fixture
def eight(monkeypatch):
    """Eight cores, no quota, no waiting."""
    monkeypatch.setattr(cores, "own_cores", lambda: frozenset(range(8)))
    monkeypatch.setattr(cores, "cpu_quota", lambda: None)
    monkeypatch.setattr(cores.time, "sleep", lambda _: None)


@pytest.mark.parametrize(
    ("others", "free"), [(0.0, 8), (0.4, 8), (0.6, 7), (3.2, 5), (7.9, 1), (8.0, 1), (None, 8)]
)
@pytest.mark.usefixtures("eight")
def test_taken_cores_are_not_free(others, free):
    """Rounded to whole cores; one is always asked for, and what nobody tells takes none."""
    assert free == free_cores({}, Seen(others))


@pytest.mark.parametrize(("quota", "usable"), [(None, 8), (2.5, 2), (0.5, 1), (64.0, 8)])
@pytest.mark.usefixtures("eight")
def test_a_quota_makes_cores_fewer(monkeypatch, quota, usable):
    """Whole cores of it, at least one; a large one makes no more of them."""
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)

    assert usable == usable_cores() == free_cores({}, Seen(0.0))


@pytest.mark.usefixtures("eight")
def test_others_take_cores_not_the_quota(monkeypatch):
    """Granted 4 of 8 cores of which 4 are taken, 4 are free."""
    monkeypatch.setattr(cores, "cpu_quota", lambda: 4.0)

    assert 4 == free_cores({}, Seen(4.0))
    assert 2 == free_cores({}, Seen(6.0))


@pytest.mark.parametrize(
    ("variables", "cap"),
    [
        ({}, None),
        ({"OMP_NUM_THREADS": "3"}, ("OMP_NUM_THREADS", 3)),
        ({"OMP_NUM_THREADS": "4,2"}, ("OMP_NUM_THREADS", 4)),
        ({"OMP_NUM_THREADS": "6", "MKL_NUM_THREADS": "2"}, ("MKL_NUM_THREADS", 2)),
        ({"OMP_NUM_THREADS": "0", "MKL_NUM_THREADS": "many"}, None),
        ({"OMP_NUM_THREADS": ""}, None),
    ],
)
@pytest.mark.usefixtures("eight")
def test_the_users_variables_cap_threads(variables, cap):
    """The smallest number of them; what is no number caps nothing."""
    assert cap == thread_cap(variables)
    assert (cap[1] if cap else 8) == free_cores(variables, Seen(0.0))


@pytest.mark.usefixtures("eight")
def test_one_thread_needs_no_looking():
    """Where a variable allows one thread, no second is spent on counting cores."""
    assert 1 == free_cores({"OMP_NUM_THREADS": "1"}, meter=None)


def test_the_quota_of_this_process_is_read(tmp_path):
    """From the files of its control group."""
    linux = FakeLinux(tmp_path, cores=[0])
    (linux.group / "cpu.max").write_text("300000 100000\n")

    assert 3.0 == cpu_quota(linux.proc)


def test_hardware_twins_are_one_core(monkeypatch, tmp_path):
    """Cores whose siblings are the same list share their arithmetic; unknown is none."""
    monkeypatch.setattr(cores, "own_cores", lambda: frozenset({0, 1, 4}))
    for core, siblings in {0: "0,4", 1: "1,5", 4: "0,4"}.items():
        (tmp_path / f"cpu{core}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{core}" / "topology" / "thread_siblings_list").write_text(f"{siblings}\n")

    assert 2 == physical_cores(tmp_path)
    assert physical_cores(tmp_path / "nowhere") is None


def test_this_machine_has_a_core():
    """Here and now."""
    assert 1 <= usable_cores() <= len(own_cores())
    assert 1 == free_cores({"OMP_NUM_THREADS": "1"})
