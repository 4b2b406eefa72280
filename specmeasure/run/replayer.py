"""Records a replay: the target's answers, then every candidate along them, one draft at a time.

What is on disk is not done again after an interruption; only a candidate that was being timed is
timed anew.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from specmeasure.decode.teacher import Finished, TargetAlong
from specmeasure.engines.costs import CostMeter, TargetCosts
from specmeasure.engines.replay import ReplayEngine
from specmeasure.engines.tree_costs import NUM_NODES
from specmeasure.estimate.drift import is_near_tie
from specmeasure.records.corpus import Prompt
from specmeasure.records.costs import CostTable, DraftCosts
from specmeasure.records.plan import Arm, Method, Plan, Sampling
from specmeasure.records.replay import (
    Answer,
    CandidateFacts,
    CandidateScores,
    Plausibility,
    RecordingFacts,
    ReplayRequest,
)
from specmeasure.run.answering import Answerer
from specmeasure.run.plausibility import (
    ResponseFit,
    doubt,
    fit_greedy,
    fit_sampled,
    plausibility,
    refuse_implausible,
)
from specmeasure.run.watch import SILENT, Watchers
from specmeasure.trace.replays import ReplayJournal

READ_THE_TARGET = (Method.EARLY_EXIT, Method.MEDUSA)  # are scored in the target's own pass
COST_QUANTILES = (0.1, 0.5, 0.9)  # of all blocks' contexts: where steps are timed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Answers of one sampling setting that are read together, by their places."""

    index: int
    sampling: Sampling
    answers: dict[int, Finished]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weighed:
    """A candidate once it is scored: what it weighs, and what it costs by round."""

    facts: CandidateFacts
    rounds: tuple[DraftCosts, ...]


