"""Servers that specmeasure starts itself: one for each distinct configuration, none left."""

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol, Self

import psutil

from specmeasure.errors import ServerError, ServerLost, ServerNotStarted
from specmeasure.records.plan import Arm, Plan
from specmeasure.records.serving import Evidence, ServerFacts, Serving
from specmeasure.servers.attached import ConnectedServer
from specmeasure.servers.launch import Launch, LaunchFor
from specmeasure.servers.process import ServerProcess
from specmeasure.servers.server import Server
from specmeasure.servers.starting import Started, start

_GIGABYTE = 1e9
_ANY_PORT = 0  # in the commands that tell configurations apart
_Key = tuple[str, ...]


class Connect(Protocol):
    """Opens the connection to a server, and finds out what it is."""

    async def __call__(
        self, url: str, /, *, arm: Arm, serving: Serving, command: tuple[str, ...]
    ) -> ConnectedServer: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """A server that is up, checked and connected."""

    process: ServerProcess
    connection: ConnectedServer


class ManagedFleet:
    """The servers of a managed run; ``async with`` or ``close`` ends them all.

    Arms whose servers are configured alike share one. All stay up together, unless the plan keeps
    them apart: then starting one stops the other.

    Args:
        plan: of a managed run.
        folder: for the servers' logs, one an arm; private, because servers may log prompts.
        connect: opens and probes a connection.
        launch: the command of each arm's server.
        say: hears about what takes long.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        *,
        connect: Connect,
        launch: LaunchFor,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        if plan.serving is None:
            raise ValueError("the plan uses no servers")
        self._serving = plan.serving
        self._folder = folder
        self._connect = connect
        self._launch = launch
        self._say = say
        self._lock = asyncio.Lock()
        launches = {arm: launch(arm, _ANY_PORT) for arm in plan.arms}
        self._keys = {arm.name: found.argv for arm, found in launches.items()}
        self._arms: dict[_Key, Arm] = {}
        for arm, found in launches.items():
            self._arms.setdefault(found.argv, arm)
        self._running: dict[_Key, _Running] = {}
        self.warnings = _warnings(self._serving, launches.values(), num_servers=len(self._arms))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start_all(self) -> None:
        """Start every server that is not up, the baseline's first; of servers kept apart, only it.

        Raises:
            ServerNotStarted: see ``server``.
        """
        for arm in self._arms.values():
            await self.server(arm)
            if self._serving.keep_apart:
                return

    async def server(self, arm: Arm) -> Server:
        """The arm's server, started and checked if it is not up.

        Raises:
            ServerNotStarted: it does not come up, or not as it was asked to, with its last lines;
                or it does not fit into memory beside those that are up.
            ServerLost: it was up and has ended by itself.
        """
        key = self._keys[arm.name]
        async with self._lock:
            if key not in self._running:
                if self._serving.keep_apart:
                    await self._stop_all()
                self._refuse_what_cannot_fit(arm)
                self._running[key] = await self._start(self._arms[key])
        ended = self.how_it_ended(arm)
        if ended is not None:
            raise ServerLost(f"{arm.name}: {ended}")
        return self._running[key].connection

    def memory_bytes(self, arm: Arm) -> int | None:
        """Resident bytes of the processes of the arm's server; None: it is not up."""
        running = self._running.get(self._keys[arm.name])
        return running.process.memory_bytes() if running else None

    def how_it_ended(self, arm: Arm) -> str | None:
        """What became of the arm's server, with its last lines; None: it is up, or never was."""
        running = self._running.get(self._keys[arm.name])
        if running is None or running.process.exit_code is None:
            return None
        return f"its server {running.process.how_it_ended()}"

    async def close(self) -> None:
        """Stop all servers; nothing is left running, even if the waiting is interrupted."""
        await self._stop_all()

    async def _start(self, arm: Arm) -> _Running:
        engine, began = self._serving.engine.display_name, time.monotonic()
        self._say(f"Starting the {engine} server of {arm.name}")
        try:
            started = await start(
                partial(self._launch, arm),
                log=self._log(arm),
                timeout_s=self._serving.start_timeout_s,
            )
        except ServerNotStarted as error:
            raise ServerNotStarted(f"{arm.name}: {engine} was started and {error}") from error
        try:
            connection = await self._connected(started, arm)
        except BaseException:
            await started.process.stop()
            raise
        self.warnings = tuple(dict.fromkeys((*self.warnings, *connection.warnings)))
        self._say(f"{arm.name}: {engine} is up after {time.monotonic() - began:.1f} s")
        return _Running(process=started.process, connection=connection)

    async def _connected(self, started: Started, arm: Arm) -> ConnectedServer:
        launch = started.launch
        try:
            connection = await self._connect(
                started.url,
                arm=arm,
                serving=replace(self._serving, model=launch.model),
                command=launch.argv,
            )
        except ServerError as error:
            if started.process.exit_code is None:
                raise
            raise ServerNotStarted(
                f"{arm.name}: its server {started.process.how_it_ended()}"
            ) from error
        try:
            _refuse_other(connection.facts, arm, launch)
        except ServerNotStarted:
            await connection.close()
            raise
        return connection

    def _refuse_what_cannot_fit(self, arm: Arm) -> None:
        """Judged by those that are up: another one holds as much anew, but for a shared file."""
        up = [running.process.private_bytes() for running in self._running.values()]
        available = psutil.virtual_memory().available
        if up and max(up) > available:
            raise ServerNotStarted(
                f"{arm.name}: the servers that are up hold {max(up) / _GIGABYTE:.1f} GB each, and "
                f"{available / _GIGABYTE:.1f} GB are free: another one does not fit. --keep-apart "
                "starts one at a time."
            )

    async def _stop_all(self) -> None:
        stopping = list(self._running.values())
        for running in stopping:
            running.process.close_pipe()
        for running in stopping:
            await running.process.stop()
            await running.connection.close()
        self._running.clear()

    def _log(self, arm: Arm) -> Path:
        return self._folder / (re.sub(r"[^A-Za-z0-9.]+", "-", arm.name).strip("-") + ".log")


def _refuse_other(facts: ServerFacts, arm: Arm, launch: Launch) -> None:
    """What came up is what was asked for.

    Raises:
        ServerNotStarted: another model, another K, or drafts where there should be none.
    """
    told, planned = facts.num_speculative_tokens, arm.num_speculative_tokens or None
    if facts.model != launch.model:
        raise ServerNotStarted(
            f"{arm.name}: its server serves {facts.model}, {launch.model} was asked for."
        )
    if told is not None and told != planned:
        raise ServerNotStarted(
            f"{arm.name}: its server drafts up to {told} tokens a block, the plan says "
            f"{planned or 'none'}."
        )
    if planned is not None and facts.evidence is Evidence.NONE:
        raise ServerNotStarted(f"{arm.name}: its server shows no sign of speculation.")


def _warnings(serving: Serving, launches: Iterable[Launch], *, num_servers: int) -> tuple[str, ...]:
    together = (
        "One server was up at a time; each was started anew for its turns."
        if serving.keep_apart
        else "All servers were up together on this machine, one at a time under load."
    )
    cache = "The prefix cache of every server was off: each prompt was processed in full."
    notes = dict.fromkeys(note for launch in launches for note in launch.notes)
    return (cache, *([together] if num_servers > 1 else []), *notes)
