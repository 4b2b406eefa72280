"""What the verifier is given: proposals, and the two protocols that the decoding loop relies on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Draft tokens for one block."""

    tokens: Tensor  # [N] int64, N may be 0
    probs: Tensor | None = None  # [N, V] the law they were drawn from; None: a point mass
    parents: tuple[int, ...] | None = None  # tree: index of each node's parent, -1 the root

    @property
    def num_tokens(self) -> int:
        return self.tokens.shape[0]


class CachedModel(Protocol):
    """A causal language model that remembers what it has read and can forget the end of it."""

    def reset(self, *, rolls_back: bool) -> None:
        """Forget everything. ``rolls_back`` says whether ``rollback`` will ever remove tokens."""

    def prefill(self, ids: Sequence[int]) -> Tensor:
        """Read a prompt; logits [1, V] after its last token."""

    def forward(self, ids: Tensor) -> Tensor:
        """Read ids [N]; logits [N, V], one row after each. Follow it with ``rollback``."""

    def rollback(self, num_tokens: int) -> None:
        """Settle what was read since the last rollback and forget its last ``num_tokens``."""


class Proposer(Protocol):
    """Anything that yields proposals."""

    def begin(self, prompt_ids: Sequence[int]) -> None:
        """Start a new sequence; do whatever prefill drafting needs."""

    def propose(self, num_tokens: int) -> Proposal:
        """At most ``num_tokens`` drafts that continue what was committed."""

    def commit(self, num_accepted: int, next_token: int) -> None:
        """The target kept ``num_accepted`` of the last proposal, then emitted ``next_token``."""