@dataclass(slots=True)
class Replayer:
    """Records what is not in the journal yet.

    Args:
        machine: what the cost table calls this machine.
    """

    request: ReplayRequest
    engine: ReplayEngine
    journal: ReplayJournal
    machine: str
    watchers: Watchers = SILENT
    _peak_bytes: int = 0
    _largest_draft_bytes: int = 0

    def record(self, prompts: Sequence[Prompt]) -> None:
        """Answer, score, time and seal.

        Raises:
            UsageError: recorded responses that are not the target's.
            ModelError: a draft that cannot be loaded, or does not fit.
        """
        arms = self._plan.speculative_arms
        groups = _groups(arms)
        num_turns = sum(len(prompt.turns) for prompt in prompts)
        self.watchers.planned(num_turns * (2 + len(groups)))
        self.watchers.stage(
            "reading recorded responses" if self.request.use_references else "answering"
        )
        answerer = Answerer(self.request, self.engine, self.journal, self.watchers)
        answers = answerer.answers(prompts)
        self._remember_peak()
        started = time.perf_counter()
        batches = _batches(answers, self.request.batch_size)
        fit = self._score_target(batches)
        meter = self._meter(answers)
        target_costs = self._target_costs(meter)
        weighed = [
            one for group in groups for one in self._weigh(group, batches, meter, target_costs)
        ]
        by_name = {one.facts.name: one for one in weighed}
        recording = RecordingFacts(
            generation_s=answerer.generation_s,
            num_generated_tokens=sum(answer.num_tokens for answer in answers),
            scoring_s=time.perf_counter() - started,
            peak_memory_bytes=self._peak_bytes or None,
            largest_pair_bytes=self.engine.target_bytes + self._largest_draft_bytes,
            num_target_flops_per_token=self.engine.num_flops_per_token,
            target_bytes=self.engine.target_bytes,
            target_cache_bytes_per_token=self.engine.cache_bytes_per_token,
            plausibility=fit,
            left_out=answerer.left_out,
        )
        self.journal.seal(
            answers if self._plan.include_text else list(map(_without_ids, answers)),
            recording,
            tuple(by_name[arm.name].facts for arm in arms),
            self._table(meter, target_costs, weighed),
        )

    @property
    def _plan(self) -> Plan:
        return self.request.request.plan

    def _score_target(self, batches: Sequence[_Batch]) -> Plausibility | None:
        """The target along every answer, and what reads its own pass: early exits and heads."""
        self.watchers.stage("scoring the target")
        arms = self._plan.speculative_arms
        readers = [place for place, arm in enumerate(arms) if arm.method in READ_THE_TARGET]
        fits = []
        for batch in batches:
            if not self.journal.has_positions(batch.index):
                self._score_target_batch(batch, readers)
            if self.request.use_references:
                fits.append(self.journal.noted(f"fit-{batch.index}", ResponseFit) or ResponseFit())
            self._tell(batch)
        if not fits:
            return None
        found = plausibility(fits)
        refuse_implausible(found, list({batch.sampling for batch in batches}))
        if said := doubt(found):
            self.watchers.warning(said)
        return found

    def _score_target_batch(self, batch: _Batch, readers: Sequence[int]) -> None:
        arms = self._plan.speculative_arms
        finished = list(batch.answers.values())
        scored = self.engine.score([arms[place] for place in readers], finished, batch.sampling)
        for column, place in enumerate(readers):
            scores = {
                answer: one.drafts[column]
                for answer, one in zip(batch.answers, scored, strict=True)
            }
            self.journal.add_scores(place, arms[place].name, batch.index, scores)
        along = [one.target for one in scored]
        if self.request.use_references:
            fit = sum(map(self._fit, finished, along, [batch.sampling] * len(along)), ResponseFit())
            self.journal.note(f"fit-{batch.index}", fit)
        positions = {
            answer: self.engine.target_scores(one, target)
            for (answer, one), target in zip(batch.answers.items(), along, strict=True)
        }
        self.journal.add_positions(batch.index, positions)  # last: it says that the batch is done

    def _fit(self, answer: Finished, along: TargetAlong, sampling: Sampling) -> ResponseFit:
        if not sampling.is_greedy:
            return fit_sampled(along)
        suspects = self.engine.audit(answer).suspects if along.token_rank.any() else ()
        return fit_greedy(along, sum(not is_near_tie(suspect) for suspect in suspects))

    def _weigh(
        self,
        group: Sequence[int],
        batches: Sequence[_Batch],
        meter: CostMeter,
        target_costs: TargetCosts,
    ) -> Iterator[_Weighed]:
        """Candidates that share a draft: score, time, free. Those in the target are scored."""
        arms = [self._plan.speculative_arms[place] for place in group]
        self.watchers.stage(f"scoring {', '.join(arm.name for arm in arms)}")
        for batch in batches:
            missing = [i for i in group if not self.journal.has_scores(i, batch.index)]
            if missing:
                self._score_batch(missing, batch)
            self._tell(batch)
        for place, arm in zip(group, arms, strict=True):
            weighed = self.journal.noted(f"candidate-{place}", _Weighed)
            if weighed is None:
                weighed = self._weigh_one(arm, meter, target_costs)
                self.journal.note(f"candidate-{place}", weighed)
            self._largest_draft_bytes = max(self._largest_draft_bytes, weighed.facts.model_bytes)
            yield weighed
        self._remember_peak()
        self.engine.loaded.drop_drafts()

    def _weigh_one(self, arm: Arm, meter: CostMeter, target_costs: TargetCosts) -> _Weighed:
        if arm.heads is None:
            rounds = meter.drafts(self.engine.drafting(arm, meter.decoder.sampling), target_costs)
        else:
            rounds = self.engine.head_costs(arm, meter, target_costs)
        return _Weighed(facts=self.engine.facts(arm), rounds=rounds)

    def _score_batch(self, places: Sequence[int], batch: _Batch) -> None:
        arms = [self._plan.speculative_arms[place] for place in places]
        finished = list(batch.answers.values())
        rows: list[Sequence[CandidateScores]]
        if all(map(self.engine.is_looked_up, arms)):
            rows = [
                [self.engine.look_up(arm, one, batch.sampling) for arm in arms] for one in finished
            ]
        else:
            scored = self.engine.score(arms, finished, batch.sampling)
            rows = [one.drafts for one in scored]
        for column, (place, arm) in enumerate(zip(places, arms, strict=True)):
            scores = {answer: row[column] for answer, row in zip(batch.answers, rows, strict=True)}
            self.journal.add_scores(place, arm.name, batch.index, scores)

    def _meter(self, answers: Sequence[Answer]) -> CostMeter:
        """Steps are timed along the longest sequence, at lengths that blocks of all answers had."""
        contexts = [
            answer.num_prompt_tokens + place
            for answer in answers
            for place in range(1, answer.num_tokens)
        ] or [answers[0].num_prompt_tokens]
        longest = max(answers, key=lambda one: one.num_prompt_tokens + one.num_tokens)
        ids = (*(longest.prompt_ids or ()), *(longest.token_ids or ()))
        lengths = np.quantile(contexts, COST_QUANTILES, method="nearest")
        most = max(arm.num_speculative_tokens for arm in self._plan.speculative_arms)
        return self.engine.cost_meter([ids[: int(length)] for length in lengths], most)

    def _target_costs(self, meter: CostMeter) -> TargetCosts:
        kept = self.journal.noted("target-costs", TargetCosts)
        if kept is None:
            self.watchers.stage("timing steps and verifications")
            kept = meter.target()
            self.journal.note("target-costs", kept)
        return kept

    def _table(
        self, meter: CostMeter, target: TargetCosts, weighed: Sequence[_Weighed]
    ) -> CostTable:
        return meter.table(
            self.machine,
            target,
            {one.facts.name: one.rounds for one in weighed},
            num_nodes=NUM_NODES if any(one.tree_s for own in weighed for one in own.rounds) else (),
        )

    def _tell(self, batch: _Batch) -> None:
        for _ in batch.answers:
            self.watchers.trial()

    def _remember_peak(self) -> None:
        self._peak_bytes = max(self._peak_bytes, self.engine.peak_memory_bytes())


def _groups(arms: Sequence[Arm]) -> list[list[int]]:
    """Places of candidates that are scored together: those of one draft or heads, exits."""
    groups: dict[tuple[Method, str | None], list[int]] = defaultdict(list)
    for place, arm in enumerate(arms):
        groups[arm.method, arm.draft or arm.heads].append(place)
    return list(groups.values())


def _batches(answers: Sequence[Answer], size: int) -> list[_Batch]:
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
        _Batch(
            index=index,
            sampling=answers[chunk[0]].sampling,
            answers={place: _finished(answers[place]) for place in chunk},
        )
        for index, chunk in enumerate(chunks)
    ]


def _finished(answer: Answer) -> Finished:
    if answer.token_ids is None or answer.prompt_ids is None:
        raise ValueError("an answer is scored while its ids are there")
    return Finished(context_ids=answer.prompt_ids, token_ids=answer.token_ids)


def _without_ids(answer: Answer) -> Answer:
    return replace(answer, token_ids=None, prompt_ids=None)
