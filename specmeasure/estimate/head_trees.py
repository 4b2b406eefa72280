"""What any tree of drafts keeps of greedy answers, block by block, and which tree keeps most.

A tree's node is a path of ranks: (0, 2) is the third choice of head 2 after the first of head 1.
Greedy verification keeps the longest path of the tree that is the ranks of the tokens to come, so
that the walk through an answer is known without another pass. A block that starts at token t of an
answer with a budget of M keeps at most M − t − 1 drafts: the tree is cut to that depth, as the loop
cuts it. EOS and stop texts end the answer, and cut the block that they stand in.

Exact where the heads' ranks are; the module knows nothing of time.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.acceptance import AcceptanceCounts
from specmeasure.estimate.intervals import Floats
from specmeasure.estimate.replay import Whole
from specmeasure.records.replay import Answer, CandidateScores, HeadScores
from specmeasure.records.tree import TokenTree

Path = tuple[int, ...]
MAX_RANK = 10  # choices of a head that trees are made of, as in the paper
_NO_BUDGET = np.iinfo(np.intp).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Every token of greedy answers [A], one answer after the other: [N] in all."""

    ranks: Whole  # [N, H] of the tokens from a block's start on; -1: none, or no room for a draft
    room: Whole  # [N] the most drafts that a block that starts here can keep
    answers: Whole  # [N] the number of the answer
    contexts: Whole  # [N] tokens before a block that starts here
    first: Whole  # [A] where each answer begins
    num_tokens: Whole  # [A]
    prompts: Whole  # [A] the number of each answer's prompt, from 0, all in use

    @property
    def num_heads(self) -> int:
        return int(self.ranks.shape[1])

    @property
    def num_prompts(self) -> int:
        return int(self.prompts.max()) + 1

    @property
    def of_prompts(self) -> Whole:
        """[N] the number of the prompt."""
        return self.prompts[self.answers]

    @property
    def is_decoded(self) -> NDArray[np.bool_]:
        """[N] whether a block can start here: the prefill emits an answer's first token."""
        return np.arange(len(self.answers)) > self.first[self.answers]


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """The blocks of all answers under one tree, [B] in all, behind the prefills."""

    starts: Whole  # [B] their places
    num_kept: Whole  # [B]
    num_nodes: Whole  # [B] drafted
    num_judged: Whole  # [B] drafts on the path whose fate is known
    depth: int  # of the tree


def read_places(
    answers: Sequence[Answer], scores: Sequence[CandidateScores], prompts: Whole
) -> Places:
    """All places of these answers, which are greedy.

    Args:
        answers: [A].
        scores: of heads, [A].
        prompts: [A] the number of each one's prompt, from 0, all in use.

    Raises:
        InsufficientEvidence: there is no answer, or scores are not those of heads.
    """
    heads = [one for one in scores if isinstance(one, HeadScores)]
    if not heads or len(heads) < len(scores):
        raise InsufficientEvidence(
            "no ranks of heads: trees are made of what Medusa heads drafted. Record some with "
            "specmeasure heads profile."
        )
    num_heads = heads[0].num_heads
    num_tokens = np.array([answer.num_tokens for answer in answers], dtype=np.intp)
    budgets = np.array([answer.max_new_tokens or _NO_BUDGET for answer in answers], dtype=np.intp)
    prompt_tokens = np.array([answer.num_prompt_tokens for answer in answers], dtype=np.intp)
    first = np.cumsum(num_tokens) - num_tokens
    numbers = np.repeat(np.arange(len(answers)), num_tokens)
    within = np.arange(len(numbers)) - first[numbers]
    room = np.clip(budgets[numbers] - within - 1, 0, num_heads)
    ranks = np.concatenate([np.array(one.rank, dtype=np.intp) for one in heads])
    ranks = ranks.reshape(-1, num_heads)
    return Places(
        ranks=np.where(np.arange(num_heads) < room[:, None], ranks, -1),
        room=room,
        answers=numbers,
        contexts=prompt_tokens[numbers] + within,
        first=first,
        num_tokens=num_tokens,
        prompts=prompts,
    )


