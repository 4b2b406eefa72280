"""Carries out a plan over workers: hands out prompts, keeps what comes back, tells what is lost.

A turn of a prompt is measured by one worker as a whole. What a worker told of a turn before it died
stays in its journal; the turn is measured again by another, and readers take the whole one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from specmeasure.estimate.running import RunningSums
from specmeasure.records.corpus import Prompt
from specmeasure.records.machine import Worker
from specmeasure.records.plan import Plan, TrialKey
from specmeasure.records.trace import Checks, TrialRecord
from specmeasure.run.crowding import CrowdingWatch
from specmeasure.run.events import Finished, Found, GivenUp, Gone, Joined, Lost, Missed, what_became
from specmeasure.run.fitting import Fit
from specmeasure.run.measuring import Finding, FitPrompts, Fitted, Measure, Task, WarmUp
from specmeasure.run.pool import Pool
from specmeasure.run.trials import labels_of
from specmeasure.run.watch import SILENT, Watchers

FITTED_TOGETHER = 200  # prompts of one task
FITTED_CHARACTERS = 1_000_000  # of one task's prompts; a longer prompt is a task by itself


class WorkerJournals(Protocol):
    """Where records go; each call is on disk when it returns."""

    def add_trial(self, worker: int, trial: TrialRecord) -> None:
        """Keep one finished trial."""

    def add_checks(self, worker: int, checks: Mapping[TrialKey, Checks]) -> None:
        """Keep the checks of one turn's trials."""


@dataclass(slots=True, kw_only=True)
class FleetRecorder:
    """Measures prompts with the workers of a pool.

    Args:
        plan: what every prompt goes through.
        pool: workers that are ready.
        watchers: told what happens.
        joined: told of each worker that came in the place of another.
        crowding: looks at each trial for other work.
    """

    plan: Plan
    pool: Pool[Task, Finding]
    watchers: Watchers = SILENT
    joined: Callable[[Worker], None] = lambda _: None
    crowding: CrowdingWatch | None = None
    _seen: set[TrialKey] = field(default_factory=set)  # told before their worker died

    def fits(self, prompts: Sequence[Prompt]) -> list[Fit]:
        """Of every prompt, whether the models can hold it."""
        found: dict[int, Fit] = {}
        for event in self._events(fit_tasks(prompts)):
            match event:
                case Found(task=FitPrompts() as task, finding=Fitted() as fitted):
                    found |= dict(enumerate(fitted.fits, start=task.place))
                case GivenUp(task=FitPrompts() as task):
                    lost = Fit(num_tokens=0, reason="workers died while they read it")
                    found |= dict.fromkeys(range(task.place, task.place + len(task.prompts)), lost)
        return [found[place] for place in range(len(prompts))]

    def record(
        self,
        prompts: Sequence[Prompt],
        journals: WorkerJournals,
        *,
        warm_up: Sequence[Prompt],
        recorded: Sequence[TrialRecord] = (),
    ) -> None:
        """Measure what is not recorded yet.

        Args:
            prompts: in the order of the run.
            journals: by worker.
            warm_up: decoded by every worker before its first prompt.
            recorded: trials of earlier sessions.
        """
        whole = whole_turns(self.plan, recorded)
        book = _Book(plan=self.plan, journals=journals)
        for trial in recorded:
            if (trial.key.prompt_id, trial.key.turn) in whole:
                book.sums.add(trial)
                self.watchers.trial()
        tasks = _open_prompts(prompts, whole)
        for event in self._events(tasks, WarmUp(prompts=tuple(warm_up)), book.again):
            match event:
                case Found(task=Measure() as task):
                    self._see(*book.keep(event.worker, task, event.finding))
                case Finished(task=Measure() as task):
                    book.finish(task)
                    self.watchers.running(book.sums.arms)
                case Lost(task=Measure() as task):
                    self._seen |= book.keys(task)
                case GivenUp(task=Measure() as task):
                    self._see(*book.fail(event.worker, task, event.reason))

    def _events(
        self,
        tasks: Iterable[Task],
        first: Task | None = None,
        again: Callable[[Task], Task] = lambda task: task,
    ) -> Iterator[Found[Task, Finding] | Finished[Task] | Lost[Task] | GivenUp[Task]]:
        """What a caller keeps; what became of workers is told."""
        for event in self.pool.run(tasks, first=first, again=again):
            match event:
                case Joined():
                    self.joined(event.worker)
                    self.watchers.stage(
                        f"worker {event.worker.number} on node {event.worker.node} joins"
                    )
                case Missed() | Gone():
                    self.watchers.warning(what_became(event))
                case Lost() | GivenUp():
                    self.watchers.warning(what_became(event))
                    yield event
                case Found() | Finished():
                    yield event

    def _see(self, *trials: TrialRecord) -> None:
        for trial in trials:
            if self.crowding is not None:
                self.crowding.see(trial)
            if trial.key not in self._seen:
                self.watchers.trial()


