"""The models in memory: one target with its tokenizer, and the drafts that are needed now."""

import gc
from collections.abc import Sequence
from typing import Any, Self

import psutil
import torch

from specmeasure.decode.cache import CachedCausalLM, check_rollback
from specmeasure.decode.early_exit import first_layers
from specmeasure.engines.loading import (
    fingerprint,
    load_config,
    load_model,
    load_tokenizer,
    pick_device,
    refuse_cut_head,
    refuse_other_vocabulary,
)
from specmeasure.engines.threads import pick_num_threads
from specmeasure.errors import UnsupportedModel
from specmeasure.records.plan import Arm, ModelOptions, Plan
from specmeasure.records.trace import ModelFacts


class LoadedModels:
    """A target, and drafts that come and go. Every model is checked as it is loaded."""

    def __init__(
        self, name: str, tokenizer: Any, target: CachedCausalLM, options: ModelOptions
    ) -> None:
        self.name = name
        self.tokenizer = tokenizer
        self.target = target
        self.drafts: dict[str, CachedCausalLM] = {}
        self._options = options
        self._exits: dict[int, CachedCausalLM] = {}

    @classmethod
    def load(cls, plan: Plan, *, most_threads: int) -> Self:
        """Load the target; refuse drafts whose vocabulary is another before anything is large.

        Args:
            plan: names models and options.
            most_threads: CPU threads to try, where the plan does not fix their number.

        Raises:
            ModelError: with what to do.
        """
        options = plan.options
        torch.set_num_threads(options.num_threads or most_threads)
        device = pick_device(options.device)
        tokenizer = load_tokenizer(plan.target, options)
        for draft in drafts_of(plan.arms):
            refuse_other_vocabulary(tokenizer, load_tokenizer(draft, options), draft)
        model = load_model(plan.target, options, device=device, role="target")
        vocab_size = min(max(tokenizer.get_vocab().values()) + 1, _width(model))
        target = CachedCausalLM(model, vocab_size=vocab_size)
        if plan.speculative_arms:
            check_rollback(target, plan.target)
        if options.num_threads is None and device.type == "cpu":
            pick_num_threads(target, most_threads)
        return cls(plan.target, tokenizer, target, options)

    def context_limit(self, arms: Sequence[Arm]) -> int | None:
        """Most tokens that the target and all drafts hold; drafts are not loaded for that."""
        names = [name for name in drafts_of(arms) if name not in (self.name, *self.drafts)]
        configs = [self.target.model.config, *(one.model.config for one in self.drafts.values())]
        configs += [load_config(name, self._options) for name in names]
        return smallest_context(configs)

    def add_draft(self, name: str) -> CachedCausalLM:
        """Load a draft beside the target's first layers; the target itself may draft, too."""
        if name not in self.drafts:
            model = (
                self.target.model
                if name == self.name
                else load_model(name, self._options, device=self.target.device, role="draft")
            )
            refuse_cut_head(name, _width(model), self.target.vocab_size)
            draft = CachedCausalLM(model, vocab_size=self.target.vocab_size)
            check_rollback(draft, name)
            self.drafts[name] = draft
        return self.drafts[name]

    def drop_drafts(self) -> None:
        """Give their memory back."""
        self.drafts.clear()
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

    def drafting(self, arm: Arm) -> CachedCausalLM | None:
        """The model that drafts for an arm, loaded if need be; None where none does."""
        if arm.draft is not None:
            return self.add_draft(arm.draft)
        return None if arm.exit_layer is None else self.exit_after(arm.exit_layer)

    def target_facts(self) -> ModelFacts:
        """What was loaded as the target."""
        return model_facts(self.name, self.target)


def smallest_context(configs: Sequence[Any]) -> int | None:
    """The smallest ``max_position_embeddings``; None where no config names one."""
    limits = [getattr(one.get_text_config(), "max_position_embeddings", None) for one in configs]
    return min((limit for limit in limits if limit), default=None)


def drafts_of(arms: Sequence[Arm]) -> list[str]:
    """The names of all draft models, each once."""
    return list(dict.fromkeys(arm.draft for arm in arms if arm.draft))


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


def weight_bytes(cached: CachedCausalLM) -> int:
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
