"""Records a replay: the target's answers, then every candidate along them, one draft at a time.

What is on disk is not done again after an interruption; only a candidate that was being timed is
timed anew. In memory are an answer's facts, a batch for each worker, and no scores: what there is
grows by about a kilobyte an answer, whatever its length, beside the contexts that wait.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Plan
from specmeasure.records.replay import Answer, RecordingFacts, ReplayRequest
from specmeasure.run.answering import Answerer
from specmeasure.run.costing import Costing, timed_contexts
from specmeasure.run.replay_tasks import Weighed
from specmeasure.run.replay_workers import PooledTarget
from specmeasure.run.scoring import Scorer, answer_groups, draft_groups
from specmeasure.run.watch import SILENT, Watchers
from specmeasure.trace.replays import ReplayJournal

COST_QUANTILES = (0.1, 0.5, 0.9)  # of all blocks' contexts: where steps are timed


@dataclass(slots=True)
class Replayer:
    """Records what is not in the journal yet.

    Args:
        machine: what the cost table calls this machine; None: the workers that timed.
    """

    request: ReplayRequest
    target: PooledTarget
    journal: ReplayJournal
    machine: str | None
    watchers: Watchers = SILENT

    def record(self, prompts: Sequence[Prompt]) -> None:
        """Answer, score, time and seal.

        Raises:
            UsageError: recorded responses that are not the target's.
            ModelError: a draft that cannot be loaded, or does not fit.
            WorkersLost: none is left, or one batch has ended several.
        """
        groups = draft_groups(self._plan.speculative_arms)
        num_turns = sum(len(prompt.turns) for prompt in prompts)
        self.watchers.planned(num_turns * (2 + len(groups)))
        self.watchers.stage(
            "reading recorded responses" if self.request.use_references else "answering"
        )
        answerer = Answerer(self.request, self.target, self.journal, self.watchers)
        answers = answerer.answers(prompts)
        started = time.perf_counter()
        scorer = self._scorer(answers)
        self.watchers.stage("scoring the target")
        fit = scorer.score_target()
        costing = self._costing(answers)
        costing.time_target()
        weighed = {
            place: one
            for group in groups
            for place, one in zip(group, self._weigh(group, scorer, costing), strict=True)
        }
        largest = max((one.facts.model_bytes for one in weighed.values()), default=0)
        peaks = (scorer.peak_memory_bytes, *(one.peak_memory_bytes for one in weighed.values()))
        known = self.target.known
        recording = RecordingFacts(
            generation_s=answerer.generation_s,
            num_generated_tokens=sum(answer.num_tokens for answer in answers),
            scoring_s=time.perf_counter() - started,
            peak_memory_bytes=max(peaks) or None,
            largest_pair_bytes=known.weight_bytes + largest,
            num_target_flops_per_token=known.num_flops_per_token,
            target_bytes=known.weight_bytes,
            target_cache_bytes_per_token=known.cache_bytes_per_token,
            plausibility=fit,
            left_out=answerer.left_out,
        )
        self.journal.seal(
            self._kept(answers),
            recording,
            tuple(weighed[place].facts for place in sorted(weighed)),
            costing.table(self.machine),
        )

    @property
    def _plan(self) -> Plan:
        return self.request.request.plan

    def _scorer(self, answers: Sequence[Answer]) -> Scorer:
        return Scorer(
            request=self.request,
            answers=answers,
            groups=answer_groups(answers, self.request.batch_size),
            workers=self.target.workers,
            journal=self.journal,
            watchers=self.watchers,
        )

    def _weigh(self, group: Sequence[int], scorer: Scorer, costing: Costing) -> Iterator[Weighed]:
        """Candidates that share a draft: scored, then timed while it is still in memory."""
        names = [self._plan.speculative_arms[place].name for place in group]
        self.watchers.stage(f"scoring {', '.join(names)}")
        scorer.score_drafts(group)
        for place in group:
            yield costing.weigh(place)

    def _costing(self, answers: Sequence[Answer]) -> Costing:
        """Steps are timed along the longest sequence, at lengths that blocks of all answers had."""
        longest = max(answers, key=lambda one: one.num_prompt_tokens + one.num_tokens)
        whole = self.journal.answer(longest.key)
        ids = (*(whole.prompt_ids or ()), *(whole.token_ids or ()))
        return Costing(
            workers=self.target.workers,
            journal=self.journal,
            contexts=[ids[:length] for length in timed_contexts(answers, COST_QUANTILES)],
            most=max(arm.num_speculative_tokens for arm in self._plan.speculative_arms),
            watchers=self.watchers,
        )

    def _kept(self, answers: Sequence[Answer]) -> Iterator[Answer]:
        """Answers as the sealed replay has them: with their ids where text is kept."""
        with_ids = self._plan.include_text
        return (self.journal.answer(one.key) if with_ids else one for one in answers)
