import asyncio
import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from specmeasure.errors import ServerNotStarted
from specmeasure.servers import process
from specmeasure.servers.process import ServerProcess, free_port, is_taken

FAKE = str(Path(__file__).with_name("fake_server.py"))
PATIENCE_S = 20  # nothing waits for all of it

PARENT = """
import sys, time
from pathlib import Path
from specmeasure.servers.process import ServerProcess
ServerProcess(sys.argv[2:], env={}, log=Path(sys.argv[1]), grace_s=0.5)
time.sleep(600)
"""


def fake(port, *how):
    return [sys.executable, FAKE, str(port), *how]


@contextlib.asynccontextmanager
async def started(argv, log, **more):
    server = ServerProcess(argv, env={}, log=log, **more)
    try:
        yield server
    finally:
        await server.stop()


def until(holds):
    """Poll until it holds; a test that waits in vain fails here."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def pids_in(path):
    until(path.exists)
    return [int(word) for word in path.read_text().split()]


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def answers(port):
    async def is_ready():
        async with httpx.AsyncClient(trust_env=False) as client:
            try:
                return (await client.get(f"http://127.0.0.1:{port}/health")).is_success
            except httpx.TransportError:
                return False

    return is_ready


async def never():
    return False


def test_memory_is_read_without_a_search_among_all_processes(tmp_path, monkeypatch):
    """After the first reading, which is before anything is timed; until a process has ended."""
    port = free_port()

    async def live():
        async with started(fake(port), tmp_path / "a.log") as server:
            await server.wait_ready(answers(port), port=port, timeout_s=PATIENCE_S)
            before = server.memory_bytes()
            with monkeypatch.context() as without:
                without.setattr(ServerProcess, "_processes", lambda _: pytest.fail("searched"))
                again = server.memory_bytes()
        return before, again, server.memory_bytes()

    before, again, after = asyncio.run(live())

    assert before > 1e6
    assert again > 1e6
    assert after is None


def test_a_healthy_server_is_waited_for_and_ends_when_told(tmp_path):
    """It answers after wait_ready, and none of its processes is left after stop."""
    port, pids = free_port(), tmp_path / "pids"

    async def live():
        async with started(fake(port, f"pids={pids}", "forks"), tmp_path / "a.log") as server:
            await server.wait_ready(answers(port), port=port, timeout_s=PATIENCE_S)
            return server.exit_code, server.memory_bytes()

    code, memory_bytes = asyncio.run(live())

    assert code is None
    assert memory_bytes > 1e6
    assert [True, True] == [is_gone(pid) for pid in pids_in(pids)]
    assert not is_taken(port)


def test_an_early_end_tells_code_and_last_lines(tmp_path):
    """The message of a server that ends at once is its own, with its exit code."""
    port = free_port()

    async def live():
        async with started(fake(port, "fails"), tmp_path / "a.log") as server:
            await server.wait_ready(never, port=port, timeout_s=PATIENCE_S)

    with pytest.raises(ServerNotStarted, match=r"(?s)exit code 1;.*ValueError: this is why"):
        asyncio.run(live())


def test_a_hanging_start_times_out_with_last_lines(tmp_path):
    """A server that never answers is given up after the limit, and ended."""
    port, pids = free_port(), tmp_path / "pids"

    async def live():
        argv = fake(port, "hangs", f"pids={pids}")
        async with started(argv, tmp_path / "a.log") as server:
            await asyncio.to_thread(until, lambda: "loading" in server.last_lines())
            await server.wait_ready(answers(port), port=port, timeout_s=0.05)

    with pytest.raises(ServerNotStarted, match=r"(?s)within 0.05 s.*loading"):
        asyncio.run(live())
    assert is_gone(pids_in(pids)[0])


def test_no_such_program_is_told(tmp_path):
    """A program that does not exist ends the wait with its name."""

    async def live():
        async with started(["/nowhere/llama-server"], tmp_path / "a.log") as server:
            await server.wait_ready(never, port=1, timeout_s=PATIENCE_S)

    with pytest.raises(ServerNotStarted, match=r"/nowhere/llama-server: No such file"):
        asyncio.run(live())


def test_another_servers_answer_is_not_ours(tmp_path):
    """A port that somebody else answers on never makes our server ready."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        async def always():
            return True

        async def live():
            async with started(fake(port), tmp_path / "a.log") as server:
                await server.wait_ready(always, port=port, timeout_s=PATIENCE_S)

        with pytest.raises(ServerNotStarted, match="Address already in use"):
            asyncio.run(live())
        assert is_taken(port)


@pytest.mark.parametrize("how", [(), ("stays",), ("forks",)])
def test_a_killed_parent_leaves_no_orphan(tmp_path, how):
    """kill -9 of the process that started it ends the server and all below it."""
    pids = tmp_path / "pids"
    argv = [sys.executable, "-c", PARENT, str(tmp_path / "a.log")]
    parent = subprocess.Popen([*argv, *fake(free_port(), f"pids={pids}", *how)])
    found = pids_in(pids)

    parent.send_signal(signal.SIGKILL)
    parent.wait()

    for pid in found:
        until(lambda pid=pid: is_gone(pid))


def test_a_killed_guard_leaves_no_orphan(tmp_path):
    """Even kill -9 of the guard ends the server."""
    pids = tmp_path / "pids"

    async def live():
        async with started(fake(free_port(), f"pids={pids}"), tmp_path / "a.log") as server:
            (pid,) = await asyncio.to_thread(pids_in, pids)
            os.kill(server._guard.pid, signal.SIGKILL)
            await asyncio.to_thread(until, lambda: is_gone(pid))

    asyncio.run(live())


def test_a_server_that_ignores_sigterm_is_killed(tmp_path):
    """SIGKILL follows after the grace."""
    pids = tmp_path / "pids"

    async def live():
        argv = fake(free_port(), "stays", f"pids={pids}")
        async with started(argv, tmp_path / "a.log", grace_s=0.1):
            await asyncio.to_thread(until, pids.exists)

    asyncio.run(live())

    assert is_gone(pids_in(pids)[0])


def test_the_log_is_private(tmp_path):
    """Servers may log prompts: nobody else reads the file."""

    async def live():
        async with started(["true"], tmp_path / "servers" / "a.log") as server:
            return server.log

    log = asyncio.run(live())

    assert 0o600 == stat.S_IMODE(log.stat().st_mode)
    assert 0o700 == stat.S_IMODE(log.parent.stat().st_mode)


def test_a_variable_set_to_none_is_taken_away(monkeypatch):
    """A server does not inherit what is withheld from it."""
    monkeypatch.setenv("VLLM_API_KEY", "secret")

    joined = process._joined({"VLLM_API_KEY": None, "A": "1"})

    assert "VLLM_API_KEY" not in joined
    assert "1" == joined["A"]
