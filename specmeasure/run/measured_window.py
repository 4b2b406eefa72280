"""One window carried out on one server, with what the server says of itself around it."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from specmeasure.errors import UnexpectedReply
from specmeasure.records.plan import Plan, TrialKey
from specmeasure.records.trace import Checks, TrialRecord, WindowRecord
from specmeasure.run.requests import Planned
from specmeasure.run.server_state import MemoryWatch, settled_snapshot
from specmeasure.run.traffic import Clock, Traffic, drive
from specmeasure.run.window_records import (
    Sent,
    num_emitted_tokens,
    sent_requests,
    trial_records,
    window_record,
)
from specmeasure.run.windows import Window, arrival_seed
from specmeasure.servers.prometheus import difference
from specmeasure.servers.server import Server, Snapshot

UNKNOWN = Snapshot(drafts=None, num_emitted_tokens=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredWindow:
    """What a window showed, before its answers are checked."""

    window: Window
    planned: Sequence[Planned]
    traffic: Traffic
    counted: Snapshot  # while it ran
    memory_bytes: int | None
    client_share: float  # of one core, that reading the answers took here
    doubts: tuple[str, ...] = ()  # why what was counted is not known, though there are counters

    @property
    def sent(self) -> list[Sent]:
        """Its requests with what came of them."""
        return sent_requests(self.planned, self.traffic)

    @property
    def record(self) -> WindowRecord:
        return window_record(self.window, self.traffic, self.counted, self.memory_bytes)

    def trials(self, checks: Mapping[TrialKey, Checks], *, keep_ids: bool) -> list[TrialRecord]:
        """Its requests as records, with what was found out about them."""
        records = trial_records(self.window, self.planned, self.traffic, keep_ids=keep_ids)
        return [replace(trial, checks=checks.get(trial.key)) for trial in records]


@dataclass(slots=True, kw_only=True)
class Stopwatch:
    """Measures windows of a plan.

    Args:
        plan: seeds the moments of open loops.
        clock: that replies are timed by.
        cpu_clock: of this process's own work.
    """

    plan: Plan
    clock: Clock
    cpu_clock: Clock = time.process_time
    _settled: dict[str, Snapshot] = field(default_factory=dict)  # the last of each server

    async def send(self, server: Server, window: Window, planned: Sequence[Planned]) -> Traffic:
        """The window's requests, or some of them, as its load says."""
        asks = [one.ask for one in planned if one.ask is not None]
        seed = arrival_seed(self.plan, window)
        return await drive(server, asks, window.load, seed=seed, clock=self.clock)

    def forget(self, server: Server) -> None:
        """Something else was asked of it: its counters may be moving."""
        self._settled.pop(server.facts.arm, None)

    async def measure(
        self,
        server: Server,
        window: Window,
        planned: Sequence[Planned],
        memory: Callable[[], int | None],
    ) -> MeasuredWindow:
        """All of a window; counters are read when no request is under way.

        Args:
            server: warm.
            window: to carry out.
            planned: its requests.
            memory: the server's resident bytes now; None: not ours to see.

        Raises:
            ServerLost: it died.
        """
        arm, doubts = server.facts.arm, list[str]()
        before = await _known(settled_snapshot(server, last=self._settled.pop(arm, None)), doubts)
        watch = MemoryWatch(memory)
        began = self.cpu_clock()
        traffic = await watch.over(self.send(server, window, planned))
        worked_s = self.cpu_clock() - began
        expected = None
        if before is not None and before.num_emitted_tokens is not None:
            expected = before.num_emitted_tokens + num_emitted_tokens(traffic)
        after = await _known(settled_snapshot(server, expected=expected), doubts)
        if after is not None:
            self._settled[arm] = after
        return MeasuredWindow(
            window=window,
            planned=planned,
            traffic=traffic,
            counted=_counted(before, after, doubts),
            memory_bytes=watch.most,
            client_share=worked_s / traffic.duration_s if traffic.duration_s else 0.0,
            doubts=tuple(f"{window.arm.name}: {doubt}" for doubt in doubts),
        )


async def _known(look: Awaitable[Snapshot | None], doubts: list[str]) -> Snapshot | None:
    """What is seen; None, and a doubt, where the page contradicts itself."""
    try:
        return await look
    except UnexpectedReply as error:
        doubts.append(str(error))
        return None


def _counted(before: Snapshot | None, after: Snapshot | None, doubts: list[str]) -> Snapshot:
    if before is None or after is None:
        return UNKNOWN
    try:
        return difference(before, after)
    except UnexpectedReply as error:
        doubts.append(str(error))
        return UNKNOWN
