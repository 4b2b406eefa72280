"""When an answer ends: end-of-sequence tokens, stop texts, the budget."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from specmeasure.records.trace import FinishReason

SPARE_TOKENS = 4  # before a stop text, so that no text is looked for in half a character


@dataclass(frozen=True, slots=True, kw_only=True)
class StopTexts:
    """Texts that end an answer as soon as it says one of them; the token that completes it stays.

    Looks at the answer's last tokens only: a text of n bytes spans at most n tokens.
    """

    texts: tuple[str, ...]
    detokenise: Callable[[Sequence[int]], str]  # special tokens left out

    def end(self, token_ids: Sequence[int]) -> bool:
        """Whether the last of these tokens completes a stop text."""
        window = max(len(text.encode()) for text in self.texts) + SPARE_TOKENS
        said = self.detokenise(token_ids[-window:])
        return any(text in said for text in self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What the user receives of a block's tokens, and why nothing follows, if so."""

    num_tokens: int
    reason: FinishReason | None


class Ending(Protocol):
    """What the loop asks: how many drafts, and whether this was the end."""

    def num_drafts(self, num_emitted: int) -> int:
        """Drafts worth asking for."""

    def cut(self, emitted: Sequence[int], tokens: Sequence[int]) -> Cut:
        """How far ``tokens`` continue what was emitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """When a trial ends."""

    max_new_tokens: int
    eos_ids: frozenset[int]  # empty: no token ends it
    stop_texts: StopTexts | None = None
    num_speculative_tokens: int = 0  # K

    def num_drafts(self, num_emitted: int) -> int:
        """Drafts worth asking for: the target's own token always fits the budget."""
        return min(self.num_speculative_tokens, self.max_new_tokens - num_emitted - 1)

    def cut(self, emitted: Sequence[int], tokens: Sequence[int]) -> Cut:
        """How far ``tokens`` continue what was emitted: up to and with the first that ends it."""
        for place, token in enumerate(tokens, start=1):
            if token in self.eos_ids:
                return Cut(num_tokens=place, reason=FinishReason.EOS)
            if self.stop_texts and self.stop_texts.end([*emitted, *tokens[:place]]):
                return Cut(num_tokens=place, reason=FinishReason.STOP)
        spent = len(emitted) + len(tokens) >= self.max_new_tokens
        return Cut(num_tokens=len(tokens), reason=FinishReason.BUDGET if spent else None)
