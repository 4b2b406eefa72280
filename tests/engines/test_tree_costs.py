"""What trees cost: timed in the real loop, on tables instead of models and a clock that is told."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from specmeasure.decode.loop import Decoder
from specmeasure.engines import costs
from specmeasure.engines.costs import CostMeter, session_tokens
from specmeasure.engines.proposing import Drafting
from specmeasure.engines.tree_costs import (
    NUM_NODES,
    TreeSeconds,
    time_chains,
    time_trees,
    timed_tree,
)
from specmeasure.records.plan import GREEDY, Sampling
from specmeasure.records.tree import TokenTree
from specmeasure.speculate.proposal import Proposal
from tests.engines.test_costs import CPU, ROW_S, STEP_S, TICK_S, TimedModel, ToldClock

DEPTH = 4
HEADS_S, KEEP_S = 0.25, 0.5  # drafting a tree, and keeping a path of it


class KeepingModel(TimedModel):
    """Takes its time to keep a path as well."""

    def keep_path(self, rows: Sequence[int]) -> None:
        self._clock.spend(KEEP_S)
        super().keep_path(rows)


@dataclass
class TreeOfSomeTokens:
    """Drafts one tree of always the same tokens."""

    tree: TokenTree
    clock: ToldClock
    num_proposed: int = 0
    num_committed: int = 0

    def begin(self, prompt_ids: Sequence[int]) -> None:
        """Nothing to read."""

    def propose(self, num_tokens: int) -> Proposal:
        assert num_tokens == DEPTH
        self.num_proposed += 1
        self.clock.spend(HEADS_S)
        tokens = torch.arange(self.tree.num_nodes) % 40
        return Proposal(tokens=tokens, parents=self.tree.parents)

    def commit(self, num_accepted: int, next_token: int) -> None:
        assert num_accepted == 1
        assert next_token >= 0
        self.num_committed += 1


@dataclass
class Bench:
    """A meter, its clock, its target and trees of all sizes."""

    clock: ToldClock
    target: KeepingModel
    meter: CostMeter
    proposers: dict[int, TreeOfSomeTokens]

    def trees(self) -> tuple[TreeSeconds, ...]:
        return time_trees(self.meter, self.proposers, DEPTH, self.meter.target())


def bench(*, sampling: Sampling = GREEDY) -> Bench:
    clock = ToldClock()
    target = KeepingModel(clock, STEP_S, ROW_S)
    decoder = Decoder(
        target=target,
        sampling=sampling,
        generator=torch.Generator().manual_seed(0),
        clock=clock,
        device=CPU,
    )
    meter = CostMeter(decoder=decoder, contexts=((0, 1, 2, 3), tuple(range(9))), most=DEPTH)
    trees = {size: TreeOfSomeTokens(timed_tree(size, DEPTH), clock) for size in NUM_NODES}
    return Bench(clock, target, meter, trees)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=0.8)], ids=str)
def test_a_trees_block_costs_all_that_it_takes(sampling: Sampling):
    """Heads, a pass of all rows, the path that is kept, and the loop: every round finds the sum."""
    rounds = bench(sampling=sampling).trees()

    assert costs.NUM_ROUNDS == len(rounds)
    for by_context in rounds:
        assert 2 == len(by_context)
        for seconds in by_context:
            expected = [HEADS_S + STEP_S + ROW_S * nodes + KEEP_S for nodes in NUM_NODES]

            assert expected == pytest.approx(list(seconds), abs=4 * TICK_S)


@pytest.mark.parametrize("slowness", [0.5, 2.0])
def test_a_machine_that_slows_down_changes_no_ratio(slowness: float):
    """Trees timed at another speed than the target cost the same beside a step."""
    made = bench()
    target = made.meter.target()
    steady = time_trees(made.meter, made.proposers, DEPTH, target)
    made.clock.slowness = slowness
    drifting = time_trees(made.meter, made.proposers, DEPTH, target)

    for one, other in zip(steady, drifting, strict=True):
        for row, same in zip(one, other, strict=True):
            assert list(row) == pytest.approx(list(same))


def test_every_size_is_run_once_a_session():
    """And the largest once more, to warm up; what is drafted is told what was kept of it."""
    made = bench()
    made.trees()
    num_sessions = 1 + 2 * costs.NUM_ROUNDS

    for size, proposer in made.proposers.items():
        expected = num_sessions * (2 if size == NUM_NODES[-1] else 1)

        assert (expected, expected) == (proposer.num_proposed, proposer.num_committed)


def test_sizes_are_run_in_another_order_every_time():
    """Nothing is always timed first."""
    made = bench()
    target = made.meter.target()
    made.target.passes.clear()
    time_trees(made.meter, made.proposers, DEPTH, target)
    length = 2 * costs.NUM_STEPS + 1 + len(NUM_NODES)
    starts = range(0, len(made.target.passes), length)
    orders = {tuple(made.target.passes[i : i + length]) for i in starts}

    assert 1 + 2 * costs.NUM_ROUNDS == len(starts)
    assert len(orders) > len(starts) // 2


def test_the_target_never_reads_past_the_room():
    """Contexts that leave ``session_tokens(K)`` tokens for chains fit every session of trees."""
    made, longest = bench(), [0]
    target, keep_path = made.meter.target(), made.target.keep_path

    def watched(rows: Sequence[int]) -> None:
        keep_path(rows)
        longest.append(len(made.target.read) - made.target.contexts[-1])

    made.target.keep_path = watched  # type: ignore[method-assign]
    time_trees(made.meter, made.proposers, DEPTH, target)

    assert 0 < max(longest) + 1 + DEPTH <= session_tokens(DEPTH)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 8])
def test_timed_trees_grow_into_each_other(depth: int):
    """Each size holds the smaller ones, as deep as heads or the logarithm of its size let it."""
    trees = [timed_tree(size, depth) for size in NUM_NODES]

    assert list(NUM_NODES) == [tree.num_nodes for tree in trees]
    assert [min(depth, size.bit_length()) for size in NUM_NODES] == [one.depth for one in trees]
    for small, large in itertools.pairwise(trees):
        assert set(small.paths) < set(large.paths)


def test_a_chain_shaped_proposal_is_timed_as_well():
    """Drafts without parents are a chain: one of them is kept."""
    made = bench()

    class Chain(TreeOfSomeTokens):
        def propose(self, num_tokens: int) -> Proposal:
            return replace(super().propose(num_tokens), parents=None)

    chains = {2: Chain(TokenTree.chain(2), made.clock)}
    rounds = time_trees(made.meter, chains, DEPTH, made.meter.target())

    expected = HEADS_S + STEP_S + 2 * ROW_S
    assert expected == pytest.approx(rounds[0][0][0], abs=4 * TICK_S)


@dataclass
class SomeHeads:
    """Drafts as many tokens as it has heads, each in its time."""

    num_heads: int
    clock: ToldClock
    asked: set[int] = field(default_factory=set)

    def begin(self, prompt_ids: Sequence[int]) -> None:
        """Nothing to read."""

    def propose(self, num_tokens: int) -> Proposal:
        self.asked.add(num_tokens)
        self.clock.spend(HEADS_S + ROW_S * num_tokens**2)
        return Proposal(tokens=torch.arange(num_tokens))

    def commit(self, num_accepted: int, next_token: int) -> None:
        """Nothing to remember."""


@pytest.mark.parametrize(("most", "num_heads"), [(8, 3), (8, 5), (4, 4), (8, 1), (2, 3)])
def test_no_more_drafts_are_timed_than_there_are_heads(most: int, num_heads: int):
    """Lines between the table's numbers hold what was timed, at every K that heads can draft."""
    made = bench()
    meter = replace(made.meter, most=most)
    heads = SomeHeads(num_heads, made.clock)
    drafting = Drafting(target=made.target, proposer=heads)
    rounds = time_chains(meter, drafting, num_heads, meter.target())
    own = replace(meter, most=min(most, num_heads))

    for number in own.num_drafts:
        expected = HEADS_S + ROW_S * number**2
        found = np.interp(number, meter.num_drafts, rounds[0].draft_s[1])

        assert expected == pytest.approx(found, abs=4 * TICK_S)
    assert max(heads.asked) == max(min(most, num_heads), costs.WARMING)
    assert list(rounds[0].draft_s[0]) == sorted(rounds[0].draft_s[0])
