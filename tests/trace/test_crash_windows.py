"""Killed again and again, a run on servers ends with every window of the plan once."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from specmeasure.run.windows import windows_in_order
from specmeasure.trace import store
from tests.fake_servers import planned_requests
from tests.trace import crash_windows

NUM_KILLS = 8
LONGEST_LIFE_S = 0.15  # of a session that is killed; all of them together are too short to finish
ROOT = Path(__file__).resolve().parents[2]


def session(folder):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.trace.crash_windows", str(folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_every_window_survives_once(tmp_path):
    """None is lost, none recorded twice, and each has all of its trials with their audits."""
    plan, prompts = crash_windows.crash_plan(), crash_windows.crash_prompts()
    planned = [window.key for window in windows_in_order(plan, prompts)]
    rng = random.Random(0)
    for _ in range(NUM_KILLS):
        with session(tmp_path) as process:
            assert "recording\n" == process.stdout.readline()
            time.sleep(rng.uniform(0, LONGEST_LIFE_S))
            process.kill()
        assert -signal.SIGKILL == process.returncode
    assert 0 < len(store.read_trace(tmp_path).windows) < len(planned)
    with session(tmp_path) as process:
        assert "recording\nsealed\n" == process.stdout.read()

    trace = store.read_trace(tmp_path)
    assert planned == [window.key for window in trace.windows]
    expected = {repr(key) for key in planned_requests(plan, prompts)}
    assert sorted(expected) == sorted(repr(trial.key) for trial in trace.trials)
    assert None not in {trial.audit for trial in trace.trials}
