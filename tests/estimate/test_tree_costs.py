"""Seconds of trees' blocks between the sizes and contexts that were timed."""

from dataclasses import replace

import numpy as np
import pytest

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.cost import block_costs
from specmeasure.estimate.tree_costs import context_shares, tree_costs
from tests.estimate.replays import CONTEXTS, make_costs

NUM_NODES = (1, 4, 16)
STEP_S, NODE_S = 0.01, 0.001


def tree_seconds(num_nodes, context):
    """A line in nodes from 1.5 steps on, a little dearer at long contexts."""
    return (1.5 * STEP_S + NODE_S * num_nodes) * (1 + context / 1000)


def table_with_trees(*, num_rounds=3, noise=0.0):
    """The candidate "small" drafts trees, "large" does not."""
    rng, table = np.random.default_rng(0), make_costs(num_rounds=num_rounds)
    rounds = []
    for one in table.rounds:
        grid = np.array([[tree_seconds(n, c) for n in NUM_NODES] for c in CONTEXTS])
        timed = grid * np.exp(noise * rng.normal(size=grid.shape))
        small = replace(one.drafts["small"], tree_s=tuple(map(tuple, timed.tolist())))
        rounds.append(replace(one, drafts={**one.drafts, "small": small}))
    return replace(table, rounds=tuple(rounds), num_nodes=NUM_NODES)


def test_what_was_timed_is_found():
    """At timed sizes and contexts nothing is interpolated."""
    costs = tree_costs(table_with_trees(), "small", NUM_NODES, seed=0)

    expected = [[tree_seconds(n, c) for n in NUM_NODES] for c in CONTEXTS]
    assert np.array(expected) == pytest.approx(costs.seconds(np.array(CONTEXTS)))


def test_lines_lie_between_and_go_on():
    """Between two sizes, between two contexts, beyond the largest tree; shortest contexts flat."""
    costs = tree_costs(table_with_trees(), "small", [10, 32], seed=0)

    expected = [[tree_seconds(10, c), tree_seconds(32, c)] for c in (32, 80, 512)]
    assert np.array(expected) == pytest.approx(costs.seconds(np.array([1, 80, 9000])))


def test_a_larger_tree_is_never_cheaper_than_the_largest_timed():
    """A line that falls by chance does not go on falling."""
    table = table_with_trees(num_rounds=1)
    falling = replace(table.rounds[0].drafts["small"], tree_s=((0.02, 0.03, 0.025),) * 3)
    changed = replace(table, rounds=(replace(table.rounds[0], drafts={"small": falling}),))

    costs = tree_costs(changed, "small", [64], seed=0)

    assert [[0.025]] == pytest.approx(costs.seconds(np.array([40])))


def test_a_block_without_nodes_is_a_plain_step():
    """A budget of one token leaves room for no draft."""
    costs = tree_costs(table_with_trees(), "small", [0, 1], seed=0)
    contexts = np.array([32, 300])

    assert costs.step_seconds(contexts) == pytest.approx(costs.seconds(contexts)[:, 0])


def test_resampled_rounds_are_those_of_chains():
    """Trees and chains of one table share their draws: steps agree row by row."""
    table = table_with_trees(num_rounds=4, noise=0.1)
    trees = tree_costs(table, "small", [8], seed=3)
    chains = block_costs(table, "small", 4, seed=3)

    assert (4, trees.step_s.shape) == (trees.num_rounds, chains.step_s.shape)
    assert chains.step_s == pytest.approx(trees.step_s)
    assert trees.block_s[1:].std(axis=0).min() > 0


def test_shares_sum_to_one():
    """Whatever the context, and seconds are the shares' sum."""
    contexts = np.arange(0, 700, 7)
    shares = context_shares(contexts, np.array(CONTEXTS, dtype=float))

    assert np.ones(len(contexts)) == pytest.approx(shares.sum(axis=1))
    assert contexts.clip(32, 512) == pytest.approx(shares @ np.array(CONTEXTS))


@pytest.mark.parametrize("name", ["large", "unheard of"])
def test_trees_that_were_not_timed_are_not_invented(name):
    """The message names who was."""
    with pytest.raises(
        InsufficientEvidence, match=f"no times of trees of '{name}', only of: small"
    ):
        tree_costs(table_with_trees(), name, [4], seed=0)
