"""Where the tokens of a tree come from, as indices on the device."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from specmeasure.records.tree import TokenTree


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeNodes:
    """A tree's N nodes. Children of one parent are a family; there are F."""

    depth: int
    width: int  # the most siblings
    parents: tuple[int, ...]  # of each node, its parent's place; -1 the root
    heads: Tensor  # [N] each node's depth, from 0
    ranks: Tensor  # [N] each node's place among its siblings
    families: Tensor  # [N]
    family_heads: Tensor  # [F] their depth, from 0
    later: Tensor  # [E] nodes with an earlier sibling, as often as they have one
    earlier: Tensor  # [E] that sibling


@lru_cache(maxsize=64)
def nodes_down_to(tree: TokenTree, depth: int, device: torch.device) -> TreeNodes | None:
    """The nodes that are no deeper; None: there is none."""
    cut = tree.down_to(depth)
    if cut is None:
        return None
    places = {path: place for place, path in enumerate(cut.paths)}
    above = {path: place for place, path in enumerate(dict.fromkeys(p[:-1] for p in cut.paths))}
    siblings = [
        (place, places[(*path[:-1], rank)])
        for path, place in places.items()
        for rank in range(path[-1])
    ]

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    return TreeNodes(
        depth=cut.depth,
        width=1 + max(path[-1] for path in cut.paths),
        parents=cut.parents,
        heads=tensor([len(path) - 1 for path in cut.paths]),
        ranks=tensor([path[-1] for path in cut.paths]),
        families=tensor([above[path[:-1]] for path in cut.paths]),
        family_heads=tensor([len(path) for path in above]),
        later=tensor([later for later, _ in siblings]),
        earlier=tensor([earlier for _, earlier in siblings]),
    )
