"""The answers that a replay is made of: the target's own, turn by turn, or recorded ones."""

import time
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from specmeasure.decode.batch import Generated
from specmeasure.engines.replay import Asked
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import Dropped, Prompt
from specmeasure.records.plan import Plan, TrialKey
from specmeasure.records.replay import Answer, ReplayRequest
from specmeasure.records.trace import FinishReason
from specmeasure.run.replay_workers import Texts, Unanswered
from specmeasure.run.trials import ids_hash, labels_of, trial_seed
from specmeasure.run.watch import SILENT, Watchers
from specmeasure.trace.replay_answers import without_ids
from specmeasure.trace.replays import ReplayJournal

FIRST_PLACES = 5


class Target(Texts, Protocol):
    """What answers: ``ReplayEngine``, or ``PooledTarget``."""

    @property
    def context_limit(self) -> int | None:
        """Tokens that the target and all drafts hold."""

    def answer(
        self, asked: Sequence[Asked], *, batch_size: int
    ) -> Iterator[tuple[int, Generated | Unanswered]]:
        """Answers with the places of what was asked, as they finish."""


@dataclass(slots=True)
class Answerer:
    """Answers what the journal does not hold yet; says what it left out and why.

    Token ids of answers are in the journal alone; those of contexts that wait are in memory.

    Args:
        generation_s: what answering took; None where answers were recorded, or kept from an
            earlier session.
    """

    request: ReplayRequest
    engine: Target
    journal: ReplayJournal
    watchers: Watchers = SILENT
    generation_s: float | None = 0.0
    _left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def answers(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """All turns' answers without their ids, prompt by prompt.

        Raises:
            UnreadableCorpus: there is none.
        """
        kept = {answer.key: without_ids(answer) for answer in self.journal.answers()}
        if kept or self.request.use_references:
            self.generation_s = None
        for _ in kept:
            self.watchers.trial()
        for turn in range(max(len(prompt.turns) for prompt in prompts)):
            started = time.perf_counter()
            for answer in self._answered(list(self._waiting(prompts, turn, kept))):
                self.journal.add_answer(answer)
                kept[answer.key] = without_ids(answer)
                self.watchers.trial()
            if self.generation_s is not None:
                self.generation_s += time.perf_counter() - started
        if not kept:
            reasons = "; ".join(self._left_out)
            raise UnreadableCorpus(f"none of {len(prompts)} prompts can be replayed: {reasons}.")
        keys = (self._key(prompt, turn) for prompt in prompts for turn in range(len(prompt.turns)))
        return [kept[key] for key in keys if key in kept]

    @property
    def left_out(self) -> tuple[Dropped, ...]:
        """Turns without an answer, by reason."""
        return tuple(
            Dropped(reason=reason, num_rows=len(places), places=tuple(places[:FIRST_PLACES]))
            for reason, places in self._left_out.items()
        )

    @property
    def _plan(self) -> Plan:
        return self.request.request.plan

    def _waiting(
        self, prompts: Sequence[Prompt], turn: int, kept: dict[TrialKey, Answer]
    ) -> Iterator["_Waiting"]:
        """Turns that can be answered and are not."""
        for prompt in prompts:
            key = self._key(prompt, turn)
            if turn >= len(prompt.turns) or key in kept:
                continue
            try:
                yield self._wait(prompt, key, kept)
            except UnreadableCorpus as error:
                self._leave_out(prompt, turn, str(error).removeprefix(f"{prompt.source}: "))

    def _wait(self, prompt: Prompt, key: TrialKey, kept: dict[TrialKey, Answer]) -> "_Waiting":
        """One turn with its context.

        Raises:
            UnreadableCorpus: with the reason why it is left out.
        """
        before = [self._key(prompt, turn) for turn in range(key.turn)]
        if any(one not in kept for one in before):
            raise UnreadableCorpus("it follows a turn that was left out")
        said = [self.journal.answer(one).token_ids for one in before]
        replies = [self.engine.reply_text(ids or ()) for ids in said]
        response = self._response(prompt, key.turn) if self.request.use_references else None
        settings = self._plan.settings_for(prompt.asked)
        ids = array("i", self.engine.context_ids(prompt, replies))
        num_new, limit = settings.max_new_tokens, self.engine.context_limit
        if not ids:
            raise UnreadableCorpus("no tokens")
        if limit is not None and len(ids) + num_new > limit:
            raise UnreadableCorpus(
                f"prompt and {num_new} new tokens pass the models' context of {limit} tokens"
            )
        asked = Asked(context_ids=ids, settings=settings, seed=trial_seed(settings.seed, key))
        return _Waiting(prompt=prompt, key=key, asked=asked, response=response)

    def _response(self, prompt: Prompt, turn: int) -> "array[int]":
        if turn >= len(prompt.references):
            raise UnreadableCorpus("no recorded response")
        ids = array("i", self.engine.response_ids(prompt.references[turn]))
        if not ids:
            raise UnreadableCorpus("the recorded response is empty")
        return ids

    def _answered(self, waiting: Sequence["_Waiting"]) -> Iterator[Answer]:
        if self.request.use_references:
            yield from (one.recorded() for one in waiting)
            return
        asked = [one.asked for one in waiting]
        for place, said in self.engine.answer(asked, batch_size=self.request.batch_size):
            if isinstance(said, Unanswered):
                self._leave_out(waiting[place].prompt, waiting[place].key.turn, said.reason)
            else:
                yield waiting[place].answer(said.token_ids, said.finish_reason)

    def _leave_out(self, prompt: Prompt, turn: int, reason: str) -> None:
        self._left_out[reason].append(f"{prompt.source}, turn {turn + 1}")
        self.watchers.trial()

    def _key(self, prompt: Prompt, turn: int) -> TrialKey:
        return TrialKey(
            prompt_id=prompt.prompt_id, turn=turn, repeat=0, arm=self._plan.arms[0].name
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """One turn to be answered."""

    prompt: Prompt
    key: TrialKey
    asked: Asked
    response: "array[int] | None"  # recorded

    def recorded(self) -> Answer:
        """The recorded response as an answer, cut where the budget would have ended it."""
        ids = tuple(self.response or ())[: self.asked.settings.max_new_tokens]
        is_cut = len(ids) < len(self.response or ())
        return self.answer(ids, FinishReason.BUDGET if is_cut else FinishReason.RECORDED)

    def answer(self, token_ids: Sequence[int], reason: FinishReason) -> Answer:
        settings = self.asked.settings
        is_bounded = reason is not FinishReason.RECORDED
        return Answer(
            key=self.key,
            labels=labels_of(self.prompt),
            prompt_hash=self.prompt.content_hash,
            sampling=settings.sampling,
            max_new_tokens=settings.max_new_tokens if is_bounded else None,
            num_prompt_tokens=len(self.asked.context_ids),
            num_tokens=len(token_ids),
            finish_reason=reason,
            ids_hash=ids_hash(token_ids),
            token_ids=tuple(token_ids),
            prompt_ids=tuple(self.asked.context_ids),
        )