def walk_tree(places: Places, tree: TokenTree) -> Walk:
    """Follow every answer from block to block; a block goes past its kept drafts and one token."""
    kept = _kept_anywhere(places.ranks, tree)
    ends = places.first + places.num_tokens
    starts, place, end = [], places.first + 1, ends
    while (going := place < end).any():
        place, end = place[going], end[going]
        starts.append(place)
        place = place + kept[place] + 1
    found = np.sort(np.concatenate(starts)) if starts else np.empty(0, dtype=np.intp)
    room = np.minimum(places.room[found], tree.depth)
    left = ends[places.answers[found]] - found  # tokens to the answer's end
    return Walk(
        starts=found,
        num_kept=kept[found],
        num_nodes=_nodes_by_depth(tree)[room],
        num_judged=np.minimum(np.minimum(kept[found] + 1, room), left),
        depth=tree.depth,
    )


def count_walk(places: Places, walk: Walk) -> AcceptanceCounts:
    """The blocks' counts by prompt, as real loops count them; positions are depths."""
    prompts = places.of_prompts[walk.starts]
    num_answers = sums_of(np.ones_like(places.prompts), places.prompts, places.num_prompts)

    def by_prompt(values: Whole | NDArray[np.bool_]) -> Floats:
        return sums_of(values, prompts, places.num_prompts)

    depths = range(walk.depth)
    return AcceptanceCounts(
        num_accepted=by_prompt(walk.num_kept),
        num_drafted=by_prompt(walk.num_nodes),
        num_drafted_blocks=by_prompt(walk.num_nodes > 0),
        num_emitted=sums_of(places.num_tokens, places.prompts, places.num_prompts),
        num_passes=num_answers + by_prompt(np.ones_like(prompts)),
        num_reached=np.stack([by_prompt(walk.num_judged > i) for i in depths], axis=1),
        num_kept=np.stack([by_prompt(walk.num_kept > i) for i in depths], axis=1),
    )


def sums_of(values: Floats | Whole | NDArray[np.bool_], numbers: Whole, most: int) -> Floats:
    """Σ of the values [n] that share a number [n], for every number below ``most``."""
    return np.bincount(numbers, weights=values, minlength=most).astype(np.float64)


def expected_length(places: Places, tree: TokenTree) -> float:
    """τ of a tree over all of these answers, exactly: every drafted block weighs the same.

    Formula: τ = 1 + Σ kept drafts / number of drafted blocks

    Raises:
        InsufficientEvidence: no answer has a block with a draft.
    """
    walk = walk_tree(places, tree)
    num_blocks = int((walk.num_nodes > 0).sum())
    if not num_blocks:
        raise InsufficientEvidence("τ needs a block with drafts; these answers have none")
    return 1 + float(walk.num_kept.sum()) / num_blocks


def passes_by_answer(places: Places, walk: Walk) -> Whole:
    """Target passes of each answer [A], its prefill among them."""
    return 1 + np.bincount(places.answers[walk.starts], minlength=len(places.first))


def best_tree(ranks: Whole, num_nodes: int, *, max_rank: int = MAX_RANK) -> TokenTree:
    """The tree that keeps most at these places, as ``growth`` orders its nodes.

    >>> ranks = np.array([[0, 0], [0, 1], [0, 0], [1, 0], [2, 2]])
    >>> best_tree(ranks, 3).paths
    ((0,), (1,), (0, 0))
    """
    return TokenTree.of(growth(ranks, num_nodes, max_rank=max_rank))


def growth(ranks: Whole, most: int, *, max_rank: int = MAX_RANK) -> tuple[Path, ...]:
    """Nodes in the order in which they add most; the first n are the tree of n, for every n.

    A node adds a kept draft wherever the tokens to come have its very path of ranks: these places
    are counted, [n, H], all of the same weight, whatever the heads' accuracies multiply to. A node
    joins behind its parent and its likelier sibling; where a later sibling is commoner, the way to
    it counts as the mean of its steps. Of equal gains the larger product is taken, so that nodes
    seen nowhere still have an order. No tree of so many nodes keeps more where siblings' counts
    fall.

    Greedy growth on calibration data is the paper's (Cai et al. 2024, arXiv:2401.10774, section
    2.3.3 and appendix on tree construction); its gains are products of accuracies.
    """
    accuracies = rank_shares(ranks, max_rank)
    members: dict[Path, Whole] = {(): np.arange(len(ranks))}

    def gain(path: Path) -> tuple[float, float]:
        parent, head = path[:-1], len(path) - 1
        found = ranks[members[parent], head]
        members[path] = members[parent][found == path[-1]]
        known = found[(found >= path[-1]) & (found < max_rank)]
        siblings = np.bincount(known, minlength=max_rank)[path[-1] :]
        means = siblings.cumsum() / np.arange(1, len(siblings) + 1)
        return float(means.max()), _product(accuracies, path)

    return _grow(gain, most, num_heads=ranks.shape[1], max_rank=max_rank)


