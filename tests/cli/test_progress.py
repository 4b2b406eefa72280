"""What stands on stderr: on a terminal, in a pipe, and where nothing is wanted."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from threading import Thread

import pytest

from specmeasure.cli import progress
from specmeasure.errors import RunInterrupted
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.running import RunningSums
from specmeasure.estimate.summary import estimate
from specmeasure.run.watch import WatchedJournal
from tests.fakes import (
    FakeEngine,
    MemoryJournal,
    make_plan,
    make_prompts,
    recorded_trace,
)

PLAN = make_plan()
TRACE = recorded_trace(FakeEngine(plan=PLAN), make_prompts(20))


def record(watchers):
    """A run as the api tells of it."""
    watchers.stage("loading models")
    watchers.warning("the machine is busy")
    watchers.planned(len(TRACE.trials))
    journal = WatchedJournal(
        journal=MemoryJournal(), sums=RunningSums(PLAN.arms), watchers=watchers
    )
    for trial in TRACE.trials:
        journal.add_trial(trial)
        watchers.trial()


def drawn(monkeypatch, terminal, *, quiet=False):
    """All that a recorded run writes to a terminal of 100 columns on stderr."""
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_FRAMES", 0.0)
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    written = []
    listener = Thread(target=lambda: written.extend(chunks(reader)))
    listener.start()
    with os.fdopen(writer, "w", buffering=1) as stderr, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stderr)
        with progress.watched(None, quiet=quiet) as watchers:
            record(watchers)
    listener.join()
    os.close(reader)
    return b"".join(written).decode()


def chunks(reader):
    """What is written to a terminal until its last writer closes it."""
    while True:
        try:
            yield os.read(reader, 65536)
        except OSError:  # Linux says so in place of an end of file
            return


def test_a_pipe_holds_lines_alone(capsys, monkeypatch):
    """No bar, no running numbers and no control codes, also where colours are asked for."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress.watched(None) as watchers:
        record(watchers)
    printed = capsys.readouterr()

    assert "loading models\nwarning: the machine is busy\n" == printed.err
    assert not printed.out


def test_quiet_leaves_warnings(capsys):
    """What the user should know is said all the same."""
    with progress.watched(None, quiet=True) as watchers:
        record(watchers)

    assert "warning: the machine is busy\n" == capsys.readouterr().err


@pytest.mark.parametrize("quiet", [True, False])
def test_a_dumb_terminal_is_a_pipe(monkeypatch, quiet):
    """Without a cursor to move nothing is drawn."""
    text = drawn(monkeypatch, "dumb", quiet=quiet)

    assert "\x1b" not in text
    assert quiet != ("loading models" in text)


def test_a_terminal_shows_every_arm(monkeypatch):
    """Trials, running speedup and τ of each arm, which end at the estimates; and a bar."""
    last = drawn(monkeypatch, "xterm").rpartition("Arm, so far")[2]
    arm = estimate(TRACE, Intervals(num_resamples=10)).arms[0]

    assert f"{arm.decode_speedup.value:.2f}×" in last
    assert f"{arm.mean_acceptance_length.value:.2f}" in last
    assert f"{len(TRACE.trials)}/{len(TRACE.trials)}" in last
    assert all(one.name in last for one in PLAN.arms)


def test_no_color_takes_the_colours(monkeypatch):
    """NO_COLOR: the cursor moves, colours do not appear."""
    monkeypatch.setenv("NO_COLOR", "1")
    text = drawn(monkeypatch, "xterm-256color")

    assert "trials" in text
    assert [] == re.findall(r"\x1b\[(?:3[0-9]|9[0-7])", text)


def test_ctrl_c_says_how_to_go_on(tmp_path, capsys):
    """The command that resumes, where there is something to resume."""
    (tmp_path / "manifest.json").touch()
    with (
        pytest.raises(RunInterrupted, match=f"specmeasure run --resume {tmp_path}"),
        progress.watched(tmp_path),
    ):
        raise KeyboardInterrupt
    with pytest.raises(RunInterrupted, match=r"^interrupted\.$"), progress.watched(None):
        raise KeyboardInterrupt

    assert not capsys.readouterr().err
