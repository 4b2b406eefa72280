"""The shape of a tree of drafts; which tokens stand in it is the proposer's business."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTree:
    """Nodes by rank: (0, 2) is the third choice for the place after the first choice.

    The root is the token that was emitted last; it is no node.
    """

    paths: tuple[tuple[int, ...], ...]  # by depth, then in rising order

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("a tree has at least one node")
        if list(self.paths) != sorted(set(self.paths), key=lambda path: (len(path), path)):
            raise ValueError("a tree's nodes stand once each, by depth, then in rising order")
        known = {(), *self.paths}
        for path in self.paths:
            if not path or min(path) < 0:
                raise ValueError(f"node {list(path)} is no path of ranks from 0")
            if path[:-1] not in known:
                raise ValueError(f"node {list(path)} has no parent {list(path[:-1])}")
            before = (*path[:-1], path[-1] - 1)
            if path[-1] and before not in known:
                raise ValueError(f"node {list(path)} stands without its likelier {list(before)}")

    @classmethod
    def of(cls, paths: Iterable[Iterable[int]]) -> Self:
        """A tree of nodes in any order.

        >>> TokenTree.of([[0, 0], [1], [0]]).paths
        ((0,), (1,), (0, 0))
        """
        nodes = {tuple(path) for path in paths}
        return cls(paths=tuple(sorted(nodes, key=lambda path: (len(path), path))))

    @classmethod
    def chain(cls, num_tokens: int) -> Self:
        """Each node the first choice after the one before.

        >>> TokenTree.chain(2).paths
        ((0,), (0, 0))
        """
        return cls(paths=tuple((0,) * depth for depth in range(1, num_tokens + 1)))

    @property
    def num_nodes(self) -> int:
        return len(self.paths)

    @property
    def depth(self) -> int:
        """The most drafts that can be kept."""
        return len(self.paths[-1])

    @property
    def parents(self) -> tuple[int, ...]:
        """Of each node, its parent's place; -1 for the root.

        >>> TokenTree.of([[0], [1], [0, 0], [1, 0]]).parents
        (-1, -1, 0, 1)
        """
        places = {path: place for place, path in enumerate(self.paths)}
        return tuple(places.get(path[:-1], -1) for path in self.paths)

    def children(self, node: int) -> tuple[int, ...]:
        """The places of a node's children, in the order in which they are tried; -1: the root's.

        >>> TokenTree.of([[0], [1], [0, 0], [1, 0]]).children(-1)
        (0, 1)
        """
        return tuple(place for place, parent in enumerate(self.parents) if parent == node)

    def path_along(self, draft_ids: Sequence[int], kept_ids: Sequence[int]) -> tuple[int, ...]:
        """The nodes from the root's child down whose drafts are those that were kept.

        >>> TokenTree.of([[0], [1], [0, 0], [1, 0]]).path_along([7, 8, 9, 9], [8, 9])
        (1, 3)

        Raises:
            ValueError: the drafts do not fit the tree, or no path of them is what was kept.
        """
        if len(draft_ids) != self.num_nodes:
            raise ValueError(f"{len(draft_ids)} drafts in a tree of {self.num_nodes} nodes")
        path: list[int] = []
        for token in kept_ids:
            last = path[-1] if path else -1
            found = [node for node in self.children(last) if draft_ids[node] == token]
            if not found:
                raise ValueError(
                    f"draft {len(path) + 1} that was kept is no child of the one before"
                )
            path.append(found[0])
        return tuple(path)

    def down_to(self, depth: int) -> Self | None:
        """The nodes that are no deeper; None: there is none.

        >>> TokenTree.chain(4).down_to(1)
        TokenTree(paths=((0,),))
        """
        paths = tuple(path for path in self.paths if len(path) <= depth)
        return type(self)(paths=paths) if paths else None
