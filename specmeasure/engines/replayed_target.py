"""A replay's target beside its weights: what it reads and says, and what is known of it.

The weights may be in other processes; tokenizer and recorder need not be there with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from specmeasure.engines.chat import ChatTokenizer
from specmeasure.engines.loading import load_tokenizer
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Plan
from specmeasure.records.trace import ModelFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedTarget:
    """What is known of a target once it is in memory, wherever that is."""

    facts: ModelFacts
    end_ids: frozenset[int]  # that end an answer
    context_limit: int | None  # tokens that the target and all drafts hold; None: no config says
    weight_bytes: int
    cache_bytes_per_token: float
    num_flops_per_token: float


class TargetTexts:
    """A target's tokenizer: contexts, replies, recorded responses."""

    def __init__(self, tokenizer: Any, end_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        self.chat = ChatTokenizer(tokenizer)

    @classmethod
    def load(cls, plan: Plan, end_ids: frozenset[int]) -> Self:
        """Load the tokenizer alone.

        Raises:
            ModelError: with what to do.
        """
        return cls(load_tokenizer(plan.target, plan.options), end_ids)

    def context_ids(self, prompt: Prompt, replies: Sequence[str]) -> list[int]:
        """See ``ChatTokenizer``."""
        return self.chat.context_ids(prompt, replies)

    def reply_text(self, token_ids: Sequence[int]) -> str:
        """The answer without its end-of-sequence token, other special tokens kept."""
        ids = list(token_ids)
        if ids and ids[-1] in self._end_ids:
            ids.pop()
        return self.chat.text(ids)

    def response_ids(self, text: str) -> list[int]:
        """A recorded response as the target would have written it, without special tokens."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
