"""What is settled before any weight is read: which prompts fit, and what will be needed."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specmeasure.api.prompts import asked_samplings, keep_fitting, sample_fitting
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import Corpus, CorpusOptions, Dropped, Prompt
from specmeasure.records.memory import MemoryPrediction
from specmeasure.records.plan import Plan

if TYPE_CHECKING:
    from specmeasure.engines.ahead import ModelsAhead

MOST_COUNTED = 1000  # prompts, the largest by their bytes, whose tokens are counted
MOST_NAMED = 3  # of the longest prompts, where they have to go
ANY_REPLY = "."


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """A run before its models are loaded."""

    prompts: tuple[Prompt, ...]  # that the models can hold, sampled
    misfits: tuple[Dropped, ...]
    memory: MemoryPrediction | None  # None: the models do not tell
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """The last turn of one prompt, replies before it taken to be as long as they may be."""

    place: str  # "file:line"
    num_prompt_tokens: int
    num_new_tokens: int

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_new_tokens


def look_ahead(plan: Plan, corpus: Corpus, options: CorpusOptions, *, held_bytes: int = 0) -> Ahead:
    """What tokenizer and configs tell of a run.

    Args:
        plan: names the models.
        corpus: to be asked.
        options: with the limit of prompts.
        held_bytes: weights of these models that are in memory already.

    Raises:
        ModelError: a model that is not there, or no causal LM.
        OutOfMemory: the run needs clearly more than what is free.
        UnreadableCorpus: no prompt can be held.
    """
    from specmeasure.engines.ahead import ModelsAhead
    from specmeasure.engines.room import refuse_or_warn

    models = ModelsAhead.read(plan)
    fitting, misfits = keep_fitting(corpus, models, plan, models.context_limit)
    prompts = sample_fitting(fitting, corpus, options)
    lengths = longest_prompts(prompts, models)
    memory = _foresee(models, prompts, lengths, held_bytes)
    named = [(one.place, one.num_prompt_tokens) for one in lengths[:MOST_NAMED]]
    warning = None if memory is None else refuse_or_warn(memory, plan.options, named)
    return Ahead(
        prompts=prompts,
        misfits=misfits,
        memory=memory,
        warnings=() if warning is None else (warning,),
    )


def longest_prompts(prompts: Sequence[Prompt], models: "ModelsAhead") -> list[Length]:
    """The lengths of the largest prompts, those that need most first."""
    candidates = heapq.nlargest(MOST_COUNTED, prompts, key=_num_bytes)
    lengths = [_length(prompt, models) for prompt in candidates]
    return sorted(lengths, key=lambda one: one.num_tokens, reverse=True)


def _foresee(
    models: "ModelsAhead", prompts: Sequence[Prompt], lengths: Sequence[Length], held_bytes: int
) -> MemoryPrediction | None:
    from specmeasure.engines.memory import Longest, predict_memory

    longest = Longest(
        num_prompt_tokens=max(one.num_prompt_tokens for one in lengths),
        num_new_tokens=max(one.num_new_tokens for one in lengths),
        num_context_tokens=max(one.num_tokens for one in lengths),
        samplings=asked_samplings(models.plan, prompts),
    )
    return predict_memory(models, longest, held_bytes=held_bytes)


def _length(prompt: Prompt, models: "ModelsAhead") -> Length:
    budget = models.plan.settings_for(prompt.asked).max_new_tokens
    num_earlier = len(prompt.turns) - 1
    try:
        ids = models.context_ids(prompt, [ANY_REPLY] * num_earlier)
    except UnreadableCorpus:  # a template that wants replies of another kind
        ids = models.context_ids(prompt, [])
    num_prompt_tokens = len(ids) + num_earlier * budget
    if models.context_limit is not None:  # beyond it a turn is not decoded
        num_prompt_tokens = max(1, min(num_prompt_tokens, models.context_limit - budget))
    return Length(place=prompt.source, num_prompt_tokens=num_prompt_tokens, num_new_tokens=budget)


def _num_bytes(prompt: Prompt) -> int:
    """Of what is read; an id counts as much as the few letters that it stands for."""
    said = sum(len(one.content.encode()) for one in prompt.messages)
    return said + len((prompt.text or "").encode()) + 4 * len(prompt.token_ids or ())