def growth_by_products(ranks: Whole, most: int, *, max_rank: int = MAX_RANK) -> tuple[Path, ...]:
    """The same by products of the heads' accuracies, as the paper does: heads as independent."""
    accuracies = rank_shares(ranks, max_rank)
    return _grow(
        lambda path: (_product(accuracies, path), 0.0),
        most,
        num_heads=ranks.shape[1],
        max_rank=max_rank,
    )


def rank_shares(ranks: Whole, max_rank: int = MAX_RANK) -> Floats:
    """[H, R] of the places at which a head was judged, the share whose token has each rank."""
    judged = np.maximum((ranks >= 0).sum(axis=0), 1)
    counts = [(ranks == rank).sum(axis=0) for rank in range(max_rank)]
    return np.asarray(np.stack(counts, axis=1) / judged[:, None])


def product_length(shares: Floats, tree: TokenTree) -> float:
    """τ of a tree, were heads right independently of each other.

    Formula: 1 + Σ over nodes of Π over its path of the head's accuracy at that rank (Cai et al.
    2024, arXiv:2401.10774).
    """
    return 1 + sum(_product(shares, path) for path in tree.paths)


def _product(shares: Floats, path: Path) -> float:
    """Ranks beyond what was looked at have no chance."""
    width = shares.shape[1]
    factors = [shares[head, rank] if rank < width else 0.0 for head, rank in enumerate(path)]
    return float(np.prod(factors))


def _grow(
    gain: Callable[[Path], tuple[float, float]], most: int, *, num_heads: int, max_rank: int
) -> tuple[Path, ...]:
    """``gain`` is asked once a node, of parents before their children."""
    frontier: list[tuple[float, float, int, Path]] = []

    def offer(path: Path) -> None:
        if len(path) <= num_heads and path[-1] < max_rank:
            first, second = gain(path)
            heapq.heappush(frontier, (-first, -second, len(path), path))

    order: list[Path] = []
    offer((0,))
    while frontier and len(order) < most:
        *_, path = heapq.heappop(frontier)
        order.append(path)
        offer((*path, 0))
        offer((*path[:-1], path[-1] + 1))
    return tuple(order)


def _kept_anywhere(ranks: Whole, tree: TokenTree) -> Whole:
    """[N] drafts that a block would keep, wherever it starts."""
    children = _children(tree)
    none = len(children) - 1  # of nodes; the last row and the last column lead nowhere
    node = np.zeros(len(ranks), dtype=np.intp)
    kept = np.zeros(len(ranks), dtype=np.intp)
    for depth in range(tree.depth):
        known = (ranks[:, depth] >= 0) & (ranks[:, depth] < children.shape[1] - 1)
        node = children[node, np.where(known, ranks[:, depth], -1)]
        kept += node < none
    return kept


def _children(tree: TokenTree) -> Whole:
    """[nodes + 2, ranks + 1] of each node, and of the root in row 0, the child of each rank."""
    none = tree.num_nodes + 1
    width = 1 + max(path[-1] for path in tree.paths)
    children = np.full((tree.num_nodes + 2, width + 1), none, dtype=np.intp)
    for node, (path, parent) in enumerate(zip(tree.paths, tree.parents, strict=True), start=1):
        children[parent + 1, path[-1]] = node
    return children


def _nodes_by_depth(tree: TokenTree) -> Whole:
    """[depth + 1] of each depth from 0, the nodes that are no deeper."""
    depths = np.array([len(path) for path in tree.paths])
    return np.cumsum(np.bincount(depths, minlength=tree.depth + 1))
