"""Lossless verification of a tree of drafts: along the greedy path, and by recursive rejection.

The target's rows stand for the root, the token before all drafts, and then for each node: row
1 + i is what follows node i. Siblings are tried in the order in which they stand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from specmeasure.speculate.proposal import Proposal
from specmeasure.speculate.sampling import NOT_A_TOKEN, draw
from specmeasure.speculate.verdict import Verdict, refuse_broken


def verify_tree_greedy(
    draft_tokens: Tensor,  # [N]
    parents: Sequence[int],  # [N] of each node's parent, -1 the root
    target_tokens: Tensor,  # [1 + N] the target's argmax after the root and after every node
) -> Verdict:
    """Go from the root to the child that is the target's argmax; where none is, emit the argmax.

    Raises:
        BrokenLogits: the target's or the draft's logits held NaN.
    """
    host = torch.cat([draft_tokens, target_tokens]).tolist()  # the block's one sync
    drafts, targets = host[: len(parents)], host[len(parents) :]
    path: list[int] = []
    last = -1
    for node, parent in enumerate(parents):  # children stand behind their parents
        if parent == last and drafts[node] == targets[1 + last]:
            path.append(node)
            last = node
    refuse_broken([targets[1 + node] for node in (-1, *path)], drafts)
    return _verdict(path, targets[1 + last], drafts)


def verify_tree_rejection(
    proposal: Proposal,  # of N nodes
    target_probs: Tensor,  # [1 + N, V]
    *,
    generator: torch.Generator,
) -> Verdict:
    """Try the children of the last kept node one by one; go on from the first that is kept.

    Lossless: emitted tokens follow the target's own distribution (SpecInfer's multi-step
    speculative sampling: Miao et al. 2023, arXiv:2305.09781). A child x is kept with chance
    min(1, left(x) / draft_probs(x)), where left is the target's law at first; a child that is
    rejected leaves the normalised positive part of left − draft_probs to its next sibling, and the
    last one leaves it to the target's own token. A residual that rounds to all zeros is not taken.
    Siblings that are drawn without replacement have laws without the earlier ones: each is drawn
    from its own law given that those were rejected, which is all that the proof asks.

    Raises:
        BrokenLogits: the target's probabilities held NaN.
    """
    found = _descend(proposal, target_probs, generator=generator)
    next_token, *host = torch.cat([found, proposal.tokens]).tolist()  # the block's one sync
    rows, drafts = host[: -proposal.num_tokens], host[-proposal.num_tokens :]
    refuse_broken([next_token], drafts)
    path = dict.fromkeys(row - 1 for row in rows if row)  # the last one repeats itself
    return _verdict(list(path), next_token, drafts)


def _descend(proposal: Proposal, target_probs: Tensor, *, generator: torch.Generator) -> Tensor:
    """The target's own token, then the row where each step down ends: [1 + depth]."""
    if proposal.probs is None:
        return _draw_along(proposal, target_probs, generator=generator)
    return _reject_along(proposal, proposal.probs, target_probs, generator=generator)


def _draw_along(proposal: Proposal, target_probs: Tensor, *, generator: torch.Generator) -> Tensor:
    """Point masses: draw the target's token, and go on where it is a child.

    The same law as rejecting children one by one, for a child x is kept with chance left(x) and
    leaves the rest; but only rows on the path are drawn from.
    """
    family = _family(proposal.parents or (), target_probs.device)
    row = torch.zeros(1, dtype=torch.int64, device=target_probs.device)
    next_token, is_on, rows = row, row == 0, []
    for _ in range(family.depth):
        drawn = _draw_from(target_probs, row, generator=generator)
        next_token = torch.where(is_on, drawn, next_token)
        is_it = (family.parent_rows == row) & (proposal.tokens == drawn) & is_on
        is_on = is_it.any(-1, keepdim=True)
        row = torch.where(is_on, 1 + is_it.long().argmax(-1, keepdim=True), row)
        rows.append(row)
    drawn = _draw_from(target_probs, row, generator=generator)
    return torch.cat([torch.where(is_on, drawn, next_token), *rows])


