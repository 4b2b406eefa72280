import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from specmeasure.errors import ServerLost, ServerNotStarted, UsageError
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN, Arm, Method, Plan
from specmeasure.records.serving import Evidence, Load, ServerFacts, Serving, ServingEngine
from specmeasure.servers import managed, starting
from specmeasure.servers.launch import Launch
from specmeasure.servers.managed import ManagedFleet

FAKE = str(Path(__file__).with_name("fake_server.py"))
DRAFT = Arm(name="draft k=4", method=Method.DRAFT_MODEL, num_speculative_tokens=4, draft="d")


INTERRUPTED = """
import asyncio, sys
from pathlib import Path
from tests.servers.test_managed import BASELINE, fleet_of

async def live():
    async with fleet_of(Path(sys.argv[1]), baseline=("hangs", f"pids={sys.argv[2]}")) as fleet:
        await fleet.server(BASELINE)

asyncio.run(live())
"""


class FakeConnection:
    """Of a server that is what its command says, unless told otherwise."""

    def __init__(self, url, facts):
        self.url = url
        self.facts = facts
        self.warnings = (f"{facts.arm} is a fake",)
        self.closed = False

    async def close(self):
        self.closed = True


class FakeConnect:
    """Remembers whom it connected; ``**changes`` to the facts that it finds."""

    def __init__(self, **changes):
        self.made = []
        self._changes = changes

    async def __call__(self, url, /, *, arm, serving, command):
        facts = {
            "arm": arm.name,
            "engine": serving.engine,
            "model": serving.model,
            "version": None,
            "url": None,
            "command": command,
            "evidence": Evidence.COUNTERS,
            "gives_ids": True,
            "num_speculative_tokens": arm.num_speculative_tokens or None,
        }
        self.made.append(FakeConnection(url, ServerFacts(**(facts | self._changes))))
        return self.made[-1]


def planned(**changes):
    serving = Serving(
        engine=ServingEngine.VLLM,
        loads=(Load(concurrency=1),),
        start_timeout_s=changes.pop("start_timeout_s", 20),
        **changes,
    )
    return Plan(target="t", arms=(BASELINE, DRAFT, BASELINE_AGAIN), serving=serving)


def launching(**how):
    """The fake server, in its own way for each arm."""

    def launch(arm, port):
        words = how.get(arm.method.name.lower(), ())
        argv = (sys.executable, FAKE, str(port), *words, *([] if arm.is_baseline else ["drafts"]))
        return Launch(argv=argv, model="t", notes=() if arm.is_baseline else ("a note",))

    return launch


def fleet_of(tmp_path, *, plan=None, connect=None, **how):
    return ManagedFleet(
        plan or planned(),
        tmp_path / "servers",
        connect=connect or FakeConnect(),
        launch=launching(**how),
    )


def using(fleet, use):
    """What ``use(fleet)`` returns; the fleet is closed afterwards, whatever happens."""

    async def live():
        async with fleet:
            return await use(fleet)

    return asyncio.run(live())


def num_children():
    return len(psutil.Process().children(recursive=True))


async def until(holds):
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("waited in vain")


def pid_of(fleet, arm):
    (child,) = fleet._running[fleet._keys[arm.name]].process._processes()
    return child.pid


def test_arms_that_are_configured_alike_share_a_server(tmp_path):
    """Baseline and A/A are one process, the draft arm another; both end with the fleet."""
    before, connect = num_children(), FakeConnect()

    async def use(fleet):
        await fleet.start_all()
        servers = [await fleet.server(arm) for arm in (BASELINE, DRAFT, BASELINE_AGAIN)]
        return servers, [fleet.memory_bytes(arm) for arm in (BASELINE, DRAFT)], num_children()

    servers, memory, during = using(fleet_of(tmp_path, connect=connect), use)

    assert ["baseline", "draft k=4"] == [one.facts.arm for one in connect.made]
    assert servers[0] is servers[2]
    assert servers[0] is not servers[1]
    assert all(one > 1e6 for one in memory)
    assert before + 4 == during  # a guard each
    assert before == num_children()
    assert [True, True] == [one.closed for one in connect.made]


