"""The models in memory: one target with its tokenizer, and the drafts that are needed now."""

import gc
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Self

import psutil
import torch

from specmeasure.decode.cache import CachedCausalLM, check_rollback, check_tree
from specmeasure.decode.early_exit import first_layers
from specmeasure.decode.graphs import Graphs, graphs_of
from specmeasure.decode.shared_exit import SharedExit, share_exit
from specmeasure.decode.static_model import StaticCausalLM
from specmeasure.engines.foreign_drafts import refuse_foreign
from specmeasure.engines.graphed import (
    GraphedModels,
    said_of_drafting,
    said_of_heads,
    said_of_target,
)
from specmeasure.engines.head_files import HeadsCheckpoint
from specmeasure.engines.heads import load_heads
from specmeasure.engines.loading import (
    fingerprint,
    load_config,
    load_model,
    load_tokenizer,
    pick_device,
    refuse_cut_head,
)
from specmeasure.engines.past_outputs import load_past_answers, past_outputs_of
from specmeasure.engines.threads import pick_num_threads
from specmeasure.engines.vocabularies import (
    ComparedVocabularies,
    compare_vocabularies,
    said_of_replays,
)
from specmeasure.errors import TokenizerMismatch, UnsupportedModel
from specmeasure.proposers.medusa import MedusaHeads
from specmeasure.proposers.past_answers import PastAnswers
from specmeasure.records.plan import Arm, DraftSampling, ModelOptions, Plan, Sampling
from specmeasure.records.trace import ModelFacts


