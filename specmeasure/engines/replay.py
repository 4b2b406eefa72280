"""What a replay needs of transformers: answers in batches, teacher-forced scores, costs.

One draft is in memory at a time. The recorder decides what to do in which order.
"""

import resource
import sys
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import torch

from specmeasure.decode.audit import audit_greedy
from specmeasure.decode.batch import Generated, Request, generate_batched
from specmeasure.decode.cache import CachedCausalLM, Rollback
from specmeasure.decode.clock import clock_for
from specmeasure.decode.early_exit import ExitReader, exit_reader, first_layers
from specmeasure.decode.head_board import Heads
from specmeasure.decode.loop import Decoder
from specmeasure.decode.teacher import (
    Drafter,
    Finished,
    Scored,
    TargetAlong,
    score_batch,
    score_lookup,
)
from specmeasure.engines.costs import CostMeter, TargetCosts, session_tokens
from specmeasure.engines.heads import facts_of_heads, heads_bytes, parameters_of_a_head
from specmeasure.engines.models import (
    LoadedModels,
    peak_memory_bytes,
    weight_bytes,
)
from specmeasure.engines.past_outputs import past_notes
from specmeasure.engines.proposing import Drafting, drafting_for
from specmeasure.engines.replayed_target import ReplayedTarget, TargetTexts
from specmeasure.engines.token_classes import TokenClassifier
from specmeasure.engines.transformers import (
    eos_ids,
    set_up_warnings,
    stopping_for,
)
from specmeasure.engines.tree_costs import NUM_NODES, time_chains, time_trees, timed_tree
from specmeasure.errors import UnsupportedModel, UsageError
from specmeasure.records.corpus import Prompt
from specmeasure.records.costs import DraftCosts
from specmeasure.records.plan import GREEDY, Arm, DecodeSettings, Method, Plan, Sampling
from specmeasure.records.replay import CandidateFacts, LookupScores, TargetScores
from specmeasure.records.trace import Audit, ModelFacts

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
        self._eos_ids = eos_ids(models.target.model, models.tokenizer)
        self._texts = TargetTexts(models.tokenizer, self._eos_ids)
        self._classifier = TokenClassifier(models.tokenizer)
        self.target_facts: ModelFacts = models.target_facts()
        self.warnings = (
            *set_up_warnings(self._texts.chat, self._eos_ids, plan),
            *models.graph_warnings(plan.arms, loads_drafts=False),  # one is in memory at a time
            *models.exit_warnings(plan.arms),
            *models.vocabulary_warnings(plan),
            *models.matching_warnings(plan),
            *past_notes(models.pasts.items()),
        )
        self.num_threads = torch.get_num_threads()
        self.context_limit = models.context_limit(plan.arms)
        self.target = ReplayedTarget(
            facts=self.target_facts,
            end_ids=self._eos_ids,
            context_limit=self.context_limit,
            weight_bytes=weight_bytes(models.target),
            cache_bytes_per_token=cache_bytes_per_token(models.target),
            num_flops_per_token=flops_per_token(models.target),
        )
        self._exit_readers: dict[int, ExitReader | None] = {}

    @classmethod
    def load(
        cls, plan: Plan, *, most_threads: int = 1, samplings: Collection[Sampling] = ()
    ) -> Self:
        """Load the target and heads on it; drafts later. ``samplings``: see ``LoadedModels``.

        Raises:
            ModelError: with what to do; also for a draft of another vocabulary that is sampled.
            UsageError: a tree, or more drafts than heads.
        """
        models = LoadedModels.load(plan, most_threads=most_threads, samplings=samplings)
        engine = cls(plan, models)
        for arm in plan.speculative_arms:
            for sampling in models.samplings:
                models.refuse_chance(arm, sampling)
            if arm.exit_layer is not None:
                engine.loaded.exit_after(arm.exit_layer)
            if (heads := engine.loaded.heads_for(arm)) is not None:
                _refuse_unpredicted(arm, heads.num_heads)
        return engine

    def context_ids(self, prompt: Prompt, replies: Sequence[str]) -> list[int]:
        """See ``ChatTokenizer``."""
        return self._texts.context_ids(prompt, replies)

    def reply_text(self, token_ids: Sequence[int]) -> str:
        """See ``TargetTexts``."""
        return self._texts.reply_text(token_ids)

    def response_ids(self, text: str) -> list[int]:
        """See ``TargetTexts``."""
        return self._texts.response_ids(text)

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
                    stopping=stopping_for(asked[place].settings, ends, self._texts.chat),
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

    def is_looked_up(self, arm: Arm) -> bool:
        """Whether a block's drafts depend on where it starts: lookups, and other tokenizers."""
        is_lookup = arm.method in (Method.NGRAM, Method.SUFFIX)
        return is_lookup or self.loaded.other_vocabulary(arm.draft) is not None

    @torch.inference_mode()
    def look_up(self, arm: Arm, answer: Finished, sampling: Sampling = GREEDY) -> LookupScores:
        """What drafts without chance, along one answer and from each of its places.

        Raises:
            TokenizerMismatch: a draft with another tokenizer draws its drafts.
        """
        self.loaded.refuse_chance(arm, sampling)
        proposer = self.drafting(arm, sampling).proposer
        if proposer is None:
            raise ValueError(f"arm {arm.name!r} does not draft")
        return score_lookup(proposer, answer, most=arm.num_speculative_tokens)

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
        if arm.heads is not None:
            heads = self.loaded.add_heads(arm.heads)
            return CandidateFacts(
                name=arm.name,
                models=(facts_of_heads(arm.heads, heads),),
                model_bytes=heads_bytes(heads),
                num_flops_per_draft=float(FLOPS_PER_PARAMETER * parameters_of_a_head(heads)),
            )
        if drafting is None:
            return CandidateFacts(name=arm.name, model_bytes=self.loaded.past_bytes(arm))
        if self.loaded.shared_exit(arm) is not None:
            head = first_layers(target, 0)  # the layers' part is of verification anyway
            return CandidateFacts(name=arm.name, num_flops_per_draft=flops_per_token(head))
        shares_weights = drafting.model is target.model or arm.exit_layer is not None
        return CandidateFacts(
            name=arm.name,
            models=() if arm.draft is None else (self.loaded.draft_facts(arm.draft),),
            model_bytes=0 if shares_weights else weight_bytes(drafting),
            cache_bytes_per_token=cache_bytes_per_token(drafting),
            num_flops_per_draft=flops_per_token(drafting),
        )

    def cost_meter(self, sequences: Sequence[Sequence[int]], most: int) -> CostMeter:
        """Times blocks after the beginnings of ``sequences``, cut to fit the models."""
        target = self.loaded.target
        limit = self.context_limit
        longest = max(1, limit - session_tokens(most)) if limit is not None else None
        contexts = {len(ids): tuple(ids) for one in sequences if (ids := one[:longest])}
        return CostMeter(
            decoder=Decoder(
                target=self.loaded.decoding_target,
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

    def head_costs(self, arm: Arm, meter: CostMeter, target: TargetCosts) -> tuple[DraftCosts, ...]:
        """What chains and trees of an arm's heads cost by round; trees where the target reads them.

        They are as deep as the arm's K.
        """
        sampling, depth = meter.decoder.sampling, arm.num_speculative_tokens
        chains = time_chains(meter, self.drafting(arm, sampling), depth, target)
        proposers = {}
        for size in NUM_NODES:
            tree = timed_tree(size, depth)
            try:
                drafting = self.drafting(
                    replace(arm, num_speculative_tokens=size, tree=tree), sampling
                )
            except UnsupportedModel:  # its chains are replayed all the same
                return chains
            if drafting.proposer is not None:
                proposers[size] = drafting.proposer
        rounds = time_trees(meter, proposers, depth, target)
        return tuple(
            replace(chain, tree_s=tree) for chain, tree in zip(chains, rounds, strict=True)
        )

    def drafting(self, arm: Arm, sampling: Sampling) -> Drafting:
        """What drafts for a candidate in the loop, and verifies; its draws are always the same."""
        generator = torch.Generator(self.loaded.target.device).manual_seed(self._plan.seed)
        return drafting_for(arm, self.loaded, sampling, generator=generator)

    def peak_memory_bytes(self) -> int:
        """The device allocator's peak, or the most that this process ever had resident."""
        device = self.loaded.target.device
        if device.type == "cuda":
            return peak_memory_bytes(device)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(most if sys.platform == "darwin" else most * 1024)  # Linux counts KiB

    def _drafter(self, arm: Arm) -> Drafter:
        if (heads := self.loaded.heads_for(arm)) is not None:
            num_heads = arm.num_speculative_tokens
            own = Heads(num_heads=num_heads, read=partial(heads, num_heads=num_heads))
            return Drafter(draft_sampling=arm.draft_sampling, heads=own)
        reader = None if arm.exit_layer is None else self._exit_reader(arm.exit_layer)
        return Drafter(
            draft_sampling=arm.draft_sampling,
            model=self.loaded.drafting(arm) if reader is None else None,
            read_target=reader,
        )

    def _exit_reader(self, layer: int) -> ExitReader | None:
        """Tried once; None where the first layers have to be run by themselves."""
        if layer not in self._exit_readers:
            self._exit_readers[layer] = exit_reader(self.loaded.target, layer)
        return self._exit_readers[layer]


def _refuse_unpredicted(arm: Arm, num_heads: int) -> None:
    if arm.tree is not None:
        raise UsageError(
            f"arm {arm.name!r}: a replay predicts chains of heads. Leave the tree out; specmeasure "
            "heads tree says what trees would do."
        )
    if arm.num_speculative_tokens > num_heads:
        raise UsageError(
            f"arm {arm.name!r}: {arm.num_speculative_tokens} drafts per block, and {arm.heads} "
            f"holds {num_heads} heads. Look at K up to {num_heads}."
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
