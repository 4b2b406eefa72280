"""What heads cost: their drafts in a chain, and whole blocks of trees at several numbers of nodes.

Of a tree, drafting, one target pass, the path kept and the loop around them are timed together:
what its cache does outside the verification is part of its price. Sessions are those of ``costs``:
trees of all sizes in shuffled order between plain steps, scaled to them; each block keeps one node.
"""

import itertools
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from specmeasure.decode.clock import Clock
from specmeasure.decode.stopping import Cut
from specmeasure.engines import costs
from specmeasure.engines.costs import CostMeter, TargetCosts
from specmeasure.engines.proposing import Drafting
from specmeasure.records.costs import DraftCosts
from specmeasure.records.plan import Sampling
from specmeasure.records.trace import FinishReason
from specmeasure.records.tree import TokenTree
from specmeasure.speculate.proposal import Proposal, Proposer
from specmeasure.speculate.verdict import Verdict
from specmeasure.speculate.verify import verify_strictly

NUM_NODES = (1, 2, 4, 8, 16, 32, 64)
NUM_KEPT = 1  # nodes of every block
MARKS_BEFORE = 3  # of the loop's clock: started, prefilled, ready
MARKS_OF_A_BLOCK = 3  # begun, drafted, verified
TreeSeconds = tuple[tuple[float, ...], ...]  # [context][number of nodes]


def timed_tree(num_nodes: int, depth: int) -> TokenTree:
    """The tree of this size that is timed: as broad as it is deep.

    Nodes come in the order of the sum of their ranks counted from 1, so that a choice that is one
    rank lower costs as much as one that is one place deeper; of equal sums the deepest come first,
    in rising order. No node is deeper than ``depth``.

    >>> timed_tree(4, 2).paths
    ((0,), (1,), (0, 0), (0, 1))
    >>> timed_tree(4, 3).paths
    ((0,), (1,), (0, 0), (0, 0, 0))
    """
    by_sum = (path for total in itertools.count(1) for path in _paths(total, depth))
    return TokenTree.of(itertools.islice(by_sum, num_nodes))


def time_trees(
    meter: CostMeter, proposers: Mapping[int, Proposer], depth: int, target: TargetCosts
) -> tuple[TreeSeconds, ...]:
    """Seconds of a block by round, at the speed of the target's rounds.

    Args:
        meter: whose loop, contexts and seed are used.
        proposers: of trees by their number of nodes, rising; all draft for the loop's target.
        depth: the most drafts of theirs that can be kept.
        target: what was timed of the target before.
    """
    drafting = Drafting(target=meter.decoder.target, proposer=None)
    meter.prepare(drafting, (1, *(1 + size for size in proposers)))
    session = _Session(meter=meter, proposers=proposers, depth=depth)
    rng = random.Random(meter.seed)
    session.run(meter.contexts[0], rng)  # warms every shape up
    return tuple(
        tuple(
            tuple(seconds * step for seconds in session.run(ids, rng))
            for step, ids in zip(target.plain_s, meter.contexts, strict=True)
        )
        for _ in range(costs.NUM_ROUNDS)
    )


def time_chains(
    meter: CostMeter, drafting: Drafting, num_heads: int, target: TargetCosts
) -> tuple[DraftCosts, ...]:
    """Drafting by round, at the meter's numbers of drafts.

    More drafts than there are heads are not drafted: there stands what the line through the last
    two numbers gives, so that lines between the meter's numbers hold what was timed.
    """
    own = replace(meter, most=min(meter.most, num_heads))
    return tuple(
        replace(
            one,
            draft_s=tuple(_at(meter.num_drafts, own.num_drafts, row) for row in one.draft_s),
        )
        for one in own.drafts(drafting, target)
    )


