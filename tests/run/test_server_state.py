"""Counters and memory around a window."""

import asyncio

import pytest

from specmeasure.records.trace import DraftCounts
from specmeasure.run.server_state import (
    MOST_LOOKS,
    QUIET_LOOKS,
    SETTLE_S,
    Counted,
    MemoryWatch,
    counted_between,
    settled_snapshot,
)
from specmeasure.servers.server import Snapshot
from tests.fake_servers import clock, run


class Counting:
    """A server whose counters say these one after another, and then the last for ever."""

    def __init__(self, *counts):
        self._counts = list(counts)

    async def snapshot(self):
        count = self._counts.pop(0) if len(self._counts) > 1 else self._counts[0]
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
    ],
    ids=["there", "comes", "falls short", "moves once", "never stops", "has none", "has no more"],
)
def test_counters_are_watched_until_they_stop(counts, known, expected):
    """At once where all is counted that was expected; never longer than a bound."""
    assert expected == settled(Counting(*counts), **known)


def test_counters_that_stopped_before_are_not_watched():
    """Where nothing was asked in between, one look is enough."""
    last = Snapshot(drafts=None, num_emitted_tokens=5)

    assert (5, 0) == settled(Counting(5, 6), last=last)


def counts(drafted, accepted, blocks=None, positions=None):
    return DraftCounts(
        num_draft_tokens=drafted,
        num_accepted_tokens=accepted,
        num_drafted_blocks=blocks,
        accepted_by_position=positions,
    )


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (counts(8, 3, 2, (2, 1)), counts(20, 9, 5, (5, 4)), counts(12, 6, 3, (3, 3))),
        (counts(8, 3), counts(20, 9), counts(12, 6)),
        (None, counts(20, 9, 5), counts(20, 9, 5)),
        (counts(8, 3, 2, (3,)), counts(20, 9, 5, (5, 4)), counts(12, 6, 3, (2, 4))),
        (None, None, None),
        (counts(8, 3), None, None),
        (counts(8, 3), counts(4, 1), None),
    ],
    ids=["all", "sums", "first drafts", "new position", "none", "gone", "went back"],
)
def test_drafts_of_a_window_are_differences(before, after, expected):
    """What cannot be a difference of two counters is unknown, and never a number."""
    earlier, later = (
        Snapshot(drafts=before, num_emitted_tokens=1),
        Snapshot(drafts=after, num_emitted_tokens=4),
    )

    assert Counted(drafts=expected, num_emitted_tokens=3) == counted_between(earlier, later)


def test_a_server_that_began_anew_counted_nothing_we_know():
    """Its counters stand below where they stood; the difference means nothing."""
    before = Snapshot(drafts=None, num_emitted_tokens=9)
    after = Snapshot(drafts=counts(4, 1), num_emitted_tokens=3)

    assert Counted() == counted_between(before, after)
    assert Counted() == counted_between(None, after) == counted_between(before, None)


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
