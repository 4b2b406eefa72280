"""One window's requests, sent in a closed or in an open loop."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from specmeasure.errors import SpecmeasureError, UnexpectedReply
from specmeasure.records.serving import Load
from specmeasure.run.failures import in_one_line
from specmeasure.run.windows import arrivals
from specmeasure.servers.server import Ask, Reply, Server

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and what came of it: a reply, or the reason why there is none."""

    sent: float  # by the clock; of a request that was tried again, the last time
    ended: float  # when its last token came, or its failure
    reply: Reply | None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """All requests of a window, in the order in which they were to be sent."""

    exchanges: tuple[Exchange, ...]

    @property
    def began(self) -> float:
        """When the first request was sent, by the clock; 0 where none was."""
        return min((one.sent for one in self.exchanges), default=0.0)

    @property
    def duration_s(self) -> float:
        """First request sent to last token received."""
        return max((one.ended for one in self.exchanges), default=0.0) - self.began

    @property
    def mean_in_flight(self) -> float:
        """Requests under way, over the window's duration.

        Formula: Σ (ended − sent) / duration, which is the time average exactly.
        """
        waited = sum(one.ended - one.sent for one in self.exchanges)
        return waited / self.duration_s if self.duration_s else 0.0


async def drive(
    server: Server,
    asks: Sequence[Ask],
    load: Load,
    *,
    seed: int,
    clock: Clock = time.perf_counter,
) -> Traffic:
    """Send all of it, as the load says; a request that fails is a fact about that request.

    A closed loop keeps its number of requests in flight until none is left to send; an open loop
    sends each at its moment, whatever is in flight.

    Args:
        server: is asked.
        asks: in order.
        load: how they arrive.
        seed: of the moments of an open loop.
        clock: that ``Reply.sent`` is read from.

    Raises:
        ServerLost: the other requests are given up.
    """
    exchanges: list[Exchange | None] = [None] * len(asks)

    async def send(place: int) -> None:
        exchanges[place] = await _exchange(server, asks[place], clock)

    if load.concurrency is not None:
        waiting = iter(range(len(asks)))
        num_workers = min(load.concurrency, len(asks))
        await _all_of(_one_by_one(send, waiting) for _ in range(num_workers))
    elif load.rate is not None:
        began = clock()
        moments = arrivals(load.rate, len(asks), seed=seed)
        await _all_of(
            _at(began + moment, send, place, clock) for place, moment in enumerate(moments)
        )
    return Traffic(exchanges=tuple(one for one in exchanges if one is not None))


async def _one_by_one(
    send: Callable[[int], Coroutine[Any, Any, None]], waiting: Iterable[int]
) -> None:
    """One of the workers that share what is waiting."""
    for place in waiting:
        await send(place)


async def _at(
    moment: float, send: Callable[[int], Coroutine[Any, Any, None]], place: int, clock: Clock
) -> None:
    await asyncio.sleep(max(0.0, moment - clock()))
    await send(place)


async def _exchange(server: Server, ask: Ask, clock: Clock) -> Exchange:
    sent = clock()
    try:
        reply = await server.ask(ask)
    except UnexpectedReply as error:
        return Exchange(sent=sent, ended=clock(), reply=None, error=in_one_line(str(error)))
    ended = reply.sent + reply.ttft_s + reply.decode_s
    return Exchange(sent=reply.sent, ended=ended, reply=reply)


async def _all_of(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all at once; the first failure ends the others and is raised by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as failures:
        lost = failures.subgroup(SpecmeasureError)
        raise (lost or failures).exceptions[0] from None
