"""Trees of drafts out of a table: by rank, or siblings drawn without replacement."""

from collections.abc import Sequence

import torch
from torch import Tensor

from specmeasure.records.tree import TokenTree
from specmeasure.speculate.proposal import Proposal
from specmeasure.speculate.sampling import draw

BUSHY = TokenTree.of([(0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 0, 1)])


class TreeProposer:
    """``Proposer`` over a draft's next-token probabilities [V, V], by the last token alone.

    Args:
        probs: under the sampling settings of the target, or any.
        tree: its shape; a budget cuts it to a depth.
        generator: draws siblings; None: they are the likeliest tokens, point masses.
    """

    def __init__(
        self, probs: Tensor, tree: TokenTree, *, generator: torch.Generator | None = None
    ) -> None:
        self.probs = probs
        self.tree = tree
        self.generator = generator
        self._last = torch.zeros(1, dtype=torch.int64)

    def begin(self, prompt_ids: Sequence[int]) -> None:
        self._last = torch.tensor(prompt_ids[-1:])

    def propose(self, num_tokens: int) -> Proposal:
        tree = self.tree.down_to(num_tokens)
        if tree is None:
            return Proposal(tokens=torch.empty(0, dtype=torch.int64))
        if self.generator is None:
            return ranked_tree(self.probs, tree, self._last)
        return drawn_tree(self.probs, tree, self._last, generator=self.generator)

    def commit(self, num_accepted: int, next_token: int) -> None:  # noqa: ARG002 - the protocol's
        self._last = torch.tensor([next_token])


def ranked_tree(probs: Tensor, tree: TokenTree, root: Tensor) -> Proposal:
    """Node (…, r) is the token that is r-th likeliest, from 0, after its parent: point masses."""
    order = probs.argsort(dim=-1, descending=True, stable=True)
    tokens: list[Tensor] = []  # each [1]
    for path, parent in zip(tree.paths, tree.parents, strict=True):
        tokens.append(order.index_select(0, root if parent < 0 else tokens[parent])[:, path[-1]])
    return Proposal(tokens=torch.cat(tokens), parents=tree.parents)


def drawn_tree(
    probs: Tensor, tree: TokenTree, root: Tensor, *, generator: torch.Generator
) -> Proposal:
    """Siblings drawn without replacement; where nothing is left of a law, any other token."""
    tokens: list[Tensor] = []  # each [1]
    laws: list[Tensor] = []  # each [1, V]
    is_free: dict[int, Tensor] = {}  # by parent: tokens that none of its children is
    for parent in tree.parents:
        row = probs.index_select(0, root if parent < 0 else tokens[parent])
        free = is_free.get(parent, torch.ones_like(row))
        law = torch.where((row * free).sum(-1, keepdim=True) > 0, row * free, free)
        laws.append(law / law.sum(-1, keepdim=True))
        tokens.append(draw(laws[-1], generator=generator))
        is_free[parent] = free.scatter(1, tokens[-1][:, None], 0.0)
    return Proposal(tokens=torch.cat(tokens), probs=torch.cat(laws), parents=tree.parents)
