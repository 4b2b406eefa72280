"""What a server says of itself around a window: its counters and its memory."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from specmeasure.records.trace import DraftCounts
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

    Args:
        server: with no request of ours under way.
        expected: emitted tokens that it should have counted by now; None: not known.
        last: what it had counted when it had last stopped; it need not be watched if that is all.
    """
    snapshot = await server.snapshot()
    num_quiet = 0
    for _ in range(MOST_LOOKS):
        if snapshot is None or snapshot == last or _has_counted(snapshot, expected):
            break
        await asyncio.sleep(SETTLE_S)
        later = await server.snapshot()
        num_quiet = num_quiet + 1 if later == snapshot else 0
        snapshot = later
        if num_quiet == QUIET_LOOKS:
            break
    return snapshot


def _has_counted(snapshot: Snapshot, expected: int | None) -> bool:
    counted = snapshot.num_emitted_tokens
    return counted is None or (expected is not None and counted >= expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a server counted between two snapshots; None: it does not tell."""

    drafts: DraftCounts | None = None
    num_emitted_tokens: int | None = None


def counted_between(before: Snapshot | None, after: Snapshot | None) -> Counted:
    """Differences; none of a server whose counters went back, as those of a restarted one do."""
    if before is None or after is None:
        return Counted()
    num_emitted = None
    if before.num_emitted_tokens is not None and after.num_emitted_tokens is not None:
        num_emitted = after.num_emitted_tokens - before.num_emitted_tokens
        if num_emitted < 0:
            return Counted()
    return Counted(
        drafts=_drafts_between(before.drafts, after.drafts), num_emitted_tokens=num_emitted
    )


def _drafts_between(before: DraftCounts | None, after: DraftCounts | None) -> DraftCounts | None:
    """A server that has not drafted yet may not show its counters: they stood at 0."""
    if after is None:
        return None
    if before is None:
        return after
    try:
        return DraftCounts(
            num_draft_tokens=after.num_draft_tokens - before.num_draft_tokens,
            num_accepted_tokens=after.num_accepted_tokens - before.num_accepted_tokens,
            num_drafted_blocks=_less(after.num_drafted_blocks, before.num_drafted_blocks),
            accepted_by_position=_each_less(
                after.accepted_by_position, before.accepted_by_position
            ),
        )
    except ValueError:  # impossible differences: the counters went back, or are not one moment's
        return None


def _less(after: int | None, before: int | None) -> int | None:
    return None if after is None else after - (before or 0)


def _each_less(
    after: tuple[int, ...] | None, before: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    if after is None:
        return None
    earlier = (*(before or ()), *[0] * len(after))
    return tuple(later - sooner for later, sooner in zip(after, earlier, strict=False))


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
