"""Medusa heads: small networks on the target's last state, each for one place further ahead.

Cai et al. 2024 (arXiv:2401.10774), section 3.1; heads trained on a frozen target (Medusa-1).
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from specmeasure.proposers.tree_nodes import TreeNodes, nodes_down_to
from specmeasure.records.plan import Sampling
from specmeasure.records.tree import TokenTree
from specmeasure.speculate.proposal import Proposal
from specmeasure.speculate.sampling import NOT_A_TOKEN, greedy_tokens, sampling_probs


class MedusaHeads(nn.Module):
    """From states of the target to logits of the tokens after its own next one.

    The state that the target's output head turns into the next token is turned by head h into the
    token h + 1 places behind that. Formula, layer by layer: x + SiLU(W x + b); then a linear map to
    the vocabulary.

    Args:
        hidden_size: of the target's states, D.
        vocab_size: V.
        num_heads: H.
        num_layers: residual blocks of each head, from 0.
        lm_head: one vocabulary matrix for all heads, such as the target's; None: each its own.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        vocab_size: int,
        num_heads: int,
        num_layers: int,
        lm_head: nn.Linear | None = None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in range(num_layers))
            for _ in range(num_heads)
        )
        self.lm_heads = nn.ModuleList(
            lm_head or nn.Linear(hidden_size, vocab_size, bias=False) for _ in range(num_heads)
        )
        self.hidden_size = hidden_size
        self.vocab_size = vocab_size
        self.shares_lm_head = lm_head is not None
        self.borrows_lm_head = False  # whether that one belongs to the target

    @property
    def num_heads(self) -> int:
        return len(self.lm_heads)

    @property
    def num_layers(self) -> int:
        """Residual blocks of each head."""
        return len(list(self.blocks[0].children()))

    def forward(self, states: Tensor, num_heads: int | None = None) -> Tensor:
        """Logits [H, ..., V] of the first ``num_heads`` heads, by default of all.

        Args:
            states: [..., D].
            num_heads: at least 1.
        """
        found = []
        for block, lm_head in list(zip(self.blocks, self.lm_heads, strict=True))[:num_heads]:
            state = states
            for layer in block.children():
                state = state + functional.silu(layer(state))
            found.append(lm_head(state)[..., : self.vocab_size])
        return torch.stack(found)


class Stated(Protocol):
    """A target whose states can be had."""

    @property
    def last_state(self) -> Tensor:
        """What went into the output head for the last token that is remembered: [D]."""


class MedusaProposer:
    """Drafts a chain or a tree from one state of the target; reads no token itself.

    A node's choice is its head's, whatever stands before it. Greedy: the child of rank r is the
    r-th likeliest token, of equal ones the smaller id. Sampled: siblings are drawn without
    replacement, for each parent anew, under the target's own sampling settings; once no token is
    left that has a chance, they are point masses at the likeliest others, so that a tree's shape
    depends on nothing that was drawn.

    Args:
        heads: of this target.
        target: watched; see ``CachedCausalLM.watch_states``.
        sampling: of the drafts; greedy ones are point masses, whatever the target does.
        tree: None: a chain of as many drafts as there are heads.
        generator: of the draws, on the device where drafts are wanted.

    Raises:
        ValueError: the tree has more siblings than there are tokens.
    """

    def __init__(
        self,
        heads: MedusaHeads,
        target: Stated,
        sampling: Sampling,
        *,
        tree: TokenTree | None = None,
        generator: torch.Generator,
    ) -> None:
        if tree is not None and max(max(path) for path in tree.paths) >= heads.vocab_size:
            raise ValueError(f"a tree with more siblings than the {heads.vocab_size} tokens")
        self._heads = heads
        self._target = target
        self._sampling = sampling
        self._tree = TokenTree.chain(heads.num_heads) if tree is None else tree
        self._is_chain = tree is None
        self._generator = generator

    def begin(self, prompt_ids: Sequence[int]) -> None:
        """Nothing: the target's pass over the prompt is all that is needed."""

    def propose(self, num_tokens: int) -> Proposal:
        """The tree down to ``num_tokens``, or to as many heads as there are."""
        device = self._generator.device
        depth = min(num_tokens, self._heads.num_heads)
        nodes = nodes_down_to(self._tree, depth, device)
        if nodes is None:
            return Proposal(tokens=torch.empty(0, dtype=torch.int64, device=device))
        logits = self._heads(self._target.last_state, nodes.depth).to(device)  # [H, V]
        parents = None if self._is_chain else nodes.parents
        if self._sampling.is_greedy:
            tokens = likeliest_tokens(logits, nodes.width)[nodes.heads, nodes.ranks]
            return Proposal(tokens=tokens, parents=parents)
        tokens, probs = self._draw(logits, nodes)
        return Proposal(tokens=tokens, probs=probs, parents=parents)

    def commit(self, num_accepted: int, next_token: int) -> None:
        """Nothing: the target remembers."""

    def _draw(self, logits: Tensor, nodes: TreeNodes) -> tuple[Tensor, Tensor]:
        """Nodes' tokens [N] and laws [N, V]."""
        logits = logits.float()
        law = sampling_probs(logits, self._sampling)  # [H, V]
        without_chance = logits - logits.amax(-1, keepdim=True) - 1  # below any that has one
        order = torch.where(law > 0, law, without_chance)[nodes.family_heads]  # [F, V]
        arrivals = torch.empty_like(order).exponential_(1, generator=self._generator)
        order = torch.where(order > 0, order / arrivals, order)
        tokens = order.topk(nodes.width).indices[nodes.families, nodes.ranks]

        probs = law[nodes.heads]
        probs[nodes.later, tokens[nodes.earlier]] = 0.0
        left = probs.sum(-1, keepdim=True)  # [N, 1]
        own = probs.gather(1, tokens[:, None])
        probs = probs.scatter(1, tokens[:, None], own.masked_fill(left == 0, 1.0))
        is_broken = law.sum(-1).isnan()[nodes.heads]
        return tokens.masked_fill(is_broken, NOT_A_TOKEN), probs / left.masked_fill(left == 0, 1.0)


def likeliest_tokens(logits: Tensor, number: int) -> Tensor:
    """Of each row of [N, V], falling; of equal ones the smaller id first: [N, number] int64.

    ``NOT_A_TOKEN`` where a row holds NaN.
    """
    top = greedy_tokens(logits)[:, None]
    if number == 1:
        return top
    bits = (logits.float() + 0.0).view(torch.int32)  # adding 0 makes one zero of two
    rising = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()  # ordered as the floats are
    ids = torch.arange(logits.shape[-1], device=logits.device)
    places = (rising * (1 << 32) - ids).topk(number).indices
    return places.masked_fill(top == NOT_A_TOKEN, NOT_A_TOKEN)
