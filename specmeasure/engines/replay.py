"""What a replay needs of transformers: answers in batches, teacher-forced scores, costs.

One draft is in memory at a time. The recorder decides what to do in which order.
"""

import resource
import sys
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch

from specmeasure.decode.audit import audit_greedy
from specmeasure.decode.batch import Generated, Request, generate_batched
from specmeasure.decode.cache import CachedCausalLM, Rollback
from specmeasure.decode.clock import clock_for
from specmeasure.decode.early_exit import exit_reader
from specmeasure.decode.loop import Decoder
from specmeasure.decode.teacher import (
    Drafter,
    Finished,
    Scored,
    TargetAlong,
    score_batch,
    score_lookup,
)
from specmeasure.engines.chat import ChatTokenizer
from specmeasure.engines.costs import CostMeter, room_for
from specmeasure.engines.models import (
    LoadedModels,
    model_facts,
    peak_memory_bytes,
    weight_bytes,
)
from specmeasure.engines.proposing import drafting_for
from specmeasure.engines.token_classes import TokenClassifier
from specmeasure.engines.transformers import (
    eos_ids,
    set_up_warnings,
    stopping_for,
)
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import GREEDY, Arm, DecodeSettings, Plan, Sampling
from specmeasure.records.replay import CandidateFacts, LookupScores, TargetScores
from specmeasure.records.trace import Audit, ModelFacts
from specmeasure.speculate.proposal import Proposer

