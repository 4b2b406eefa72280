"""What is known of a run's models before any weight is read: tokenizer and configs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from specmeasure.engines.bare_models import BareModel, bare_model
from specmeasure.engines.chat import ChatTokenizer
from specmeasure.engines.foreign_drafts import refuse_foreign
from specmeasure.engines.loading import load_config, load_tokenizer, pick_device, wanted_dtype
from specmeasure.engines.models import drafts_of, smallest_context
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Plan


@dataclass(frozen=True, kw_only=True)
class ModelsAhead:
    """A target's tokenizer, and the configs of target and drafts."""

    plan: Plan
    tokenizer: Any
    configs: Mapping[str, Any]  # by name, the target first; a target that drafts stands once

    @classmethod
    def read(cls, plan: Plan) -> Self:
        """Read them.

        Raises:
            ModelError: a model that is not there, or no causal LM; a device that cannot be used.
        """
        pick_device(plan.options.device)
        tokenizer = load_tokenizer(plan.target, plan.options)
        for draft in drafts_of(plan.arms):
            refuse_foreign(draft, "draft")
        drafts = [name for name in drafts_of(plan.arms) if name != plan.target]
        configs = {plan.target: load_config(plan.target, plan.options, role="target")}
        configs |= {name: load_config(name, plan.options, role="draft") for name in drafts}
        return cls(plan=plan, tokenizer=tokenizer, configs=configs)

    @cached_property
    def chat(self) -> ChatTokenizer:
        """The tokenizer and its chat template."""
        return ChatTokenizer(self.tokenizer)

    def context_ids(self, prompt: Prompt, replies: Sequence[str]) -> list[int]:
        """See ``ChatTokenizer``."""
        return self.chat.context_ids(prompt, replies)

    @property
    def context_limit(self) -> int | None:
        """Most tokens that every model holds; None: no config names a limit."""
        return smallest_context(list(self.configs.values()))

    def bare_models(self) -> dict[str, BareModel] | None:
        """All of them without weights, by name; None where one config does not tell its size."""
        options = self.plan.options
        dtype = wanted_dtype(options, pick_device(options.device))
        num_tokens = max(self.tokenizer.get_vocab().values()) + 1
        found = {}
        for name, config in self.configs.items():
            bare = bare_model(name, config, options, dtype=dtype, num_tokens=num_tokens)
            if bare is None:
                return None
            found[name] = bare
        return found