class LoadedModels:
    """A target, and drafts that come and go. Every model is checked as it is loaded.

    Args:
        name: of the target.
        tokenizer: the target's.
        target: with a cache that grows, for whatever is not the decoding loop.
        options: of all models.
        graphs: captures passes for the loop; None: it decodes with ``target`` itself.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Any,
        target: CachedCausalLM,
        options: ModelOptions,
        *,
        graphs: Graphs | None = None,
    ) -> None:
        self.name = name
        self.tokenizer = tokenizer
        self.target = target
        self.drafts: dict[str, CachedCausalLM] = {}
        self.heads: dict[str, MedusaHeads] = {}
        self.pasts: dict[str, PastAnswers] = {}  # earlier answers, by their source
        self._options = options
        self._exits: dict[int, CachedCausalLM] = {}
        self._shared: dict[int, SharedExit | None] = {}
        self._reads_trees = False  # not tried yet
        self._graphed = GraphedModels(graphs)
        self.vocabularies: dict[str, ComparedVocabularies | None] = {name: None}
        self.samplings: tuple[Sampling, ...] = ()  # that answers are decoded with

    @classmethod
    def load(
        cls,
        plan: Plan,
        *,
        most_threads: int,
        samplings: Collection[Sampling] = (),
        graphs: Graphs | None = None,
    ) -> Self:
        """Load the target; refuse drafts that share no tokens before anything is large.

        Args:
            plan: names models and options.
            most_threads: CPU threads to try, where the plan does not fix their number.
            samplings: all that answers are decoded with, where rows ask for their own; none: the
                plan's.
            graphs: for models in the decoding loop; None: those of the device, if options want any.

        Raises:
            ModelError: with what to do.
        """
        options = plan.options
        torch.set_num_threads(options.num_threads or most_threads)
        device = pick_device(options.device)
        tokenizer = load_tokenizer(plan.target, options)
        for draft in drafts_of(plan.arms):
            refuse_foreign(draft, "draft")
        compared = {
            draft: compare_vocabularies(tokenizer, load_tokenizer(draft, options), draft)
            for draft in drafts_of(plan.arms)
        }
        own = tuple(samplings) or (plan.sampling,)
        for vocabularies in filter(None, compared.values()):
            for sampling in own:
                vocabularies.refuse_strangers(sampling)
        for heads in heads_of(plan.arms):
            HeadsCheckpoint.open(heads, options)
        pasts = {one: load_past_answers(one, tokenizer) for one in past_outputs_of(plan.arms)}
        model = load_model(plan.target, options, device=device, role="target")
        vocab_size = min(max(tokenizer.get_vocab().values()) + 1, _width(model))
        target = CachedCausalLM(model, vocab_size=vocab_size)
        if plan.speculative_arms:
            check_rollback(target, plan.target)
        if options.num_threads is None and device.type == "cpu":
            pick_num_threads(target, most_threads)
        graphs = graphs or graphs_of(device, wanted=options.graphs)
        loaded = cls(plan.target, tokenizer, target, options, graphs=graphs)
        loaded.pasts = pasts
        loaded.vocabularies |= compared
        loaded.samplings = own
        return loaded

    def context_limit(self, arms: Sequence[Arm]) -> int | None:
        """Most tokens that the target and all drafts hold; drafts are not loaded for that."""
        names = [name for name in drafts_of(arms) if name not in (self.name, *self.drafts)]
        configs = [self.target.model.config, *(one.model.config for one in self.drafts.values())]
        configs += [load_config(name, self._options) for name in names]
        return smallest_context(configs)

    @property
    def decoding_target(self) -> CachedCausalLM | StaticCausalLM:
        """The target as the decoding loop reads it."""
        return self._graphed.twin(self.target) or self.target

    def decoding_draft(self, arm: Arm) -> CachedCausalLM | StaticCausalLM | None:
        """The model that drafts for an arm as the loop reads it; None where none does.

        Its passes are captured where the target's are as well, so that what a draft costs beside
        the target is not told too low.
        """
        draft = self.drafting(arm)
        if draft is None or self._unlike_target(arm) is not None:
            return draft
        return self._graphed.twin(draft) or draft

    def _unlike_target(self, arm: Arm) -> str | None:
        """Why an arm's drafting model is not captured, whatever it is."""
        if self._graphed.twin(self.target) is None:
            return "the target is not captured either"
        if arm.exit_layer is not None:
            return "its layers belong to the target"
        if self.other_vocabulary(arm.draft) is not None:
            return "it has another tokenizer, and what it reads is not one block after the other"
        return None

    def graph_warnings(self, arms: Sequence[Arm], *, loads_drafts: bool = True) -> tuple[str, ...]:
        """What a reader should know of models that decode without graphs where there could be.

        Args:
            arms: whose models are meant.
            loads_drafts: False: nothing is said of drafts that would have to be tried first.
        """
        if not self._graphed.are_captured:
            return ()
        if self._graphed.twin(self.target) is None:
            return (said_of_target(self.name, self._graphed.reason(self.target) or ""),)
        said = (self._drafting_warning(arm, loads_drafts=loads_drafts) for arm in arms)
        return tuple(dict.fromkeys(filter(None, said)))

    def _drafting_warning(self, arm: Arm, *, loads_drafts: bool) -> str | None:
        if arm.heads is not None:
            return said_of_heads(arm.heads)
        if arm.draft is None and arm.exit_layer is None:
            return None
        reason = self._unlike_target(arm)
        if reason is None and loads_drafts and (draft := self.drafting(arm)) is not None:
            is_captured = self._graphed.twin(draft) is not None
            reason = None if is_captured else self._graphed.reason(draft)
        what = (
            f"Draft {arm.draft} decodes"
            if arm.draft is not None
            else f"Early exit after layer {arm.exit_layer} decodes"
        )
        return None if reason is None else said_of_drafting(what, reason)

    def add_draft(self, name: str) -> CachedCausalLM:
        """Load a draft beside the target's first layers; the target itself may draft, too."""
        if name not in self.drafts:
            model = (
                self.target.model
                if name == self.name
                else load_model(name, self._options, device=self.target.device, role="draft")
            )
            other, width = self.other_vocabulary(name), _width(model)
            if other is None:
                refuse_cut_head(name, width, self.target.vocab_size)
                width = self.target.vocab_size
            draft = CachedCausalLM(model, vocab_size=width)
            check_rollback(draft, name)
            self.drafts[name] = draft
        return self.drafts[name]

    def other_vocabulary(self, name: str | None) -> ComparedVocabularies | None:
        """How a draft's tokens stand to the target's; None: they are the same, or none drafts."""
        if name is None:
            return None
        if name not in self.vocabularies:
            tokenizer = load_tokenizer(name, self._options)
            self.vocabularies[name] = compare_vocabularies(self.tokenizer, tokenizer, name)
        return self.vocabularies[name]

    def vocabulary_warnings(self, plan: Plan) -> tuple[str, ...]:
        """What a reader should know of drafts whose tokenizer is another."""
        compared = [self.other_vocabulary(name) for name in drafts_of(plan.arms)]
        said = (one.said(sampling) for one in compared if one for sampling in self.samplings)
        return tuple(dict.fromkeys(said))

    def matching_warnings(self, plan: Plan) -> tuple[str, ...]:
        """What a reader of a replay should know of them."""
        compared = [self.other_vocabulary(name) for name in drafts_of(plan.arms)]
        said = [
            said_of_replays(one, sampling)
            for one in compared
            if one is not None
            for sampling in self.samplings
        ]
        return tuple(text for text in dict.fromkeys(said) if text is not None)

    def refuse_chance(self, arm: Arm, sampling: Sampling) -> None:
        """Raise TokenizerMismatch for an arm that draws from another vocabulary.

        The chance that such a draft is kept depends on all earlier drafts of its block.
        """
        other = self.other_vocabulary(arm.draft)
        is_drawn = arm.draft_sampling is DraftSampling.PROBABILISTIC and not sampling.is_greedy
        if other is not None and is_drawn:
            raise TokenizerMismatch(
                f"draft {other.draft_name}: it has another tokenizer and draws its drafts "
                f"({sampling}), which no replay can score. Measure it with specmeasure run, or "
                "replay it greedily (--temperature 0)."
            )

    def draft_facts(self, name: str) -> ModelFacts:
        """What was loaded as a draft, and how its tokens become the target's."""
        other = self.other_vocabulary(name)
        facts = model_facts(name, self.add_draft(name))
        if self._graphed.twin(self.target) is not None and other is None:
            twin = self._graphed.twin(self.add_draft(name))
            facts = replace(facts, replays_graphs=twin is not None)
        return facts if other is None else replace(facts, other_vocabulary=other.facts)

    def drop_drafts(self) -> None:
        """Give their memory back, and that of heads."""
        self._graphed.drop(self.drafts)
        self.drafts.clear()
        self.heads.clear()
        gc.collect()
        if self.target.device.type == "cuda":
            torch.cuda.empty_cache()

    def exit_after(self, num_layers: int) -> CachedCausalLM:
        """The target's first layers as a model of their own, on the target's weights."""
        if num_layers not in self._exits:
            cut, place = first_layers(self.target, num_layers), f"layer {num_layers}"
            try:
                check_rollback(cut, f"{self.name} after {place}")
            except ValueError as error:  # transformers' caches need a layer that attends
                raise UnsupportedModel(
                    f"early exit after {place}: the layers before it cannot draft ({error}). Name "
                    "a later layer, or leave --early-exit out."
                ) from error
            self._exits[num_layers] = cut
        return self._exits[num_layers]

    def shared_exit(self, arm: Arm) -> SharedExit | None:
        """The target with its first layers drafting out of one cache; see ``share_exit``.

        None: the arm is no early exit, or its layers have to draft as a model of their own.
        """
        layer = arm.exit_layer
        if layer is None:
            return None
        if layer not in self._shared:
            self._shared[layer] = share_exit(self.target, layer)
        return self._shared[layer]

    def exit_warnings(self, arms: Sequence[Arm]) -> tuple[str, ...]:
        """What a reader should know of early exits whose cache is not shared."""
        return tuple(
            f"Early exit after layer {arm.exit_layer}: what its layers read while drafting is read "
            f"again in verification, which costs more than it has to; model type "
            f"{self.target.model.config.model_type!r} cannot go on from there."
            for arm in {arm.exit_layer: arm for arm in arms if arm.exit_layer is not None}.values()
            if self.shared_exit(arm) is None
        )

    def add_heads(self, name: str) -> MedusaHeads:
        """Load heads beside the target, whose states are watched from then on."""
        if name not in self.heads:
            self.heads[name] = load_heads(name, self._options, self.target)
            self.target.watch_states()
            self.decoding_target.watch_states()
        return self.heads[name]

    def heads_for(self, arm: Arm) -> MedusaHeads | None:
        """The heads that draft for an arm, loaded if need be; None where none do.

        Raises:
            ModelError: they cannot be loaded, or the target cannot read the arm's tree.
        """
        if arm.heads is None:
            return None
        heads = self.add_heads(arm.heads)
        if arm.tree is not None and arm.tree.depth > heads.num_heads:
            raise UnsupportedModel(
                f"arm {arm.name!r}: its tree is {arm.tree.depth} deep, and {arm.heads} holds "
                f"{heads.num_heads} heads. Cut the tree to that depth."
            )
        if arm.tree is not None and not self._reads_trees:
            check_tree(self.target, self.name)
            self._reads_trees = True
        return heads

    def drafting(self, arm: Arm) -> CachedCausalLM | None:
        """The model that drafts for an arm, loaded if need be; None where none does."""
        if arm.draft is not None:
            return self.add_draft(arm.draft)
        return None if arm.exit_layer is None else self.exit_after(arm.exit_layer)

    def past(self, arm: Arm) -> PastAnswers | None:
        """The earlier answers that an arm looks up, read if need be; None where it has none."""
        source = arm.past_outputs
        if source is None:
            return None
        if source not in self.pasts:
            self.pasts[source] = load_past_answers(source, self.tokenizer)
        return self.pasts[source]

    def past_bytes(self, arm: Arm) -> int:
        """Memory that the index of an arm's earlier answers takes, on the host."""
        past = self.past(arm)
        return 0 if past is None else past.num_bytes

    @property
    def num_bytes(self) -> int:
        """Weights of the target and of the drafts that are loaded now."""
        own = {id(one.model): one for one in (self.target, *self.drafts.values())}
        return sum(map(weight_bytes, own.values()))

    def target_facts(self) -> ModelFacts:
        """What was loaded as the target."""
        facts = model_facts(self.name, self.target)
        return replace(facts, replays_graphs=self._graphed.twin(self.target) is not None)