FLOPS_PER_PARAMETER = 2  # a multiplication and an addition for each weight that a token meets


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One context to answer."""

    context_ids: Sequence[int]
    settings: DecodeSettings
    seed: int


class ReplayEngine:
    """One target; drafts are loaded for as long as they are scored."""

    def __init__(self, plan: Plan, models: LoadedModels) -> None:
        self.loaded = models
        self._plan = plan
        self._chat = ChatTokenizer(models.tokenizer)
        self._classifier = TokenClassifier(models.tokenizer)
        self._eos_ids = eos_ids(models.target.model, models.tokenizer)
        self.target_facts: ModelFacts = models.target_facts()
        self.warnings = set_up_warnings(self._chat, self._eos_ids, plan)
        self.num_threads = torch.get_num_threads()
        self.context_limit = models.context_limit(plan.arms)
        self.target_bytes = weight_bytes(models.target)
        self.num_flops_per_token = flops_per_token(models.target)
        self.cache_bytes_per_token = cache_bytes_per_token(models.target)

    @classmethod
    def load(cls, plan: Plan, *, most_threads: int = 1) -> Self:
        """Load the target alone.

        Raises:
            ModelError: with what to do; also for a draft of another vocabulary.
        """
        engine = cls(plan, LoadedModels.load(plan, most_threads=most_threads))
        for arm in plan.speculative_arms:
            if arm.exit_layer is not None:
                engine.loaded.exit_after(arm.exit_layer)
        return engine

    def context_ids(self, prompt: Prompt, replies: Sequence[str]) -> list[int]:
        """See ``ChatTokenizer``."""
        return self._chat.context_ids(prompt, replies)

    def reply_text(self, token_ids: Sequence[int]) -> str:
        """The answer without its end-of-sequence token, other special tokens kept."""
        ids = list(token_ids)
        if ids and ids[-1] in self._eos_ids:
            ids.pop()
        return self._chat.text(ids)

    def response_ids(self, text: str) -> list[int]:
        """A recorded response as the target would have written it, without special tokens."""
        return list(self.loaded.tokenizer(text, add_special_tokens=False)["input_ids"])

    def answer(self, asked: Sequence[Asked], *, batch_size: int) -> Iterator[tuple[int, Generated]]:
        """The target's own answers, with the places of what was asked, as they finish."""
        ends = frozenset[int]() if self._plan.ignore_eos else self._eos_ids
        by_sampling: dict[Sampling, list[int]] = defaultdict(list)
        for place, one in enumerate(asked):
            by_sampling[one.settings.sampling].append(place)
        for sampling, places in by_sampling.items():
            requests = [
                Request(
                    context_ids=asked[place].context_ids,
                    stopping=stopping_for(asked[place].settings, ends, self._chat),
                    seed=asked[place].seed,
                )
                for place in places
            ]
            finished = generate_batched(
                self.loaded.target, requests, sampling, batch_size=batch_size
            )
            for index, generated in finished:
                yield places[index], generated

    def audit(self, answer: Finished) -> Audit:
        """Whether a greedy answer is the target's own; see ``audit_greedy``."""
        target = self.loaded.target
        return audit_greedy(target, answer.context_ids, answer.token_ids, device=target.device)

    def score(
        self, arms: Sequence[Arm], answers: Sequence[Finished], sampling: Sampling
    ) -> list[Scored]:
        """One pass of the target and of what these arms need, along a batch of answers."""
        return score_batch(
            self.loaded.target, [self._drafter(arm) for arm in arms], answers, sampling
        )

    def look_up(self, arm: Arm, answer: Finished) -> LookupScores:
        """A lookup along one answer; no model is needed."""
        return score_lookup(self.proposer(arm, GREEDY), answer, most=arm.num_speculative_tokens)

    def target_scores(self, answer: Finished, along: TargetAlong) -> TargetScores:
        """What a trace keeps of the target along one answer."""
        return TargetScores(
            token_class=self._classifier.classify(answer.token_ids),
            entropy=_floats(along.entropy),
            token_prob=_floats(along.log_prob.exp()),
            token_rank=array("i", along.token_rank.int().tolist()),
        )

    def facts(self, arm: Arm) -> CandidateFacts:
        """What a candidate weighs beside the target."""
        target, drafting = self.loaded.target, self.loaded.drafting(arm)
        if drafting is None:
            return CandidateFacts(name=arm.name)
        shares_weights = drafting.model is target.model or arm.exit_layer is not None
        return CandidateFacts(
            name=arm.name,
            models=() if arm.draft is None else (model_facts(arm.draft, drafting),),
            model_bytes=0 if shares_weights else weight_bytes(drafting),
            cache_bytes_per_token=cache_bytes_per_token(drafting),
            num_flops_per_draft=flops_per_token(drafting),
        )

    def cost_meter(self, sequences: Sequence[Sequence[int]], most: int) -> CostMeter:
        """Times blocks after the beginnings of ``sequences``, cut to fit the models."""
        target = self.loaded.target
        limit = self.context_limit
        longest = max(1, limit - room_for(most)) if limit is not None else None
        contexts = {len(ids): tuple(ids) for one in sequences if (ids := one[:longest])}
        return CostMeter(
            decoder=Decoder(
                target=target,
                sampling=self._plan.sampling,
                generator=torch.Generator(target.device).manual_seed(self._plan.seed),
                clock=clock_for(target.device),
                device=target.device,
            ),
            contexts=tuple(contexts[length] for length in sorted(contexts)),
            most=most,
            baseline_differs=target.rollback_kind is not Rollback.CROP,
            seed=self._plan.seed,
        )

    def proposer(self, arm: Arm, sampling: Sampling) -> Proposer:
        """What drafts for a candidate in the loop; its draws are always the same."""
        generator = torch.Generator(self.loaded.target.device).manual_seed(self._plan.seed)
        proposer = drafting_for(arm, self.loaded, sampling, generator=generator).proposer
        if proposer is None:
            raise ValueError(f"arm {arm.name!r} does not draft")
        return proposer

    def peak_memory_bytes(self) -> int:
        """The device allocator's peak, or the most that this process ever had resident."""
        device = self.loaded.target.device
        if device.type == "cuda":
            return peak_memory_bytes(device)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(most if sys.platform == "darwin" else most * 1024)  # Linux counts KiB

    def _drafter(self, arm: Arm) -> Drafter:
        reader = None
        if arm.exit_layer is not None:
            reader = exit_reader(self.loaded.target, arm.exit_layer)
        return Drafter(
            draft_sampling=arm.draft_sampling,
            model=self.loaded.drafting(arm) if reader is None else None,
            read_target=reader,
        )


def flops_per_token(cached: CachedCausalLM) -> float:
    """Floating point operations that one token costs, attention over its context left out.

    Formula: 2 · parameters of a pass (Kaplan et al. 2020, arXiv:2001.08361, section 2.1); an input
    embedding is looked up, not multiplied, unless it is the head as well.
    """
    model = cached.model
    num_parameters = sum(weight.numel() for weight in model.parameters())
    looked_up, head = model.get_input_embeddings(), model.get_output_embeddings()
    if looked_up is not None and (head is None or looked_up.weight is not head.weight):
        num_parameters -= looked_up.weight.numel()
    return float(FLOPS_PER_PARAMETER * num_parameters)


@torch.inference_mode()
def cache_bytes_per_token(cached: CachedCausalLM) -> float:
    """Bytes that a cache grows by with every token, found by reading two lengths."""
    sizes = []
    for length in (8, 16):
        cached.reset(rolls_back=False)
        cached.prefill(list(range(1, length + 1)))
        sizes.append(cached.cache_bytes)
    cached.reset(rolls_back=False)
    return (sizes[1] - sizes[0]) / 8


def _floats(values: torch.Tensor) -> "array[float]":
    return array("f", values.numpy().tobytes())