def _at(points: Sequence[int], axis: Sequence[int], seconds: Sequence[float]) -> tuple[float, ...]:
    """Seconds at points of the axis and beyond it, never less than the last."""
    known = dict(zip(axis, seconds, strict=True))
    slope = 0.0
    if len(axis) > 1:
        slope = max(0.0, (seconds[-1] - seconds[-2]) / (axis[-1] - axis[-2]))
    return tuple(
        known[point] if point in known else seconds[-1] + slope * (point - axis[-1])
        for point in points
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    meter: CostMeter
    proposers: Mapping[int, Proposer]
    depth: int

    def run(self, context: Sequence[int], rng: random.Random) -> list[float]:
        """Seconds of a block of each tree, in plain steps of the same session."""
        sizes = list(self.proposers)
        order = rng.sample(sizes, len(sizes))
        plain, warming = [0] * costs.NUM_STEPS, sizes[-1:]
        marks = _Marks(clock=self.meter.decoder.clock)
        decoder = replace(self.meter.decoder, clock=marks, verify=_keep_one)
        proposer = _InTurn(self.proposers, self.depth, decoder.device)
        script = _Script([*plain, *warming, *order, *plain])
        blocks = decoder.decode(proposer, context, script).blocks
        steps = blocks[1 + costs.NUM_COLD : 1 + costs.NUM_STEPS] + blocks[-costs.NUM_STEPS :]
        plain_s = statistics.median(block.verify_s for block in steps)
        first = costs.NUM_STEPS + len(warming)  # block after the prefill that is looked at
        seconds = {size: marks.block_s(first + place) for place, size in enumerate(order)}
        return [seconds[size] / plain_s for size in sizes]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marks:
    """A clock that remembers when it was asked."""

    clock: Clock
    seen: list[Any] = field(default_factory=list)

    def mark(self) -> Any:
        self.seen.append(self.clock.mark())
        return self.seen[-1]

    def seconds(self, earlier: Any, later: Any) -> float:
        return self.clock.seconds(earlier, later)

    def block_s(self, block: int) -> float:
        """From one block's beginning to the next one's; block 0 follows the prefill."""
        begun = MARKS_BEFORE + MARKS_OF_A_BLOCK * block
        return self.seconds(self.seen[begun], self.seen[begun + MARKS_OF_A_BLOCK])


class _Script:
    """``Ending`` after blocks of trees of given sizes."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = list(sizes)
        self._num_cut = -1  # the prefill is cut first

    def num_drafts(self, num_emitted: int) -> int:  # noqa: ARG002 - the protocol's argument
        return self._sizes[self._num_cut]

    def cut(self, emitted: Sequence[int], tokens: Sequence[int]) -> Cut:  # noqa: ARG002 - likewise
        self._num_cut += 1
        is_over = self._num_cut == len(self._sizes)
        return Cut(num_tokens=len(tokens), reason=FinishReason.BUDGET if is_over else None)


class _InTurn:
    """Many proposers as one: what is asked for says which of them drafts."""

    def __init__(self, proposers: Mapping[int, Proposer], depth: int, device: torch.device) -> None:
        self._proposers, self._depth = proposers, depth
        self._nothing = Proposal(tokens=torch.empty(0, dtype=torch.int64, device=device))
        self._last: Proposer | None = None

    def begin(self, prompt_ids: Sequence[int]) -> None:
        for one in self._proposers.values():
            one.begin(prompt_ids)

    def propose(self, num_tokens: int) -> Proposal:
        self._last = self._proposers.get(num_tokens)
        return self._nothing if self._last is None else self._last.propose(self._depth)

    def commit(self, num_accepted: int, next_token: int) -> None:
        if self._last is not None:
            self._last.commit(num_accepted, next_token)


def _keep_one(
    proposal: Proposal, logits: Tensor, sampling: Sampling, *, generator: torch.Generator
) -> Verdict:
    """The real verification, then the first node kept."""
    verdict = verify_strictly(proposal, logits, sampling, generator=generator)
    if not proposal.num_tokens:
        return verdict
    path = None if proposal.parents is None else (0,)
    return replace(verdict, num_accepted=NUM_KEPT, path=path)


def _paths(total: int, depth: int) -> Iterator[tuple[int, ...]]:
    """Paths whose ranks, counted from 1, sum to ``total``: the deepest first, then rising."""
    for length in range(min(total, depth), 0, -1):
        for cuts in itertools.combinations(range(1, total), length - 1):
            ends = (0, *cuts, total)
            yield tuple(end - start - 1 for start, end in itertools.pairwise(ends))