def smallest_context(configs: Sequence[Any]) -> int | None:
    """The smallest ``max_position_embeddings``; None where no config names one."""
    limits = [getattr(one.get_text_config(), "max_position_embeddings", None) for one in configs]
    return min((limit for limit in limits if limit), default=None)


def drafts_of(arms: Sequence[Arm]) -> list[str]:
    """The names of all draft models, each once."""
    return list(dict.fromkeys(arm.draft for arm in arms if arm.draft))


def heads_of(arms: Sequence[Arm]) -> list[str]:
    """The names of all Medusa heads, each once."""
    return list(dict.fromkeys(arm.heads for arm in arms if arm.heads))


def model_facts(name: str, cached: CachedCausalLM) -> ModelFacts:
    """What a trace says of a model."""
    return ModelFacts(
        name=name,
        fingerprint=fingerprint(name, cached.model),
        num_parameters=sum(weight.numel() for weight in cached.model.parameters()),
        dtype=str(cached.model.dtype).removeprefix("torch."),
        device=str(cached.device),
        cache=cached.rollback_kind,
        vocab_size=cached.vocab_size,
    )


def weight_bytes(cached: CachedCausalLM | StaticCausalLM) -> int:
    """Bytes of all weights."""
    return sum(weight.numel() * weight.element_size() for weight in cached.model.parameters())


def peak_memory_bytes(device: torch.device) -> int:
    """The device allocator's peak, or the process's resident size now."""
    if device.type == "cuda":
        devices = range(torch.cuda.device_count())
        return sum(int(torch.cuda.max_memory_allocated(index)) for index in devices)
    return int(psutil.Process().memory_info().rss)


def _width(model: Any) -> int:
    """Rows of the output head, vocabulary padding included."""
    return int(model.get_output_embeddings().weight.shape[0])
