"""Scores of the target and of every candidate along all answers, batch by batch, into parts."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from specmeasure.decode.teacher import Finished
from specmeasure.errors import ClusterError
from specmeasure.records.plan import Arm, Method, Sampling
from specmeasure.records.replay import Answer, Plausibility, ReplayRequest
from specmeasure.records.trace import ModelFacts
from specmeasure.run.events import Found
from specmeasure.run.plausibility import ResponseFit, doubt, plausibility, refuse_implausible
from specmeasure.run.replay_tasks import (
    Batch,
    DraftedBatch,
    DraftsScored,
    ScoreDrafts,
    ScoreTarget,
    TargetScored,
)
from specmeasure.run.replay_workers import ReplayWorkers
from specmeasure.run.watch import SILENT, Watchers
from specmeasure.trace.replays import ReplayJournal

READ_THE_TARGET = (Method.EARLY_EXIT, Method.MEDUSA)  # are scored in the target's own pass


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerGroup:
    """Places of answers of one sampling setting that are read together."""

    index: int
    sampling: Sampling
    places: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class Scorer:
    """Scores what the journal does not hold yet.

    Ids of the batches that workers are at are in memory, and no others.

    Args:
        answers: without their ids.
        peak_memory_bytes: the most that any worker had, as far as was heard.
    """

    request: ReplayRequest
    answers: Sequence[Answer]
    groups: Sequence[AnswerGroup]
    workers: ReplayWorkers
    journal: ReplayJournal
    watchers: Watchers = SILENT
    peak_memory_bytes: int = 0

    def score_target(self) -> Plausibility | None:
        """The target along every answer, and what reads its own pass: early exits and heads.

        Returns:
            How well recorded responses fit the target; None where it answered itself.

        Raises:
            UsageError: recorded responses that are not the target's.
        """
        for found in self.workers.findings(self._target_tasks()):
            match found:
                case Found(task=ScoreTarget(batch=batch), finding=TargetScored() as scored):
                    if not self.journal.has_positions(batch.index):
                        self._keep_target(batch, scored)
        return self._plausibility() if self.request.use_references else None

    def score_drafts(self, places: Sequence[int]) -> None:
        """Candidates that share a draft, or heads, along every answer."""
        drafted: dict[int, tuple[ModelFacts, ...]] = {}  # with which models, by worker
        for found in self.workers.findings(self._draft_tasks(places)):
            match found:
                case Found(task=ScoreDrafts() as task, finding=DraftsScored() as scored):
                    drafted.setdefault(found.worker, scored.models)
                    self._refuse_other_drafts(drafted)
                    self._keep_drafts(task, scored)

    def _refuse_other_drafts(self, drafted: Mapping[int, tuple[ModelFacts, ...]]) -> None:
        """Raise ClusterError where workers drafted with models that differ."""
        (first, models), *others = drafted.items()
        other = next((worker for worker, own in others if own != models), None)
        if other is not None:
            nodes = [self.workers.worker(one).node for one in (first, other)]
            raise ClusterError(
                f"The draft {models[0].name if models else ''} on node {nodes[1]} is not that on "
                f"node {nodes[0]}. Give all nodes the same files, then go on with --resume."
            )

    @property
    def _arms(self) -> tuple[Arm, ...]:
        return self.request.request.plan.speculative_arms

    def _target_tasks(self) -> Iterator[ScoreTarget]:
        readers = [place for place, arm in enumerate(self._arms) if arm.method in READ_THE_TARGET]
        for group in self.groups:
            if self.journal.has_positions(group.index):
                self._end(group.places)
            else:
                yield ScoreTarget(
                    batch=self._batch(group),
                    readers=readers,
                    is_recorded=self.request.use_references,
                )

    def _draft_tasks(self, places: Sequence[int]) -> Iterator[ScoreDrafts]:
        for group in self.groups:
            missing = self._missing(places, group.index)
            if missing:
                yield ScoreDrafts(batch=self._batch(group), places=missing)
            else:
                self._end(group.places)

    def _missing(self, places: Sequence[int], batch: int) -> list[int]:
        return [place for place in places if not self.journal.has_scores(place, batch)]

    def _batch(self, group: AnswerGroup) -> Batch:
        kept = {place: self.journal.answer(self.answers[place].key) for place in group.places}
        return Batch(
            index=group.index,
            sampling=group.sampling,
            answers={
                place: Finished(context_ids=one.prompt_ids or (), token_ids=one.token_ids or ())
                for place, one in kept.items()
            },
        )

    def _keep_target(self, batch: Batch, found: TargetScored) -> None:
        self._keep_drafted(batch.index, found.drafted)
        if found.fit is not None:
            self.journal.note(f"fit-{batch.index}", found.fit)
        self.journal.add_positions(batch.index, found.positions)  # last: the batch is done
        self._end(batch.answers, found.peak_memory_bytes)

    def _keep_drafts(self, task: ScoreDrafts, found: DraftsScored) -> None:
        batch = task.batch
        if self._missing(task.places, batch.index):
            self._keep_drafted(batch.index, found.drafted)
            self._end(batch.answers, found.peak_memory_bytes)

    def _keep_drafted(self, batch: int, drafted: DraftedBatch) -> None:
        for place, scores in drafted.items():
            self.journal.add_scores(place, self._arms[place].name, batch, scores)

    def _plausibility(self) -> Plausibility:
        fits = (self.journal.noted(f"fit-{group.index}", ResponseFit) for group in self.groups)
        found = plausibility(filter(None, fits))
        refuse_implausible(found, list({group.sampling for group in self.groups}))
        if said := doubt(found):
            self.watchers.warning(said)
        return found

    def _end(self, answers: Iterable[int], peak_memory_bytes: int = 0) -> None:
        self.peak_memory_bytes = max(self.peak_memory_bytes, peak_memory_bytes)
        for _ in answers:
            self.watchers.trial()


def draft_groups(arms: Sequence[Arm]) -> list[list[int]]:
    """Places of candidates that are scored together: those of one draft or heads, exits."""
    groups: dict[tuple[Method, str | None], list[int]] = defaultdict(list)
    for place, arm in enumerate(arms):
        groups[arm.method, arm.draft or arm.heads].append(place)
    return list(groups.values())


def answer_groups(answers: Sequence[Answer], size: int) -> list[AnswerGroup]:
    """Answers of one sampling setting and about one length together."""
    order = sorted(
        range(len(answers)),
        key=lambda place: (
            str(answers[place].sampling),
            answers[place].num_prompt_tokens,
            answers[place].num_tokens,
        ),
    )
    chunks: list[list[int]] = []
    for place in order:
        last = chunks[-1] if chunks else []
        if not last or len(last) == size or answers[last[0]].sampling != answers[place].sampling:
            chunks.append([])
        chunks[-1].append(place)
    return [
        AnswerGroup(index=index, sampling=answers[chunk[0]].sampling, places=tuple(chunk))
        for index, chunk in enumerate(chunks)
    ]
