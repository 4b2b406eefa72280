import os
import subprocess
import sys
import threading
import time

import pytest

from specmeasure.run.cpu_times import core_times, own_seconds

STAT = """\
cpu  5 5 5 5 5 5 5 5 5 5
cpu0 100 20 30 4000 50 6 7 87 40 9
cpu1 200 0 0 800 0 0 0 0 0 0
cpu10 1 1 1 1 1 1 1 1 1 1
intr 1 2 3
cpufreq 9
"""
SPIN = "import time\nwhile time.process_time() < 5: pass"


def test_busy_is_all_but_idle_and_disk(tmp_path):
    """Guests' time is in the user's already; a hypervisor's other guests count as busy."""
    (tmp_path / "stat").write_text(STAT)
    one, both = core_times({0}, tmp_path), core_times({0, 1}, tmp_path)

    assert (2.5, 40.5) == (one.busy_s, one.idle_s)
    assert (4.5, 48.5) == (both.busy_s, both.idle_s)
    assert (2.0, 8.0) == ((both - one).busy_s, (both - one).idle_s)


def test_a_system_that_does_not_tell_is_none(tmp_path):
    """No file, none of our cores, or a sandbox's zeros."""
    assert core_times({0}, tmp_path) is None

    (tmp_path / "stat").write_text("cpu  0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n")

    assert core_times({0}, tmp_path) is None
    assert core_times({7}, tmp_path) is None


def test_own_work_is_ours():
    """This process's, waited for or not."""
    before = own_seconds()
    while own_seconds() < before + 0.02:
        pass

    assert own_seconds() > before


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs Linux")  # noqa: PTH110
def test_children_count_while_they_live_and_after():
    """A child that was started by another thread too; its time is lost by neither way to end."""
    before, children = own_seconds() - time.process_time(), []
    start = lambda: children.append(subprocess.Popen([sys.executable, "-c", SPIN]))  # noqa: E731
    starter = threading.Thread(target=start)
    starter.start()
    starter.join()
    try:
        while (living := own_seconds() - time.process_time()) < before + 0.1:
            time.sleep(0.01)
    finally:
        children[0].kill()
    children[0].wait()

    assert own_seconds() - time.process_time() >= living - 0.03  # ticks are cut off
