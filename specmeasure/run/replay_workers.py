"""A replay's workers, in this process or on a cluster, as its recorder speaks to them.

Findings do not depend on how many workers there are: what a task holds is decided by the prompts
and the batch size alone.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from specmeasure.decode.batch import Generated
from specmeasure.engines.replay import Asked
from specmeasure.engines.replayed_target import ReplayedTarget
from specmeasure.errors import WorkersLost
from specmeasure.records.corpus import Prompt
from specmeasure.records.machine import Worker
from specmeasure.records.plan import Sampling
from specmeasure.run.events import Found, GivenUp, Gone, Joined, Lost, Missed, what_became
from specmeasure.run.pool import Pool
from specmeasure.run.replay_tasks import Answered, AnswerTurns, DescribeTarget, Finding, Task
from specmeasure.run.watch import SILENT, Watchers

MOST_BATCHES = 8  # of answers in one task: neighbours then take the places of answers that ended
FEWEST_TASKS = 32  # tasks are smaller where there would be fewer, down to one batch
T = TypeVar("T", bound=Finding)


class Texts(Protocol):
    """A target's tokenizer; see ``TargetTexts``."""

    def context_ids(self, prompt: Prompt, replies: Sequence[str]) -> list[int]:
        """Ids of a turn's context."""

    def reply_text(self, token_ids: Sequence[int]) -> str:
        """What an answer says."""

    def response_ids(self, text: str) -> list[int]:
        """Ids of a recorded response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """An answer that could not be had."""

    reason: str


@dataclass(slots=True)
class ReplayWorkers:
    """Hands tasks to a pool, and says what became of workers.

    Args:
        pool: workers that are ready.
        watchers: told of workers that died, and of others that did not come in their place.
        joined: told of each worker that came in the place of another.
    """

    pool: Pool[Task, Finding]
    watchers: Watchers = SILENT
    joined: Callable[[Worker], None] = lambda _: None

    def describe(self) -> ReplayedTarget:
        """What a worker knows of the target."""
        return self.only(DescribeTarget(), ReplayedTarget)[1]

    def events(
        self, tasks: Iterable[Task], fits: Callable[[Worker], bool] = lambda _: True
    ) -> Iterator[Found[Task, Finding] | GivenUp[Task]]:
        """Findings as they are made, and tasks that no worker lived through.

        What was found for a task before its worker died is found again, and is the same.
        """
        for event in self.pool.run(tasks, fits=fits):
            match event:
                case Found():
                    yield event
                case GivenUp():
                    self.watchers.warning(what_became(event))
                    yield event
                case Lost() | Gone() | Missed():
                    self.watchers.warning(what_became(event))
                case Joined():
                    self.joined(event.worker)
                    self.watchers.stage(
                        f"worker {event.worker.number} on node {event.worker.node} joins"
                    )

    def findings(
        self, tasks: Iterable[Task], fits: Callable[[Worker], bool] = lambda _: True
    ) -> Iterator[Found[Task, Finding]]:
        """The same, where no task can be left out.

        Raises:
            WorkersLost: one task has ended several workers.
        """
        for event in self.events(tasks, fits):
            if isinstance(event, GivenUp):
                raise WorkersLost(
                    f"Several workers died at the same batch of answers; of the last: "
                    f"{event.reason} If memory ran out, start again with a smaller --batch-size; "
                    "else go on with --resume."
                )
            yield event

    def only(
        self, task: Task, kind: type[T], fits: Callable[[Worker], bool] = lambda _: True
    ) -> tuple[Worker, T]:
        """What the first worker that lives and fits finds, while no other has anything to do.

        Raises:
            WorkersLost: the task has ended several workers, or none is left that fits.
        """
        last: tuple[Worker, T] | None = None
        for found in self.findings([task], fits):  # to its end: a worker is at work until then
            if isinstance(found.finding, kind):
                last = self.worker(found.worker), found.finding
        if last is None:
            raise WorkersLost("No worker found what it was asked for. Go on with --resume.")
        return last

    def worker(self, number: int) -> Worker:
        """The worker of this number."""
        return next(one for one in self.pool.workers if one.number == number)


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledTarget:
    """A target that answers where its workers are.

    Args:
        known: what is known of it.
        texts: its tokenizer, here.
        workers: that hold its weights.
        splits: whether answers are shared out; else one task asks for all of them.
    """

    known: ReplayedTarget
    texts: Texts
    workers: ReplayWorkers
    splits: bool

    @property
    def context_limit(self) -> int | None:
        """Tokens that the target and all drafts hold."""
        return self.known.context_limit

    def context_ids(self, prompt: Prompt, replies: Sequence[str]) -> list[int]:
        """See ``ChatTokenizer``."""
        return self.texts.context_ids(prompt, replies)

    def reply_text(self, token_ids: Sequence[int]) -> str:
        """See ``TargetTexts``."""
        return self.texts.reply_text(token_ids)

    def response_ids(self, text: str) -> list[int]:
        """See ``TargetTexts``."""
        return self.texts.response_ids(text)

    def answer(
        self, asked: Sequence[Asked], *, batch_size: int
    ) -> Iterator[tuple[int, Generated | Unanswered]]:
        """The target's own answers, with the places of what was asked, as they finish."""
        shares = share_out(asked, batch_size) if self.splits else [range(len(asked))]
        tasks = (
            AnswerTurns(asked={place: asked[place] for place in share}, batch_size=batch_size)
            for share in shares
            if share
        )
        waiting = set(range(len(asked)))
        for event in self.workers.events(tasks):
            for place, said in _said(event):
                if place in waiting:
                    waiting.remove(place)
                    yield place, said


def _said(
    event: Found[Task, Finding] | GivenUp[Task],
) -> Iterator[tuple[int, Generated | Unanswered]]:
    if isinstance(event, Found):
        if isinstance(event.finding, Answered):
            yield event.finding.place, event.finding.generated
    elif isinstance(event.task, AnswerTurns):
        for place in event.task.asked:
            yield place, Unanswered(reason="workers died while it was answered")


def share_out(asked: Sequence[Asked], batch_size: int) -> list[list[int]]:
    """Places by sampling setting and length of context, in shares that suit many workers.

    The shares depend on what is asked and on the batch size, never on the number of workers.
    """
    size = min(MOST_BATCHES * batch_size, max(batch_size, -(-len(asked) // FEWEST_TASKS)))
    by_sampling: Mapping[Sampling, list[int]] = defaultdict(list)
    for place, one in enumerate(asked):
        by_sampling[one.settings.sampling].append(place)
    shares = []
    for places in by_sampling.values():
        places.sort(key=lambda place: len(asked[place].context_ids))
        shares += [places[start : start + size] for start in range(0, len(places), size)]
    return shares
