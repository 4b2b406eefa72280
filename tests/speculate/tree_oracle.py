"""A tree verified in plain arithmetic, by the book or with a fault planted."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

Law = Sequence[float]  # [V]


class Fault(Enum):
    """What a careless implementation does."""

    FORGETS_SIBLINGS = auto()  # judges every child by the target's own law
    REDRAWS = auto()  # takes its own token from the target's law, rejected children and all
    KEEPS_REJECTED = auto()  # one in ten of them


@dataclass(frozen=True, slots=True)
class Tree:
    """Drafts and the laws that decide about them."""

    tokens: Sequence[int]  # [N]
    parents: Sequence[int]  # [N]
    draft_laws: Sequence[Law] | None  # [N]; None: point masses
    target_laws: Sequence[Law]  # [1 + N]


def walk(tree: Tree, rng: random.Random, fault: Fault | None = None) -> tuple[list[int], int]:
    """The kept nodes, and the target's own token."""
    path: list[int] = []
    while True:
        last = path[-1] if path else -1
        whole = left = list(tree.target_laws[1 + last])
        kept = None
        for node in [n for n, parent in enumerate(tree.parents) if parent == last]:
            token, law = tree.tokens[node], _law_of(tree, node)
            judged = whole if fault is Fault.FORGETS_SIBLINGS else left
            lucky = fault is Fault.KEEPS_REJECTED and rng.random() < 0.1
            if rng.random() * law[token] < judged[token] or lucky:
                kept = node
                break
            left = [max(0.0, p - q) for p, q in zip(left, law, strict=True)]
            left = [p / sum(left) for p in left] if sum(left) else whole
        if kept is None:
            of_target = whole if fault is Fault.REDRAWS else left
            return path, rng.choices(range(len(whole)), of_target)[0]
        path.append(kept)


def _law_of(tree: Tree, node: int) -> Law:
    if tree.draft_laws is not None:
        return tree.draft_laws[node]
    return [float(token == tree.tokens[node]) for token in range(len(tree.target_laws[0]))]