@dataclass(slots=True, kw_only=True)
class _Book:
    """What workers told of the prompts that they are at."""

    plan: Plan
    journals: WorkerJournals
    sums: RunningSums = field(init=False)
    _told: defaultdict[int, dict[TrialKey, TrialRecord]] = field(
        default_factory=lambda: defaultdict(dict)
    )  # by the prompt's place

    def __post_init__(self) -> None:
        self.sums = RunningSums(self.plan.arms)

    def keep(self, worker: int, task: Measure, finding: Finding) -> list[TrialRecord]:
        """Write a finding down; returns the trial that it is."""
        told = self._told[task.index]
        if isinstance(finding, TrialRecord):
            own = replace(finding, worker=worker)
            self.journals.add_trial(worker, own)
            told[own.key] = own
            return [own]
        if isinstance(finding, dict):
            self.journals.add_checks(worker, finding)
            for key, checks in finding.items():
                told[key] = replace(told[key], checks=checks)
        return []

    def finish(self, task: Measure) -> None:
        """Sum a prompt's trials up together: those of other workers came in between."""
        for trial in self._told.pop(task.index, {}).values():
            self.sums.add(trial)

    def keys(self, task: Measure) -> set[TrialKey]:
        """Of the trials that were told of a prompt."""
        return set(self._told[task.index])

    def again(self, task: Task) -> Task:
        """A lost prompt without the turns that are whole; what else was told is void."""
        if not isinstance(task, Measure):
            return task
        told = self._told[task.index]
        whole = whole_turns(self.plan, told.values())
        kept = tuple(trial for trials in whole.values() for trial in trials)
        self._told[task.index] = {trial.key: told[trial.key] for trial in kept}
        return replace(task, recorded=(*task.recorded, *kept))

    def fail(self, worker: int, task: Measure, reason: str) -> list[TrialRecord]:
        """Trials that no worker lived through, as rows with their error."""
        unchecked = {
            key: Checks()
            for key, trial in self._told[task.index].items()
            if not trial.failed and trial.checks is None
        }
        if unchecked:  # of the last worker's last turn
            self.keep(worker, task, unchecked)
        done = {trial.key for trial in task.recorded} | self.keys(task)
        rows = [
            TrialRecord(
                key=key,
                prompt_hash=task.prompt.content_hash,
                labels=labels_of(task.prompt),
                sampling=self.plan.settings_for(task.prompt.asked).sampling,
                error=f"several workers died at this prompt; of the last: {reason}",
            )
            for key in _keys(self.plan, task.prompt)
            if key not in done
        ]
        kept = [own for row in rows for own in self.keep(worker, task, row)]
        self.finish(task)
        return kept


def whole_turns(
    plan: Plan, recorded: Iterable[TrialRecord]
) -> dict[tuple[str, int], tuple[TrialRecord, ...]]:
    """Turns of which nothing is missing, neither a trial nor its checks, without their blocks.

    A turn ends in checks of all its answers, empty ones where an audit failed.
    """
    found: defaultdict[tuple[str, int], dict[TrialKey, TrialRecord]] = defaultdict(dict)
    for trial in recorded:
        if trial.failed or trial.checks is not None:
            key = trial.key
            found[key.prompt_id, key.turn][key] = replace(trial, blocks=())
    num_trials = plan.num_repeats * len(plan.arms)
    whole = {turn: trials for turn, trials in found.items() if len(trials) == num_trials}
    return {turn: tuple(trials.values()) for turn, trials in whole.items()}


def fit_tasks(prompts: Sequence[Prompt]) -> Iterator[FitPrompts]:
    """All prompts in tasks that are small enough to travel."""
    place, num_characters = 0, 0
    for end, prompt in enumerate(prompts):
        size = _num_characters(prompt)
        is_full = end - place == FITTED_TOGETHER or num_characters + size > FITTED_CHARACTERS
        if is_full and end > place:
            yield FitPrompts(place=place, prompts=tuple(prompts[place:end]))
            place, num_characters = end, 0
        num_characters += size
    if place < len(prompts):
        yield FitPrompts(place=place, prompts=tuple(prompts[place:]))


def _num_characters(prompt: Prompt) -> int:
    """Of everything that makes a prompt long; a token counts as a few."""
    texts = [*(one.content for one in prompt.messages), prompt.text, prompt.tools]
    texts += prompt.references
    return sum(len(text) for text in texts if text) + 4 * len(prompt.token_ids or ())


def _open_prompts(
    prompts: Sequence[Prompt], whole: Mapping[tuple[str, int], tuple[TrialRecord, ...]]
) -> Iterator[Measure]:
    """Prompts of which a turn is not whole, with those that are."""
    for index, prompt in enumerate(prompts):
        turns = [whole.get((prompt.prompt_id, turn)) for turn in range(len(prompt.turns))]
        kept = [turn for turn in turns if turn is not None]
        if len(kept) < len(turns):
            recorded = tuple(trial for trials in kept for trial in trials)
            yield Measure(index=index, prompt=prompt, recorded=recorded)


def _keys(plan: Plan, prompt: Prompt) -> Iterator[TrialKey]:
    for turn in range(len(prompt.turns)):
        for repeat in range(plan.num_repeats):
            for arm in plan.arms:
                yield TrialKey(prompt_id=prompt.prompt_id, turn=turn, repeat=repeat, arm=arm.name)
