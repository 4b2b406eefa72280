"""Workers in this process that die where a test says so."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from specmeasure.errors import SpecmeasureError
from specmeasure.run.crew import Died, Done, Facts, Failed, Ready, Share, Told


class Counting:
    """Tells a task's number as often as the number says, and then that it is through."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.begun: list[Any] = []

    def work(self, task: Any) -> Iterator[Any]:
        self.begun.append(task)
        if isinstance(task, SpecmeasureError):
            raise task
        for _ in range(task):
            yield task


@dataclass
class _AtWork:
    task: Any
    findings: Iterator[Any]
    num_told: int = 0


@dataclass
class MortalCrew:
    """Stations that take turns at random; one dies instead of telling what the script names.

    Args:
        make: a station, from its share; an error of ours is a set-up that failed.
        dies: who (by order of hiring), its task, and the number of findings told of it.
        stillborn: those that die before they are ready.
        most_hired: later ones wait for a place and are never heard of.
    """

    make: Callable[[Share], Any]
    dies: Callable[[int, Any, int], bool] = lambda _who, _task, _told: False
    stillborn: frozenset[int] = frozenset()
    most_hired: int = 1000
    seed: int = 0
    stations: dict[int, Any] = field(default_factory=dict)
    leads: list[Facts | None] = field(default_factory=list)
    dismissed: list[int] = field(default_factory=list)
    is_closed: bool = False
    _coming: list[int] = field(default_factory=list)
    _at_work: dict[int, _AtWork] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def hire(self, lead: Facts | None) -> int:
        who = len(self.leads)
        self.leads.append(lead)
        if who < self.most_hired:
            self._coming.append(who)
        return who

    def give(self, who: int, task: Any) -> None:
        assert who not in self._at_work
        self._at_work[who] = _AtWork(task, self.stations[who].work(task))

    def hear(self, _timeout_s: float) -> Any:
        if self._coming:
            return self._set_up(self._coming.pop(0))
        if not self._at_work:
            return None
        who = self._rng.choice(sorted(self._at_work))
        one = self._at_work[who]
        if self.dies(who, one.task, one.num_told):
            del self._at_work[who]
            return Died(who, "It was scripted to.")
        try:
            for finding in one.findings:
                one.num_told += 1
                return Told(who, finding)
        except SpecmeasureError as error:
            return Failed(who, error)
        del self._at_work[who]
        return Done(who)

    def dismiss(self, who: int) -> None:
        self.dismissed.append(who)
        self._at_work.pop(who, None)

    def close(self) -> None:
        self.is_closed = True

    def _set_up(self, who: int) -> Any:
        if who in self.stillborn:
            return Died(who, "It was stillborn.")
        try:
            station = self.make(Share(num_cores=1, lead=self.leads[who]))
        except SpecmeasureError as error:
            return Failed(who, error)
        self.stations[who] = station
        return Ready(who, f"node-{who}", station.facts)
