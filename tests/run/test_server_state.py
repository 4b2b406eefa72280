"""Counters and memory around a window."""

import asyncio

import pytest

from specmeasure.errors import UnexpectedReply
from specmeasure.run.server_state import (
    MOST_LOOKS,
    QUIET_LOOKS,
    SETTLE_S,
    MemoryWatch,
    settled_snapshot,
)
from specmeasure.servers.server import Snapshot
from tests.fake_servers import clock, run


class Counting:
    """A server whose counters say these one after another, and then the last for ever.

    Where they say "torn", its page contradicts itself.
    """

    def __init__(self, *counts):
        self._counts = list(counts)

    async def snapshot(self):
        count = self._counts.pop(0) if len(self._counts) > 1 else self._counts[0]
        if count == "torn":
            raise UnexpectedReply("torn")
        return None if count is None else Snapshot(drafts=None, num_emitted_tokens=count)


def settled(server, **known):
    """What the last snapshot says, and how many pauses it took."""

    async def look():
        snapshot = await settled_snapshot(server, **known)
        return snapshot and snapshot.num_emitted_tokens, round(clock() / SETTLE_S)

    return run(look())


@pytest.mark.parametrize(
    ("counts", "known", "expected"),
    [
        ((5, 9), {"expected": 5}, (5, 0)),
        ((5, 7, 9), {"expected": 9}, (9, 2)),
        ((5,), {"expected": 9}, (5, QUIET_LOOKS)),
        ((5, 5, 6), {}, (6, 2 + QUIET_LOOKS)),
        (range(200), {}, (MOST_LOOKS, MOST_LOOKS)),
        ((None,), {}, (None, 0)),
        ((5, 6, None), {}, (None, 2)),
        (("torn", 5, "torn", 9), {"expected": 9}, (9, 3)),
    ],
    ids=[
        *("there", "comes", "falls short", "moves once", "never stops", "has none", "has no more"),
        "was read in the middle of changes",
    ],
)
def test_counters_are_watched_until_they_stop(counts, known, expected):
    """At once where all is counted that was expected; never longer than a bound."""
    assert expected == settled(Counting(*counts), **known)


def test_a_page_that_goes_on_contradicting_itself_is_refused():
    """After the same number of looks as counters that never stop."""
    with pytest.raises(UnexpectedReply, match="torn"):
        settled(Counting("torn"))


def test_counters_that_stopped_before_are_not_watched():
    """Where nothing was asked in between, one look is enough."""
    last = Snapshot(drafts=None, num_emitted_tokens=5)

    assert (5, 0) == settled(Counting(5, 6), last=last)


@pytest.mark.parametrize(("readings", "expected"), [((3, 9, 4), 9), ((None,), None)])
def test_the_most_memory_is_kept(readings, expected):
    """Read before, each second, and after; unknown stays unknown."""
    left = list(readings)
    watch = MemoryWatch(lambda: left.pop(0) if len(left) > 1 else left[0])

    assert "done" == run(watch.over(asyncio.sleep(1.5, "done")))
    assert expected == watch.most


def test_a_failure_ends_the_watch():
    """The work's own error comes through, and no task is left."""
    watch = MemoryWatch(lambda: 1)

    async def fail():
        with pytest.raises(ValueError, match="no"):
            await watch.over(failing())
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert set() == run(fail())


async def failing():
    await asyncio.sleep(2.5)
    raise ValueError("no")
