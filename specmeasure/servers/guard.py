"""Runs one server and outlives nobody: when whoever started it is gone, so is the server.

A program of its own, ``python guard.py GRACE_S -- ARGV…``, of the standard library and psutil. Its
standard input is a pipe that nobody writes to; the system closes it when the process that holds
the other end dies, however it dies. Then, or on SIGTERM, or when the server itself ends, every
process below this one gets SIGTERM, and SIGKILL after a grace.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

import psutil

GRACE_S = 5.0
SIGNALLED = 128  # a shell's way to say by which signal a process ended
NOT_FOUND = 127  # likewise: no such program
_BECOME_REAPER = 36  # prctl: orphans below this process become its children
_DIE_WITH_PARENT = 1  # prctl: the signal to get when the parent dies


def main(argv: Sequence[str]) -> int:
    """Run ``argv`` after its grace and its ``--``; the program's own exit code."""
    grace_s, command = float(argv[0]), list(argv[2:])
    _prctl(_BECOME_REAPER, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: end_descendants(grace_s))
    try:
        server = subprocess.Popen(  # noqa: S603 - the user's own server
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_prepare_server,  # noqa: PLW1509 - no other thread runs yet
        )
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return NOT_FOUND
    threading.Thread(target=_end_with_pipe, args=(grace_s,), daemon=True).start()
    code = server.wait()
    end_descendants(grace_s)
    return SIGNALLED - code if code < 0 else code


def end_descendants(grace_s: float) -> None:
    """SIGTERM to every process below this one, SIGKILL to what is left after the grace."""
    running = psutil.Process().children(recursive=True)
    for process in running:
        _send(process, signal.SIGTERM)
    _, left = psutil.wait_procs(running, timeout=grace_s)
    for process in {*left, *psutil.Process().children(recursive=True)}:
        _send(process, signal.SIGKILL)


def _end_with_pipe(grace_s: float) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    end_descendants(grace_s)


def _prepare_server() -> None:
    """Signals as a program expects them; and an end, too, if the guard itself is killed."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _prctl(_DIE_WITH_PARENT, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _send(process: psutil.Process, what: signal.Signals) -> None:
    try:
        process.send_signal(what)
    except psutil.Error:  # it has ended meanwhile
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
