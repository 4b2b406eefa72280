"""A child server that cannot become an orphan, its log, its memory and the wait for its health."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import psutil

from specmeasure.errors import ServerNotStarted
from specmeasure.servers import guard

IsReady = Callable[[], Awaitable[bool]]

FIRST_POLL_S = 0.02
LONGEST_POLL_S = 1.0
NUM_LINES_SHOWN = 12
MOST_BYTES_SHOWN = 8192


class ServerProcess:
    """One running server. ``close_pipe`` or this process's death, however it comes, ends it.

    Args:
        argv: the server's command.
        env: what its environment has beyond this process's; None takes a variable away.
        log: a file for what it prints, readable by its owner alone.
        grace_s: between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str | None],
        log: Path,
        grace_s: float = guard.GRACE_S,
    ) -> None:
        self.log = log
        self._grace_s = grace_s
        self._measured: list[psutil.Process] = []  # whose memory is read
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._log_start = os.fstat(descriptor).st_size  # what stands before is another start's
        try:
            self._guard = subprocess.Popen(  # noqa: S603 - the user's own server
                [sys.executable, "-P", guard.__file__, str(grace_s), "--", *argv],
                stdin=subprocess.PIPE,
                stdout=descriptor,
                stderr=descriptor,
                env=_joined(env),
                start_new_session=True,  # the terminal's Ctrl-C is ours to answer
            )
        finally:
            os.close(descriptor)

    @property
    def exit_code(self) -> int | None:
        """The server's own; 128 + n: ended by signal n; None: it runs."""
        return self._guard.poll()

    def last_lines(self, num_lines: int = NUM_LINES_SHOWN) -> str:
        """The end of what it printed; empty where its log was taken away."""
        if not self.log.is_file():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - MOST_BYTES_SHOWN))
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join([line for line in lines if line.strip()][-num_lines:])

    def memory_bytes(self) -> int | None:
        """Resident bytes of its processes, shared pages counted in each; None: it ended.

        Processes are looked for when first asked, and when one of them has ended: this is called
        while requests are timed, and a search reads every process of the machine.
        """
        if not (self._measured and all(one.is_running() for one in self._measured)):
            self._measured = self._processes()
        return sum(map(_resident_bytes, self._measured)) or None

    def private_bytes(self) -> int:
        """Of them, what another one would need anew: a mapped file of weights would be shared."""
        return sum(map(_private_bytes, self._processes()))

    def listens_on(self, port: int) -> bool:
        """Whether one of its own processes accepts connections there; True where nobody may ask."""
        try:
            return any(_listens(process, port) for process in self._processes())
        except psutil.AccessDenied:
            return True

    async def wait_ready(self, is_ready: IsReady, *, port: int, timeout_s: float) -> None:
        """Return once ``is_ready`` says so of this very process.

        Raises:
            ServerNotStarted: it ended, or did not answer in time; with its last lines.
        """
        deadline = time.monotonic() + timeout_s
        pause_s = FIRST_POLL_S
        while not (self.listens_on(port) and await is_ready()):
            if self.exit_code is not None:
                raise ServerNotStarted(f"it {self.how_it_ended()}")
            if time.monotonic() > deadline:
                raise ServerNotStarted(
                    f"it did not answer within {timeout_s:g} s (--start-timeout)"
                    f"{self._quoted_log()}"
                )
            await asyncio.sleep(pause_s)
            pause_s = min(1.5 * pause_s, LONGEST_POLL_S)

    def how_it_ended(self) -> str:
        """In words, with its last lines: "ended with exit code 1; its last lines …"."""
        code = self.exit_code
        if code is not None and code > guard.SIGNALLED:
            how = f"was ended by signal {code - guard.SIGNALLED}"
        else:
            how = f"ended with exit code {code}"
        return how + self._quoted_log()

    def close_pipe(self) -> None:
        """Let the guard end it; returns at once."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()

    async def stop(self) -> None:
        """End it and wait until none of its processes is left."""
        self.close_pipe()
        processes = self._processes()
        try:
            await asyncio.to_thread(self._guard.wait, 2 * self._grace_s + 5)
        except subprocess.TimeoutExpired:  # the guard hangs: do its work
            for process in processes:
                _kill(process)
            self._guard.wait()

    def _processes(self) -> list[psutil.Process]:
        """Below the guard, which is ours and not the server."""
        try:
            return psutil.Process(self._guard.pid).children(recursive=True)
        except psutil.Error:
            return []

    def _quoted_log(self) -> str:
        lines = self.last_lines()
        where = f"its log is {self.log}"
        return f"; {where} and ends:\n{lines}" if lines else f" without a word; {where}"


def free_port() -> int:
    """A port of this machine that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def is_taken(port: int) -> bool:
    """Whether somebody else uses the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _joined(changes: Mapping[str, str | None]) -> dict[str, str]:
    joined = {**os.environ, **changes}
    return {name: value for name, value in joined.items() if value is not None}


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _private_bytes(process: psutil.Process) -> int:
    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0
    return int(memory.rss - getattr(memory, "shared", 0))


def _listens(process: psutil.Process, port: int) -> bool:
    try:
        connections = process.net_connections(kind="tcp")
    except psutil.NoSuchProcess:
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in connections)


def _kill(process: psutil.Process) -> None:
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.Error:
        return
