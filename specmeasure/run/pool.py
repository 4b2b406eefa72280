"""Tasks for workers: whoever is free takes the next, and a dead worker's task goes to another.

What a task is, the caller says; where workers are, a crew says.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import Generic, Self, TypeVar

from specmeasure.errors import ClusterError, WorkersLost
from specmeasure.records.machine import Worker
from specmeasure.run.alike import unlikeness
from specmeasure.run.crew import Crew, Died, Done, Facts, Failed, Placed, Ready, Told
from specmeasure.run.events import (
    MOST_DEATHS,
    Event,
    Finished,
    Found,
    GivenUp,
    Gone,
    Joined,
    Lost,
    Missed,
)

MOST_FUTILE = (
    3  # deaths per worker asked for, since a task was last finished; then none is replaced
)
MOST_SURRENDERS = 3  # tasks given up in a row; deaths at later ones count as futile, too
WAIT_S = 300.0  # for a worker to find a place on the cluster; then it is told what is waited for

Task = TypeVar("Task")
Finding = TypeVar("Finding")


@dataclass(slots=True)
class _Try(Generic[Task]):
    """A task, and how often a worker died at it."""

    task: Task
    num_deaths: int = 0


@dataclass(slots=True)
class _Seat(Generic[Task]):
    """A worker as the pool sees it."""

    worker: Worker | None = None  # None: it is still being set up
    node: str | None = None  # None: it has no place on the cluster yet
    at_work: _Try[Task] | None = None
    prepares: bool = False  # at what comes before its first task
    run: int = 0  # that it was last given something in
    prepared_run: int = 0  # the last run whose preparation it has done


@dataclass(slots=True)
class Pool(Generic[Task, Finding]):
    """Workers that are ready, until it is closed.

    Args:
        crew: where workers are.
        num_workers: wanted at all times.
        pools_hardware: whether workers may differ in hardware.
        numbered_from: the number of the first worker.
        say: told what is waited for, from time to time.
    """

    crew: Crew[Task, Finding]
    num_workers: int = 1
    pools_hardware: bool = False
    numbered_from: int = 0
    say: Callable[[str], None] = lambda _: None
    workers: tuple[Worker, ...] = ()  # all that ever were ready, by number
    warnings: tuple[str, ...] = ()  # of all their set-ups, each once
    _seats: dict[Hashable, _Seat[Task]] = field(default_factory=dict)
    _lead: Facts | None = None
    _num_runs: int = 0
    _num_futile: int = 0
    _num_surrenders: int = 0  # since a task was last finished
    _fits: Callable[[Worker], bool] = lambda _: True

    def __enter__(self) -> Self:
        """Set up all workers: the first by itself, so that the others can follow its choices.

        Raises:
            SpecmeasureError: one cannot be set up, or is not like the first.
        """
        try:
            self._hire()
            self._settle()
            for _ in range(1, self.num_workers):
                self._hire()
            self._settle()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    @property
    def lead(self) -> Facts:
        """What the first worker said of itself; the others are like it."""
        if self._lead is None:
            raise ValueError("no worker of this pool was ready yet")
        return self._lead

    def run(
        self,
        tasks: Iterable[Task],
        *,
        first: Task | None = None,
        again: Callable[[Task], Task] = lambda task: task,
        fits: Callable[[Worker], bool] = lambda _: True,
    ) -> Iterator[Event[Task, Finding]]:
        """Carry out tasks, telling everything in the order in which it is heard.

        Tasks of one worker follow one another; of different workers they overlap. A task is asked
        for when a worker is free.

        Args:
            tasks: in this order, but for those that come again.
            first: what every worker does before its first task, also one that comes later; its
                findings are not told.
            again: what another worker gets in the place of a lost task, asked once that was told.
            fits: whether a worker may be given a task.

        Raises:
            WorkersLost: none that fits is left, and none comes.
            SpecmeasureError: a worker met an error that another would meet, too.
        """
        self._num_runs += 1
        self._fits = fits
        queue = _Queue(tasks, again)
        while True:
            self._hand_out(queue, first)
            if not queue.has_more() and not self._is_at_work():
                return
            self._refuse_misfits()
            yield from self._next(queue)

    @property
    def present(self) -> tuple[Worker, ...]:
        """Workers that are ready and live, as far as is known."""
        return tuple(seat.worker for seat in self._seats.values() if seat.worker is not None)

    def close(self) -> None:
        """End all workers."""
        self._seats.clear()
        self.crew.close()

    def _hire(self) -> None:
        self._seats[self.crew.hire(self._lead)] = _Seat()

    def _settle(self) -> None:
        """Wait until every worker is ready."""
        while any(seat.worker is None for seat in self._seats.values()):
            heard = self.crew.hear(WAIT_S)
            match heard:
                case None:
                    self._refuse_placeless()
                case Placed():
                    self._seats[heard.who].node = heard.node
                case Ready():
                    reason = self._seat(heard)
                    if reason is not None:
                        raise ClusterError(reason)
                case Failed():
                    raise heard.error
                case Died():
                    raise ClusterError(f"A worker died while it was being set up: {heard.reason}")

    def _refuse_placeless(self) -> None:
        """Nothing was heard for long: whoever loads models may take longer, others wait in vain."""
        coming = [seat for seat in self._seats.values() if seat.worker is None]
        num_placeless = sum(seat.node is None for seat in coming)
        if num_placeless:
            raise ClusterError(
                f"{num_placeless} of {self.num_workers} workers found no place on the cluster "
                f"within {WAIT_S:.0f} s: what was free for them is taken. Wait until other work "
                "has ended, or lower --workers or --gpus-per-worker."
            )
        self._say_who_loads()

    def _say_who_loads(self) -> bool:
        """Tell of workers that are being set up; returns whether there are any."""
        nodes = [seat.node for seat in self._seats.values() if seat.worker is None and seat.node]
        if nodes:
            self.say(f"still setting up workers on: {', '.join(nodes)}")
        return bool(nodes)

    def _seat(self, ready: Ready) -> str | None:
        """Number a worker that is ready; returns why it cannot be used, if it cannot."""
        number = self.numbered_from + len(self.workers)
        worker = Worker(number=number, node=ready.node, environment=ready.facts.environment)
        if self._lead is None:
            self._lead = ready.facts
        else:
            ours = self.workers[0] if self.workers else worker
            reason = unlikeness(ours, worker, pools_hardware=self.pools_hardware)
            if reason is None and ready.facts.models != self._lead.models:
                reason = (
                    f"The models on node {worker.node} are not those on node {ours.node}. Give all "
                    "nodes the same files."
                )
            if reason is not None:
                return reason
        self._seats[ready.who].worker = worker
        self.workers = (*self.workers, worker)
        self.warnings = tuple(dict.fromkeys((*self.warnings, *ready.facts.warnings)))
        return None

    def _hand_out(self, queue: "_Queue[Task]", first: Task | None) -> None:
        """Give every free worker something to do."""
        for who, seat in self._seats.items():
            if seat.worker is None or seat.at_work is not None or seat.prepares:
                continue
            if not self._fits(seat.worker):
                continue
            if first is not None and seat.prepared_run < self._num_runs:
                if queue.has_more():
                    seat.prepares, seat.run = True, self._num_runs
                    self.crew.give(who, first)
                continue
            seat.at_work = queue.next()
            if seat.at_work is not None:
                seat.run = self._num_runs
                self.crew.give(who, seat.at_work.task)

    def _is_at_work(self) -> bool:
        """Whether any worker has a task of this run."""
        return any(seat.at_work and seat.run == self._num_runs for seat in self._seats.values())

    def _refuse_misfits(self) -> None:
        """Raise WorkersLost where nobody who lives may do the task, and nobody comes."""
        seats = self._seats.values()
        if not any(seat.worker is None or self._fits(seat.worker) for seat in seats):
            raise WorkersLost(
                "No worker is left that can do this. Mend the cluster, then go on with --resume."
            )

    def _next(self, queue: "_Queue[Task]") -> Iterator[Event[Task, Finding]]:
        heard = self.crew.hear(WAIT_S)
        match heard:
            case None:
                self._refuse_idleness()
            case Placed():
                self._seats[heard.who].node = heard.node
            case Ready():
                yield self._joined(heard)
            case Told():
                yield from self._told(heard)
            case Done():
                yield from self._done(heard.who)
            case Died():
                yield from self._died(heard, queue)
            case Failed():
                yield self._failed(heard)

    def _refuse_idleness(self) -> None:
        if not (self._say_who_loads() or any(map(self._fits, self.present))):
            raise WorkersLost(
                f"No worker is left, and none came within {WAIT_S:.0f} s. Mend the cluster, then "
                "go on with --resume."
            )

    def _joined(self, ready: Ready) -> Joined | Missed:
        reason = self._seat(ready)
        if reason is None:
            return Joined(worker=self.workers[-1], facts=ready.facts)
        return self._missed(ready.who, reason)

    def _missed(self, who: Hashable, reason: str) -> Missed:
        del self._seats[who]
        self.crew.dismiss(who)
        self._refuse_emptiness(reason)
        return Missed(reason=reason)

    def _told(self, told: Told[Finding]) -> Iterator[Found[Task, Finding]]:
        seat = self._seats[told.who]
        if seat.worker is not None and seat.at_work is not None and seat.run == self._num_runs:
            yield Found(worker=seat.worker.number, task=seat.at_work.task, finding=told.finding)

    def _done(self, who: Hashable) -> Iterator[Finished[Task]]:
        seat = self._seats[who]
        if seat.prepares:
            seat.prepares, seat.prepared_run = False, seat.run
        elif seat.worker is not None and seat.at_work is not None:
            task, seat.at_work = seat.at_work.task, None
            self._num_futile = self._num_surrenders = 0
            if seat.run == self._num_runs:
                yield Finished(worker=seat.worker.number, task=task)

    def _died(self, died: Died, queue: "_Queue[Task]") -> Iterator[Event[Task, Finding]]:
        """Its task goes to another; another comes in its place, unless too many came in vain."""
        seat = self._seats.pop(died.who)
        self._num_futile += 1
        if seat.worker is None:
            yield Missed(reason=died.reason)
        elif seat.at_work is not None and seat.run == self._num_runs:
            yield from self._lost(seat.at_work, seat.worker.number, died.reason, queue)
        else:
            yield Gone(worker=seat.worker.number, reason=died.reason)
        if self._num_futile < MOST_FUTILE * self.num_workers:
            self._hire()
        self._refuse_emptiness(died.reason)

    def _lost(
        self, tried: _Try[Task], worker: int, reason: str, queue: "_Queue[Task]"
    ) -> Iterator[Lost[Task] | GivenUp[Task]]:
        """Whether another gets the task; one that is given up has its deaths explained."""
        tried.num_deaths += 1
        if tried.num_deaths < MOST_DEATHS:
            yield Lost(worker=worker, task=tried.task, reason=reason)
            queue.put_back(tried)
            return
        self._num_surrenders += 1
        if self._num_surrenders <= MOST_SURRENDERS:
            self._num_futile = 0
        yield GivenUp(worker=worker, task=tried.task, reason=reason)

    def _failed(self, failed: Failed) -> Missed:
        """One that could not be set up is missing; at work, its error is everyone's."""
        if self._seats[failed.who].worker is not None:
            raise failed.error
        return self._missed(failed.who, str(failed.error))

    def _refuse_emptiness(self, reason: str) -> None:
        if not self._seats:
            raise WorkersLost(
                f"No worker is left; of the last: {reason} Mend the cluster, then go on with "
                "--resume."
            )


class _Queue(Generic[Task]):
    """Tasks that nobody has yet: those that were lost first, then the others in order."""

    def __init__(self, tasks: Iterable[Task], renewed: Callable[[Task], Task]) -> None:
        self._renewed = renewed
        self._again: deque[_Try[Task]] = deque()
        self._tasks = iter(tasks)
        self._ahead: deque[_Try[Task]] = deque()  # at most one, asked for to know whether it is

    def put_back(self, lost: _Try[Task]) -> None:
        """Keep it, as it is to be done again, for whoever is free first."""
        lost.task = self._renewed(lost.task)
        self._again.append(lost)

    def next(self) -> _Try[Task] | None:
        """The next one, or None where there is none."""
        if not self.has_more():
            return None
        return self._again.popleft() if self._again else self._ahead.popleft()

    def has_more(self) -> bool:
        """Whether there is a next one, which may be asked for now."""
        if not self._again and not self._ahead:
            self._ahead.extend(map(_Try, islice(self._tasks, 1)))
        return bool(self._again or self._ahead)
