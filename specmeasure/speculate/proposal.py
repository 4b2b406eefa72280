"""What the verifier is given: proposals, and the two protocols that the decoding loop relies on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Draft tokens for one block: a chain, or a tree whose nodes follow their parents.

    Siblings stand in the order in which they are tried. Each one's law leaves out what its earlier
    siblings were.
    """

    tokens: Tensor  # [N] int64, N may be 0
    probs: Tensor | None = None  # [N, V] the law they were drawn from; None: a point mass
    parents: tuple[int, ...] | None = None  # tree: index of each node's parent, -1 the root

    @property
    def num_tokens(self) -> int:
        return self.tokens.shape[0]

    @property
    def depth(self) -> int:
        """The most drafts that can be kept."""
        if self.parents is None:
            return self.num_tokens
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent < 0 else depths[parent] + 1)
        return max(depths, default=0)


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

    def forward_tree(self, ids: Tensor, parents: Sequence[int]) -> Tensor:
        """Read ids [N], each after its parent among them, -1: after what was read before.

        Returns:
            logits [N, V], one row after each. Follow it with ``keep_path``.
        """

    def keep_path(self, rows: Sequence[int]) -> None:
        """Settle a tree: remember these of its rows, each the parent of the next; forget others."""


class Proposer(Protocol):
    """Anything that yields proposals."""

    def begin(self, prompt_ids: Sequence[int]) -> None:
        """Start a new sequence; do whatever prefill drafting needs."""

    def propose(self, num_tokens: int) -> Proposal:
        """Drafts that continue what was committed, of which at most ``num_tokens`` can be kept."""

    def commit(self, num_accepted: int, next_token: int) -> None:
        """The target kept ``num_accepted`` of the last proposal, then emitted ``next_token``.

        The target has settled by then what it remembers.
        """
