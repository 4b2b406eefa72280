"""Where workers are and what is heard of them: in this process here, on a cluster in ``ray_pool``.

What a task is, the caller says, and how tasks are handed out, ``pool``.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from specmeasure.errors import SpecmeasureError
from specmeasure.records.machine import Environment
from specmeasure.records.plan import ModelOptions
from specmeasure.records.trace import ModelFacts

Task = TypeVar("Task")
Finding = TypeVar("Finding")
Task_contra = TypeVar("Task_contra", contravariant=True)
Finding_co = TypeVar("Finding_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a worker says of itself once it is ready."""

    environment: Environment
    models: tuple[ModelFacts, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a worker may use of its machine."""

    num_cores: int
    num_granted: int | None = None  # cores that its threads were capped to; None: to none
    lead: Facts | None = None  # of the worker that was ready first; None: this is the one

    def options(self, options: ModelOptions) -> ModelOptions:
        """The same with the first worker's number of threads, so that paces can be compared."""
        if self.lead is None:
            return options
        return replace(options, num_threads=self.lead.environment.num_threads)

    def seen(self, machine: Environment, accelerators: tuple[str, ...]) -> Environment:
        """A machine as far as it is the worker's.

        Args:
            machine: all of it.
            accelerators: names of those that the worker was given.
        """
        cap = machine.threads_capped_by
        is_ours = cap is not None and cap.endswith(f"={self.num_granted}")  # set for the share
        return replace(
            machine, accelerators=accelerators, threads_capped_by=None if is_ours else cap
        )


class Station(Protocol[Task_contra, Finding_co]):
    """What stands ready in a worker: models, loaded once."""

    facts: Facts

    def work(self, task: Task_contra) -> Iterator[Finding_co]:
        """Carry out one task, telling each finding as soon as it is made."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A worker that is being set up has its place; loading may take long."""

    who: Hashable
    node: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker stands ready."""

    who: Hashable
    node: str
    facts: Facts


@dataclass(frozen=True, slots=True)
class Told(Generic[Finding]):
    """A worker made a finding."""

    who: Hashable
    finding: Finding


@dataclass(frozen=True, slots=True)
class Done:
    """A worker finished its task."""

    who: Hashable


@dataclass(frozen=True, slots=True)
class Died:
    """A worker is no more."""

    who: Hashable
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker met an error that another worker would meet, too."""

    who: Hashable
    error: SpecmeasureError  # names the node


class Crew(Protocol[Task_contra, Finding]):
    """Where workers are, and what is heard of them."""

    def hire(self, lead: Facts | None) -> Hashable:
        """Begin to set up one more worker; returns who it is, at once."""

    def give(self, who: Hashable, task: Task_contra) -> None:
        """Let a ready worker without a task begin this one."""

    def hear(
        self, timeout_s: float
    ) -> Placed | Ready | Told[Finding] | Done | Died | Failed | None:
        """What happens next; None: nothing within this time."""

    def dismiss(self, who: Hashable) -> None:
        """End one worker; nothing more is heard of it."""

    def close(self) -> None:
        """End all workers."""


class InProcessCrew(Generic[Task, Finding]):
    """One worker, in this process; its errors are raised where they are heard of."""

    def __init__(self, make: Callable[[Share], Station[Task, Finding]], share: Share) -> None:
        self._make = make
        self._share = share
        self._station: Station[Task, Finding] | None = None
        self._findings: Iterator[Finding] = iter(())

    def hire(self, lead: Facts | None) -> Hashable:  # noqa: ARG002 - there is one
        """See ``Crew``."""
        return 0

    def give(self, who: Hashable, task: Task) -> None:  # noqa: ARG002 - likewise
        """See ``Crew``."""
        if self._station is not None:
            self._findings = self._station.work(task)

    def hear(self, timeout_s: float) -> Ready | Told[Finding] | Done:  # noqa: ARG002 - it works here
        """See ``Crew``."""
        if self._station is None:
            self._station = self._make(self._share)
            return Ready(0, "this process", self._station.facts)
        for finding in self._findings:
            return Told(0, finding)
        return Done(0)

    def dismiss(self, who: Hashable) -> None:  # noqa: ARG002 - there is one
        """See ``Crew``."""
        self.close()

    def close(self) -> None:
        """See ``Crew``."""
        self._station, self._findings = None, iter(())