def test_servers_are_started_when_they_are_asked_for(tmp_path):
    """Nobody starts what no arm needs yet; memory of what is not up is unknown."""

    async def use(fleet):
        await fleet.server(DRAFT)
        return fleet.memory_bytes(BASELINE), fleet.how_it_ended(BASELINE)

    connect = FakeConnect()

    assert (None, None) == using(fleet_of(tmp_path, connect=connect), use)
    assert ["draft k=4"] == [one.facts.arm for one in connect.made]


def test_two_arms_at_once_start_one_server_each(tmp_path):
    """Concurrent first calls do not start a server twice."""
    connect = FakeConnect()

    async def use(fleet):
        return await asyncio.gather(*(fleet.server(arm) for arm in (BASELINE, BASELINE_AGAIN)))

    first, second = using(fleet_of(tmp_path, connect=connect), use)

    assert first is second


def test_servers_kept_apart_take_turns(tmp_path):
    """Starting one stops the other, and coming back starts it anew."""
    before, connect = num_children(), FakeConnect()

    async def use(fleet):
        await fleet.start_all()
        counts = []
        for arm in (BASELINE, DRAFT, BASELINE_AGAIN):
            await fleet.server(arm)
            counts.append(num_children() - before)
        return counts

    fleet = fleet_of(tmp_path, plan=planned(keep_apart=True), connect=connect)

    assert [2, 2, 2] == using(fleet, use)
    assert ["baseline", "draft k=4", "baseline"] == [one.facts.arm for one in connect.made]
    assert [True, True, True] == [one.closed for one in connect.made]
    assert any("One server was up at a time" in line for line in fleet.warnings)


def test_logs_lie_in_the_folder_by_arm(tmp_path):
    """One private file for each server."""

    async def use(fleet):
        await fleet.start_all()

    using(fleet_of(tmp_path), use)

    names = sorted(path.name for path in (tmp_path / "servers").iterdir())
    assert ["baseline.log", "draft-k-4.log"] == names


def test_a_failing_start_ends_what_runs(tmp_path):
    """The message names arm, code and reason; the healthy server is gone, too."""
    before = num_children()

    async def use(fleet):
        await fleet.start_all()

    with pytest.raises(ServerNotStarted, match=r"(?s)draft k=4: vLLM .*code 1;.*this is why"):
        using(fleet_of(tmp_path, draft_model=("fails",)), use)
    assert before == num_children()


def test_a_hanging_start_is_given_up(tmp_path):
    """After the limit of the plan."""
    before = num_children()

    async def use(fleet):
        await fleet.server(BASELINE)

    with pytest.raises(ServerNotStarted, match=r"did not answer within 0.2 s \(--start-timeout\)"):
        using(fleet_of(tmp_path, plan=planned(start_timeout_s=0.2), baseline=("hangs",)), use)
    assert before == num_children()