def _reject_along(
    proposal: Proposal,
    draft_probs: Tensor,  # [N, V]
    target_probs: Tensor,  # [1 + N, V]
    *,
    generator: torch.Generator,
) -> Tensor:
    """Every node at once, as if its parent were kept and its earlier siblings were not."""
    family = _family(proposal.parents or (), target_probs.device)
    drafts = proposal.tokens.clamp_min(0)[:, None]
    coin = torch.rand(len(drafts), 1, generator=generator, device=target_probs.device)
    left = target_probs.clone()
    goes_to = torch.arange(len(left), device=left.device)  # a row's first kept child, or itself
    for trial in family.trials:
        tokens, laws = drafts[trial.nodes], draft_probs[trial.nodes]
        wanted, went_to = left[trial.parent_rows], goes_to[trial.parent_rows]
        keep = coin[trial.nodes] * laws.gather(1, tokens) < wanted.gather(1, tokens)
        is_first = keep[:, 0] & (went_to == trial.parent_rows)
        went_to = torch.where(is_first, 1 + trial.nodes, went_to)
        goes_to = goes_to.index_put((trial.parent_rows,), went_to)
        residual = (wanted - laws).clamp_min(0)
        total = residual.sum(-1, keepdim=True)
        left[trial.parent_rows] = torch.where(total > 0, residual / total, wanted)

    rows = [torch.zeros(1, dtype=torch.int64, device=left.device)]
    for _ in range(family.depth):
        rows.append(goes_to.index_select(0, rows[-1]))
    return torch.cat([_draw_from(left, rows[-1], generator=generator), *rows[1:]])


def _draw_from(probs: Tensor, row: Tensor, *, generator: torch.Generator) -> Tensor:
    """A token [1] of this row, or ``NOT_A_TOKEN`` where it holds NaN."""
    wanted = probs.index_select(0, row)
    return draw(wanted, generator=generator).masked_fill(wanted.sum(-1).isnan(), NOT_A_TOKEN)


@lru_cache(maxsize=64)
def lineage(parents: tuple[int, ...], device: torch.device) -> Tensor:
    """Whether node j is node i or an ancestor of it: [N, N] bool, [i, j]."""
    found = torch.zeros(len(parents), len(parents), dtype=torch.bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            found[node] = found[parent]
        found[node, node] = True
    return found.to(device)


@lru_cache(maxsize=64)
def parent_rows(parents: tuple[int, ...], device: torch.device) -> Tensor:
    """The row of the target that judges each node: [N]."""
    return torch.tensor([1 + parent for parent in parents], dtype=torch.int64, device=device)


def path_to(node: int, parents: Sequence[int]) -> tuple[int, ...]:
    """The nodes from the root's child down to this one; none of -1.

    >>> path_to(3, (-1, -1, 1, 2)), path_to(-1, (-1,))
    ((1, 2, 3), ())
    """
    path: list[int] = []
    while node >= 0:
        path.append(node)
        node = parents[node]
    return tuple(reversed(path))


@dataclass(frozen=True, slots=True)
class _Trial:
    """Nodes that are tried at once: one of each of some parents' children."""

    nodes: Tensor  # [M]
    parent_rows: Tensor  # [M], no two alike


@dataclass(frozen=True, slots=True)
class _Family:
    trials: tuple[_Trial, ...]  # first children, second children, …
    parent_rows: Tensor  # [N]
    depth: int


@lru_cache(maxsize=64)
def _family(parents: tuple[int, ...], device: torch.device) -> _Family:
    num_siblings: dict[int, int] = {}
    by_turn: list[list[int]] = []
    depths: list[int] = []
    for node, parent in enumerate(parents):
        turn = num_siblings.get(parent, 0)
        num_siblings[parent] = turn + 1
        if turn == len(by_turn):
            by_turn.append([])
        by_turn[turn].append(node)
        depths.append(1 if parent < 0 else 1 + depths[parent])
    trials = tuple(
        _Trial(
            torch.tensor(nodes, device=device),
            torch.tensor([1 + parents[node] for node in nodes], device=device),
        )
        for nodes in by_turn
    )
    return _Family(trials, parent_rows(parents, device), max(depths, default=0))


def _verdict(path: list[int], next_token: int, drafts: list[int]) -> Verdict:
    return Verdict(
        num_accepted=len(path), next_token=next_token, draft_tokens=tuple(drafts), path=tuple(path)
    )
