"""What a pool tells of its tasks and its workers."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from specmeasure.records.machine import Worker
from specmeasure.run.crew import Facts

MOST_DEATHS = 3  # of workers that one task may see before it is given up

Task = TypeVar("Task")
Finding = TypeVar("Finding")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Generic[Task, Finding]):
    """A task's finding; it is void if the task is lost later."""

    worker: int
    task: Task
    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(Generic[Task]):
    """All findings of a task are told."""

    worker: int
    task: Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost(Generic[Task]):
    """The worker died at this task; another gets it, and tells of it from its beginning."""

    worker: int
    task: Task
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp(Generic[Task]):
    """Several workers died at this task; no other gets it. The last death is told so alone."""

    worker: int  # the last of them
    task: Task
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A worker died before it had a task, at what comes before its first one."""

    worker: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A worker came in the place of one that died."""

    worker: Worker
    facts: Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A worker that was to come in the place of another did not."""

    reason: str


Event = Found[Task, Finding] | Finished[Task] | Lost[Task] | GivenUp[Task] | Gone | Joined | Missed


def what_became(event: Lost[Task] | GivenUp[Task] | Gone | Missed) -> str:
    """A sentence on a worker that is no more, or that did not come."""
    match event:
        case Lost():
            said = f"Worker {event.worker} is lost; what it was at goes to another."
        case GivenUp():
            said = (
                f"Worker {event.worker} is lost, too. {MOST_DEATHS} workers died at the same "
                "task, which is given up."
            )
        case Gone():
            said = f"Worker {event.worker} is lost with no task in hand."
        case Missed():
            said = "No worker came in another's place."
    return f"{said} {event.reason}"
