"""A language model that is a table: next-token logits by the last token alone."""

from collections.abc import Sequence

import torch
from torch import Tensor


class TableModel:
    """``CachedModel`` over logits [V, V]; remembers what it read, so that misuse shows."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        self.read: list[int] = []
        self.unsettled = 0  # tokens read since the last rollback

    def reset(self, *, rolls_back: bool) -> None:  # noqa: ARG002 - the protocol's name
        self.read, self.unsettled = [], 0

    def prefill(self, ids: Sequence[int]) -> Tensor:
        self.read += ids
        return self.logits[ids[-1]][None]

    def forward(self, ids: Tensor) -> Tensor:
        self.read += ids.tolist()
        self.unsettled += len(ids)
        return self.logits[ids]

    def rollback(self, num_tokens: int) -> None:
        assert 0 <= num_tokens <= self.unsettled
        if num_tokens:
            del self.read[-num_tokens:]
        self.unsettled = 0

    def forward_tree(self, ids: Tensor, parents: Sequence[int]) -> Tensor:
        assert all(parent < row for row, parent in enumerate(parents))
        self.tree = list(parents)
        return self.forward(ids)

    def keep_path(self, rows: Sequence[int]) -> None:
        for row, parent in zip(rows, (-1, *rows), strict=False):
            assert parent == self.tree[row]
        tree = self.read[-self.unsettled :]
        self.read[-self.unsettled :] = [tree[row] for row in rows]
        self.unsettled = 0


def random_table(vocab_size: int, seed: int, spread: float = 1.5) -> Tensor:
    return spread * torch.randn(
        vocab_size, vocab_size, generator=torch.Generator().manual_seed(seed)
    )