def test_a_port_taken_in_between_costs_another_try(tmp_path, monkeypatch):
    """The next free port is used; a third disappointment is an error."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = iter([taken, taken, starting.free_port()])
        monkeypatch.setattr(starting, "free_port", lambda: next(ports))
        connect = FakeConnect()

        async def use(fleet):
            await fleet.server(BASELINE)

        using(fleet_of(tmp_path, connect=connect), use)

        assert not connect.made[0].url.endswith(str(taken))
        monkeypatch.setattr(starting, "free_port", lambda: taken)
        with pytest.raises(ServerNotStarted, match=r"3 ports that were free were taken"):
            using(fleet_of(tmp_path), use)


@pytest.mark.parametrize(
    ("arm", "changes", "told"),
    [
        (BASELINE, {"model": "other"}, "serves other, t was asked for"),
        (
            BASELINE,
            {"num_speculative_tokens": 3},
            "drafts up to 3 tokens a block, the plan says no",
        ),
        (DRAFT, {"num_speculative_tokens": 3}, "drafts up to 3 tokens a block, the plan says 4"),
        (DRAFT, {"evidence": Evidence.NONE}, "no sign of speculation"),
    ],
)
def test_what_is_served_is_what_was_asked_for(tmp_path, arm, changes, told):
    """Another model, another K or no speculation at all is an error, and nothing stays up."""
    before, connect = num_children(), FakeConnect(**changes)

    async def use(fleet):
        await fleet.server(arm)

    with pytest.raises(ServerNotStarted, match=told):
        using(fleet_of(tmp_path, connect=connect), use)
    assert before == num_children()
    assert connect.made[0].closed


def test_a_server_that_died_is_told_with_its_last_lines(tmp_path):
    """kill -9 of a server between two windows: the next one names it."""

    async def use(fleet):
        await fleet.server(BASELINE)
        os.kill(pid_of(fleet, BASELINE), signal.SIGKILL)
        await until(lambda: fleet.how_it_ended(BASELINE))
        await fleet.server(BASELINE)

    with pytest.raises(
        ServerLost, match=r"(?s)baseline: its server was ended by signal 9;.*serving"
    ):
        using(fleet_of(tmp_path), use)


def test_a_failing_connection_ends_its_server(tmp_path):
    """The error is the connection's own while the server lives."""
    before = num_children()

    async def refuses(url, /, **_):
        raise UsageError(f"{url} speculates")

    async def use(fleet):
        await fleet.server(BASELINE)

    with pytest.raises(UsageError, match="speculates"):
        using(fleet_of(tmp_path, connect=refuses), use)
    assert before == num_children()


def test_servers_that_do_not_fit_together_are_told_apart(tmp_path, monkeypatch):
    """Judged after the first, before a second one drives the machine out of memory."""
    before = num_children()
    empty = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(managed.psutil, "virtual_memory", lambda: empty)

    async def use(fleet):
        await fleet.start_all()

    with pytest.raises(
        ServerNotStarted, match=r"draft k=4: .* another one does not fit\. --keep-apart"
    ):
        using(fleet_of(tmp_path), use)
    assert before == num_children()


def test_an_interrupted_start_leaves_nothing(tmp_path):
    """Ctrl-C while a server is loading: it is ended before the interruption goes on."""
    before = num_children()

    async def interrupted():
        async with fleet_of(tmp_path, baseline=("hangs",)) as fleet:
            starts = asyncio.ensure_future(fleet.server(BASELINE))
            await until(lambda: num_children() == before + 2)
            starts.cancel()
            await starts

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupted())
    assert before == num_children()


def test_ctrl_c_ends_the_servers_first(tmp_path):
    """SIGINT to the run alone: its server is gone when the run is."""
    pids = tmp_path / "pids"
    run = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path), str(pids)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    asyncio.run(until(pids.exists))
    pid = int(pids.read_text())

    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)

    assert not psutil.pid_exists(pid)
    assert "KeyboardInterrupt" in errors


def test_closing_twice_is_no_error(tmp_path):
    """Whoever closes last finds nothing to do."""

    async def use(fleet):
        await fleet.server(BASELINE)
        await fleet.close()
        await fleet.close()
        return fleet.memory_bytes(BASELINE)

    assert using(fleet_of(tmp_path), use) is None


def test_the_set_up_is_told_to_the_reader(tmp_path):
    """Prefix cache, company on the machine, a launch's notes and a connection's warnings."""
    fleet = fleet_of(tmp_path)

    async def use(fleet):
        await fleet.start_all()

    using(fleet, use)

    cache, together, *others = fleet.warnings
    assert "prefix cache" in cache
    assert "up together" in together
    assert ["a note", "baseline is a fake", "draft k=4 is a fake"] == others
