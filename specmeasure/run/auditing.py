"""Answers that some engine gave, read by a target: what a recorded trial's audit says of them."""

from collections import Counter
from collections.abc import Callable, Sequence

from specmeasure.engines.engine import Engine
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.audit import BASELINE_NAME, RecordedAnswer
from specmeasure.records.plan import (
    BASELINE,
    Arm,
    DecodeSettings,
    DraftSampling,
    Plan,
    Sampling,
    TrialKey,
)
from specmeasure.records.trace import (
    BlockRecord,
    Checks,
    FinishReason,
    ModelFacts,
    Observation,
    TrialRecord,
)
from specmeasure.run.trials import first_difference, ids_hash, trial_seed


def refuse_unreadable(
    answers: Sequence[RecordedAnswer],
    target: ModelFacts,
    limit: int | None,  # most tokens that the models hold; None: not known
) -> None:
    """Raise UnreadableCorpus for ids that the target lacks, and for texts that it cannot hold."""
    for answer in answers:
        for field, ids in (("prompt", answer.prompt_ids), ("answer", answer.token_ids)):
            place = next((i for i, token in enumerate(ids) if token >= target.vocab_size), None)
            if place is not None:
                raise UnreadableCorpus(
                    f"{answer.source}: the {field}'s token {place} is id {ids[place]}; "
                    f"{target.name} has ids below {target.vocab_size}. Name the target that gave "
                    "these answers with --target."
                )
        length = len(answer.prompt_ids) + len(answer.token_ids)
        if limit is not None and length > limit:
            raise UnreadableCorpus(
                f"{answer.source}: prompt and answer are {length} tokens, {target.name} holds "
                f"{limit}. Leave the row out, or name the target that gave these answers."
            )


class Auditor:
    """Answers to audited trials; equal greedy answers are read once.

    Args:
        engine: its target judges.
        plan: the sampling of answers that name none; an arm with a draft model, where sampled
            answers are to be tested for a pull towards that.
        answers: those of an arm called "baseline" are what the others are compared with.
    """

    def __init__(self, engine: Engine, plan: Plan, answers: Sequence[RecordedAnswer]) -> None:
        self._engine = engine
        self._plan = plan
        self._answers = answers
        self._drafting = next(iter(plan.speculative_arms), BASELINE)
        self._greedy: dict[tuple[tuple[int, ...], ...], Checks] = {}
        self._baseline: dict[tuple[int, ...], tuple[int, ...]] = {}  # prompt ids → greedy answer
        for answer in answers:
            if answer.arm == BASELINE_NAME and self._sampling(answer).is_greedy:
                self._baseline.setdefault(answer.prompt_ids, answer.token_ids)

    def trials(self, on_trial: Callable[[], None]) -> tuple[TrialRecord, ...]:
        """One a row, in order."""
        repeats = Counter[tuple[str, str]]()
        trials = []
        for answer in self._answers:
            place = (answer.prompt_id, answer.arm)
            key = TrialKey(
                prompt_id=answer.prompt_id, turn=0, repeat=repeats[place], arm=answer.arm
            )
            repeats[place] += 1
            trials.append(self._trial(answer, key))
            on_trial()
        return tuple(trials)

    def _sampling(self, answer: RecordedAnswer) -> Sampling:
        return self._plan.sampling if answer.sampling is None else answer.sampling

    def _trial(self, answer: RecordedAnswer, key: TrialKey) -> TrialRecord:
        sampling = self._sampling(answer)
        return TrialRecord(
            key=key,
            prompt_hash=ids_hash(answer.prompt_ids),
            labels={"category": "recorded answers"},
            sampling=sampling,
            num_prompt_tokens=len(answer.prompt_ids),
            num_emitted_tokens=len(answer.token_ids),
            ids_hash=ids_hash(answer.token_ids),
            finish_reason=FinishReason.RECORDED,
            checks=self._audit(answer) if sampling.is_greedy else self._audit_sampled(answer, key),
        )

    def _audit(self, answer: RecordedAnswer) -> Checks:
        baseline = self._baseline.get(answer.prompt_ids, answer.token_ids)
        read = (answer.prompt_ids, answer.token_ids, baseline)
        if read not in self._greedy:
            divergence = first_difference(answer.token_ids, baseline)
            found = self._engine.audit(answer.prompt_ids, answer.token_ids, divergence)
            self._greedy[read] = Checks(audit=found)
        return self._greedy[read]

    def _audit_sampled(self, answer: RecordedAnswer, key: TrialKey) -> Checks:
        settings = DecodeSettings(
            sampling=self._sampling(answer), seed=trial_seed(self._plan.seed, key)
        )
        arm = BASELINE if answer.arm == BASELINE_NAME else self._drafting
        seen = observed(answer.prompt_ids, answer.token_ids, is_drafted=_has_law(arm))
        found = self._engine.audit_sampled(answer.prompt_ids, seen, arm, settings)
        return Checks(sampled_audit=found)


def _has_law(arm: Arm) -> bool:
    """Whether a draft's law is told by the text before it, without the drafts themselves."""
    is_read = arm.draft is not None or arm.heads is not None or arm.exit_layer is not None
    return is_read and arm.draft_sampling is DraftSampling.PROBABILISTIC


def observed(
    prompt_ids: Sequence[int], token_ids: Sequence[int], *, is_drafted: bool
) -> Observation:
    """An answer a token a block, as if a draft had been judged everywhere, or nowhere.

    Where one was is not known. No test depends on it: a place counts as judged before its token is
    seen. A share of the draft's law that is found is one of all tokens, then.
    """
    blocks = tuple(
        BlockRecord(
            num_draft_tokens=int(is_drafted),
            num_accepted_tokens=int(is_drafted),
            num_emitted_tokens=1,
            context_length=len(prompt_ids) + place,
            draft_s=0.0,
            verify_s=0.0,
            truncated=is_drafted,  # no bonus token
            draft_ids=(token,) if is_drafted else (),
        )
        for place, token in enumerate(token_ids)
    )
    return Observation(
        blocks=blocks,
        token_ids=tuple(token_ids),
        num_prompt_tokens=len(prompt_ids),
        finish_reason=FinishReason.RECORDED,
        ttft_s=0.0,
        decode_s=0.0,
        model_bytes=0,
        cache_bytes=0,
        peak_memory_bytes=None,
    )
