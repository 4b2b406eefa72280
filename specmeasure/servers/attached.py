"""Servers that somebody else started."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from specmeasure.records.plan import BASELINE, Arm
from specmeasure.records.serving import Endpoint, ServingEngine
from specmeasure.servers.server import Server

# their requests say themselves that no earlier one's cache may answer them
UNCACHED = (ServingEngine.VLLM, ServingEngine.LLAMACPP)
_CACHES = (
    "The prefix caches of attached servers are theirs: where they are on, a prompt that was sent "
    "before starts sooner, and the baseline's server is sent each prompt more often, by its A/A "
    "twin and by audits. Turn them off to compare times to the first token."
)


class ConnectedServer(Server, Protocol):
    """A server whose connection is ours to close."""

    warnings: tuple[str, ...]

    async def close(self) -> None:
        """End the connection; the server goes on."""


class Connect(Protocol):
    """Opens and checks one connection."""

    async def __call__(self, url: str, /, *, arm: Arm) -> ConnectedServer: ...


class AttachedFleet:
    """One connection for each URL. Their memory is not ours to see.

    Args:
        endpoints: by arm; the baseline's serves its A/A twin, too.
        connect: opens and checks one connection.
    """

    def __init__(self, endpoints: Sequence[Endpoint], connect: Connect) -> None:
        self._urls = {endpoint.arm: endpoint.url for endpoint in endpoints}
        self._connect = connect
        self._servers: dict[str, ConnectedServer] = {}
        self._lock = asyncio.Lock()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the servers' own set-ups make a reader wonder about."""
        servers = self._servers.values()
        own = tuple(dict.fromkeys(line for server in servers for line in server.warnings))
        may_cache = any(one.facts.engine not in UNCACHED for one in servers)
        return (*own, _CACHES) if may_cache else own

    async def server(self, arm: Arm) -> Server:
        """The arm's connection, opened if it is not open yet.

        Raises:
            ServerError: it cannot be reached, or is not what the arm needs.
        """
        name = BASELINE.name if arm.is_baseline else arm.name
        async with self._lock:
            if name not in self._servers:
                self._servers[name] = await self._connect(self._urls[name], arm=arm)
        return self._servers[name]

    def memory_bytes(self, arm: Arm) -> int | None:  # noqa: ARG002 - as of every fleet
        """Unknown."""
        return None

    def how_it_ended(self, arm: Arm) -> str | None:  # noqa: ARG002 - likewise
        """Unknown."""
        return None

    async def close(self) -> None:
        """End all connections."""
        for server in self._servers.values():
            await server.close()
        self._servers.clear()
