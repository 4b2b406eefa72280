"""Whether a server's counts add up: of its requests, of its windows, and against its tokens.

What does not add up is said in a sentence, which names the count and by how much; nothing is
corrected.
"""

from collections import Counter
from collections.abc import Sequence

from specmeasure.records.trace import DraftCounts


def cross_check(requests: Sequence[DraftCounts], window: DraftCounts | None) -> tuple[str, ...]:
    """What contradicts, one sentence each; empty: all counts agree.

    What one of the two sides does not tell is not compared. The window's counters may hold other
    traffic, and requests that failed here and drafted there.

    Args:
        requests: counts of all requests of a window.
        window: differences of the server's own counters over it; None: it has none.
    """
    found = [line for request in requests for line in _within(request)]
    if window is None:
        return tuple(found)
    drafted = sum(counts.num_draft_tokens for counts in requests)
    accepted = sum(counts.num_accepted_tokens for counts in requests)
    found += _unequal("drafted tokens", drafted, window.num_draft_tokens)
    found += _unequal("accepted tokens", accepted, window.num_accepted_tokens)
    blocks = [_num_blocks(counts) for counts in requests]
    told = [number for number in blocks if number is not None]
    if len(told) == len(blocks):
        found += _unequal("drafted blocks", sum(told), window.num_drafted_blocks)
    return (*found, *_unequal_positions(requests, window))


def _within(counts: DraftCounts) -> list[str]:
    """A request against itself, beyond the sums, which the record itself keeps equal."""
    if counts.steps is None:
        return []
    found = []
    over = sum(accepted > drafted for drafted, accepted in counts.steps)
    if over:
        found.append(f"a request has {over} blocks that accepted more than they drafted")
    if counts.histogram is not None:
        by_step = Counter(accepted for _, accepted in counts.steps)
        told = Counter({j: number for j, number in enumerate(counts.histogram) if number})
        if by_step != told:
            found.append("a request's histogram is not that of its blocks")
    return found


def _num_blocks(counts: DraftCounts) -> int | None:
    if counts.num_drafted_blocks is not None:
        return counts.num_drafted_blocks
    if counts.steps is not None:
        return len(counts.steps)
    return None if counts.histogram is None else sum(counts.histogram)


def _unequal(what: str, by_request: int, counted: int | None) -> list[str]:
    if counted is None or by_request == counted:
        return []
    apart = abs(counted - by_request)
    side = "more" if counted > by_request else "fewer"
    return [
        f"{what}: the requests say {by_request}, the server's counters {counted}, {apart} {side}"
    ]


def _unequal_positions(requests: Sequence[DraftCounts], window: DraftCounts) -> list[str]:
    by_request = [_positions(counts) for counts in requests]
    counted = window.accepted_by_position
    if counted is None and not window.num_accepted_tokens:
        counted = ()  # nothing was accepted at any position
    told = [positions for positions in by_request if positions is not None]
    if counted is None or len(told) < len(by_request):
        return []
    width = max(map(len, (counted, *told)), default=0)
    return [
        line
        for i in range(width)
        for line in _unequal(
            f"accepted tokens at position {i}",
            sum(_at(positions, i) for positions in told),
            _at(counted, i),
        )
    ]


def _positions(counts: DraftCounts) -> tuple[int, ...] | None:
    """[K] blocks that kept draft i + 1, as told or as its blocks say; None: not known."""
    if counts.accepted_by_position is not None:
        return counts.accepted_by_position
    if counts.steps is not None:
        most = max((accepted for _, accepted in counts.steps), default=0)
        return tuple(sum(accepted > i for _, accepted in counts.steps) for i in range(most))
    if counts.histogram is not None:
        return tuple(sum(counts.histogram[i + 1 :]) for i in range(len(counts.histogram) - 1))
    return None if counts.num_accepted_tokens else ()


def _at(positions: tuple[int, ...], i: int) -> int:
    return positions[i] if i < len(positions) else 0
