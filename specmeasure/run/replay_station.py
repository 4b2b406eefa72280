"""One worker of a replay: the target in memory, one draft beside it at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from specmeasure.decode.teacher import Finished, TargetAlong
from specmeasure.engines.replay import ReplayEngine
from specmeasure.engines.visible_gpus import visible_gpus
from specmeasure.estimate.drift import is_near_tie
from specmeasure.records.plan import Arm, Plan, Sampling
from specmeasure.records.replay import CandidateFacts, CandidateScores
from specmeasure.run.crew import Facts, Share
from specmeasure.run.crowding import CpuMeter
from specmeasure.run.environment import environment, load_average
from specmeasure.run.plausibility import ResponseFit, fit_greedy, fit_sampled
from specmeasure.run.replay_tasks import (
    Answered,
    AnswerTurns,
    Batch,
    DescribeTarget,
    DraftedBatch,
    DraftsScored,
    Finding,
    ScoreDrafts,
    ScoreTarget,
    TargetScored,
    Task,
    TimedTarget,
    TimeTarget,
    Weigh,
    Weighed,
)


class ReplayStation:
    """Carries out tasks; a draft is dropped when a task needs another one."""

    def __init__(self, engine: ReplayEngine, plan: Plan, facts: Facts) -> None:
        self.facts = facts
        self._engine = engine
        self._arms = plan.speculative_arms
        self._drafting: str | None = None  # the draft or the heads that are in memory
        self._drafts: dict[str, CandidateFacts] = {}  # by arm

    def work(self, task: Task) -> Iterator[Finding]:
        """See ``Station``."""
        match task:
            case DescribeTarget():
                yield self._engine.target
            case AnswerTurns():
                yield from self._answer(task)
            case ScoreTarget():
                yield self._score_target(task)
            case ScoreDrafts():
                yield self._score_drafts(task)
            case TimeTarget():
                yield self._time_target(task)
            case Weigh():
                yield self._weigh(task)

    def _answer(self, task: AnswerTurns) -> Iterator[Answered]:
        places, asked = list(task.asked), list(task.asked.values())
        for index, generated in self._engine.answer(asked, batch_size=task.batch_size):
            yield Answered(place=places[index], generated=generated)

    def _score_target(self, task: ScoreTarget) -> TargetScored:
        batch, arms = task.batch, [self._arms[place] for place in task.readers]
        answers = list(batch.answers.values())
        scored = self._engine.score(arms, answers, batch.sampling)
        along = [one.target for one in scored]
        fits = map(self._fit, answers, along, [batch.sampling] * len(along))
        return TargetScored(
            positions={
                place: self._engine.target_scores(one, target)
                for (place, one), target in zip(batch.answers.items(), along, strict=True)
            },
            drafted=_by_candidate(task.readers, batch, [one.drafts for one in scored]),
            fit=sum(fits, ResponseFit()) if task.is_recorded else None,
            peak_memory_bytes=self._engine.peak_memory_bytes(),
        )

    def _fit(self, answer: Finished, along: TargetAlong, sampling: Sampling) -> ResponseFit:
        if not sampling.is_greedy:
            return fit_sampled(along)
        suspects = self._engine.audit(answer).suspects if along.token_rank.any() else ()
        return fit_greedy(along, sum(not is_near_tie(suspect) for suspect in suspects))

    def _score_drafts(self, task: ScoreDrafts) -> DraftsScored:
        batch, arms = task.batch, [self._arms[place] for place in task.places]
        self._make_room(arms[0])
        answers = list(batch.answers.values())
        rows: list[Sequence[CandidateScores]]
        if all(map(self._engine.is_looked_up, arms)):
            rows = [
                [self._engine.look_up(arm, one, batch.sampling) for arm in arms] for one in answers
            ]
        else:
            scored = self._engine.score(arms, answers, batch.sampling)
            rows = [one.drafts for one in scored]
        return DraftsScored(
            drafted=_by_candidate(task.places, batch, rows),
            models=self._facts(arms[0]).models,
            peak_memory_bytes=self._engine.peak_memory_bytes(),
        )

    def _time_target(self, task: TimeTarget) -> TimedTarget:
        meter = self._engine.cost_meter(task.contexts, task.most)
        costs = meter.target()
        return TimedTarget(costs=costs, table=meter.table("", costs, {}))

    def _weigh(self, task: Weigh) -> Weighed:
        arm = self._arms[task.place]
        self._make_room(arm)
        meter = self._engine.cost_meter(task.contexts, task.most)
        if arm.heads is None:
            drafting = self._engine.drafting(arm, meter.decoder.sampling)
            rounds = meter.drafts(drafting, task.target)
        else:
            rounds = self._engine.head_costs(arm, meter, task.target)
        return Weighed(
            facts=self._facts(arm),
            rounds=rounds,
            peak_memory_bytes=self._engine.peak_memory_bytes(),
        )

    def _facts(self, arm: Arm) -> CandidateFacts:
        if arm.name not in self._drafts:
            self._drafts[arm.name] = self._engine.facts(arm)
        return self._drafts[arm.name]

    def _make_room(self, arm: Arm) -> None:
        """Drop what an earlier task drafted with, unless this arm drafts with it, too."""
        wanted = arm.draft or arm.heads
        if wanted != self._drafting:
            self._engine.loaded.drop_drafts()
        self._drafting = wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadsReplayedModels:
    """Makes a station, in the process that calls it.

    Args:
        plan: names models and options.
        samplings: all that answers are decoded with.
    """

    plan: Plan
    samplings: tuple[Sampling, ...]

    def __call__(self, share: Share) -> ReplayStation:
        """A station with the cores and accelerators of the share.

        Raises:
            ModelError: with what to do.
        """
        plan = replace(self.plan, options=share.options(self.plan.options))
        load_before, meter = load_average(), CpuMeter()
        engine = ReplayEngine.load(plan, most_threads=share.num_cores, samplings=self.samplings)
        alone = meter.end() if share.lead is None else None  # others load beside one another
        machine = share.seen(environment(engine.num_threads, load_before, alone), visible_gpus())
        facts = Facts(environment=machine, models=(engine.target_facts,), warnings=engine.warnings)
        return ReplayStation(engine, plan, facts)


def _by_candidate(
    places: Sequence[int], batch: Batch, rows: Sequence[Sequence[CandidateScores]]
) -> DraftedBatch:
    """Rows [answer][candidate] by candidate, then by answer."""
    return {
        place: {answer: row[column] for answer, row in zip(batch.answers, rows, strict=True)}
        for column, place in enumerate(places)
    }
