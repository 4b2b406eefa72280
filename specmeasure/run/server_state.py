"""What a server says of itself around a window: its counters and its memory."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from specmeasure.errors import UnexpectedReply
from specmeasure.servers.server import Server, Snapshot

T = TypeVar("T")
SETTLE_S = 0.1  # between two looks at counters that may still be moving
QUIET_LOOKS = 5  # without a change: they have stopped
MOST_LOOKS = 50
MEMORY_EVERY_S = 1.0


async def settled_snapshot(
    server: Server, *, expected: int | None = None, last: Snapshot | None = None
) -> Snapshot | None:
    """The server's counters when they have stopped moving; None: it has none.

    A page that contradicts itself was read in the middle of a change: it is read again.

    Args:
        server: with no request of ours under way.
        expected: emitted tokens that it should have counted by now; None: not known.
        last: what it had counted when it had last stopped; it need not be watched if that is all.

    Raises:
        UnexpectedReply: the page goes on contradicting itself.
    """
    snapshot = await _look(server)
    num_quiet = 0
    for _ in range(MOST_LOOKS):
        if snapshot is None or snapshot == last or _has_counted(snapshot, expected):
            break
        await asyncio.sleep(SETTLE_S)
        later = await _look(server)
        num_quiet = num_quiet + 1 if later == snapshot else 0
        snapshot = later
        if num_quiet == QUIET_LOOKS:
            break
    if isinstance(snapshot, UnexpectedReply):
        raise snapshot
    return snapshot


async def _look(server: Server) -> Snapshot | UnexpectedReply | None:
    try:
        return await server.snapshot()
    except UnexpectedReply as error:
        return error


def _has_counted(snapshot: Snapshot | UnexpectedReply, expected: int | None) -> bool:
    if isinstance(snapshot, UnexpectedReply):
        return False
    counted = snapshot.num_emitted_tokens
    return counted is None or (expected is not None and counted >= expected)


@dataclass(slots=True)
class MemoryWatch:
    """The most memory seen while the block runs; reading it costs a moment a second.

    Args:
        read: resident bytes now; None: not ours to see.
    """

    read: Callable[[], int | None]
    most: int | None = None

    async def over(self, work: Awaitable[T]) -> T:
        """Await the work, reading before, during and after it."""
        self._look()
        task = asyncio.create_task(self._go_on())
        try:
            return await work
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self._look()

    async def _go_on(self) -> None:
        while self.most is not None:
            await asyncio.sleep(MEMORY_EVERY_S)
            self._look()

    def _look(self) -> None:
        now = self.read()
        if now is not None:
            self.most = max(now, self.most or 0)
