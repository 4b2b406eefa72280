"""Trees valued by walks over ranks, against the real loop; and what greedy growth makes of them."""

import numpy as np
import pytest
import torch

from specmeasure.decode.loop import Decoder
from specmeasure.decode.stopping import Stopping
from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.acceptance import AcceptanceCounts
from specmeasure.estimate.head_trees import (
    best_tree,
    count_walk,
    expected_length,
    growth,
    growth_by_products,
    passes_by_answer,
    product_length,
    rank_shares,
    read_places,
    walk_tree,
)
from specmeasure.records.plan import GREEDY
from specmeasure.records.tree import TokenTree
from specmeasure.speculate.proposal import Proposal
from tests.decode.fake_clock import FakeClock
from tests.decode.table_model import TableModel, random_table
from tests.estimate.heads import rank_scores
from tests.estimate.replays import draft_scores, make_answer

CPU = torch.device("cpu")
VOCAB, HEADS = 8, 3
EOS = frozenset({7})


class TableHeads:
    """A tree of drafts from heads that are tables: logits [H, V, V] by the last token alone."""

    def __init__(self, tables, tree):
        self.order = torch.stack(tables).argsort(dim=-1, descending=True)
        self.tree = tree
        self.last = None

    def begin(self, prompt_ids):
        """Nothing to read."""

    def propose(self, num_tokens):
        tree = self.tree.down_to(num_tokens)
        if tree is None:
            return Proposal(tokens=torch.empty(0, dtype=torch.int64))
        tokens = [int(self.order[len(path) - 1, self.last, path[-1]]) for path in tree.paths]
        return Proposal(tokens=torch.tensor(tokens), parents=tree.parents)

    def commit(self, _, next_token):
        self.last = next_token


def random_tree(rng, num_nodes, num_heads=HEADS, width=VOCAB):
    """Any tree that can be drafted: nodes join where their parents and siblings are."""
    paths = {(0,)}
    while len(paths) < num_nodes:
        path = sorted(paths)[rng.integers(len(paths))]
        grown = (*path, 0) if rng.random() < 0.5 else (*path[:-1], path[-1] + 1)
        if len(grown) <= num_heads and grown[-1] < width:
            paths.add(grown)
    return TokenTree.of(paths)


def decoded(tree, prompt, budget, *, tables, target):
    """What the loop emits and how, with heads that know the target a little."""
    decoder = Decoder(
        target=TableModel(target),
        sampling=GREEDY,
        generator=torch.Generator(),
        clock=FakeClock(),
        device=CPU,
    )
    ending = Stopping(max_new_tokens=budget, eos_ids=EOS, num_speculative_tokens=tree.depth)
    return decoder.decode(TableHeads(tables, tree), prompt, ending)


def recorded(token_ids, tables):
    """The ranks of an answer's tokens under heads that are tables, for every block's start."""
    order = torch.stack(tables).argsort(dim=-1, descending=True).argsort(dim=-1)
    ranks = np.full((len(token_ids), HEADS), -1)
    for start in range(1, len(token_ids)):
        for head in range(HEADS):
            if start + head < len(token_ids):
                ranks[start, head] = order[head, token_ids[start - 1], token_ids[start + head]]
    return rank_scores(ranks)


@pytest.fixture(scope="module")
def models():
    """A target whose greedy answers wander, and heads that half know it."""
    # the next token of a greedy table is a map, which runs into cycles: long answers, some EOS
    target = random_table(VOCAB, seed=5)
    hops = [target]
    for _ in range(HEADS - 1):
        following = hops[-1].argmax(dim=-1)
        hops.append(target[following])
    noise = [random_table(VOCAB, seed=10 + head, spread=2.0) for head in range(HEADS)]
    return target, [hop + one for hop, one in zip(hops, noise, strict=True)]


@pytest.mark.parametrize("seed", range(40))
def test_a_walk_takes_the_loops_own_passes(models, seed):
    """Any tree, budget and prompt: every count of every answer is the real loop's."""
    target, tables = models
    rng = np.random.default_rng(seed)
    tree = random_tree(rng, int(rng.integers(1, 20)))
    answers, scores, loops = [], [], []
    for prompt in range(VOCAB - 1):
        budget = int(rng.integers(1, 24))
        real = decoded(tree, [prompt], budget, tables=tables, target=target)
        answers.append(make_answer(f"p{prompt}", num_tokens=len(real.token_ids), budget=budget))
        scores.append(recorded(real.token_ids, tables))
        loops.append(real.blocks)
    places = read_places(answers, scores, np.arange(len(answers)))

    walk = walk_tree(places, tree)

    counts = count_walk(places, walk)
    assert [len(blocks) for blocks in loops] == passes_by_answer(places, walk).tolist()
    for place, blocks in enumerate(loops):
        assert counted(blocks, tree.depth) == of_prompt(counts, place)
    drafted = [one for blocks in loops for one in blocks if one.num_draft_tokens]
    kept_drafts = sum(one.num_accepted_tokens for one in drafted)
    assert expected_length(places, tree) == pytest.approx(1 + kept_drafts / len(drafted))


def counted(blocks, depth):
    """The loop's own blocks, counted one by one."""
    accepted = [one.num_accepted_tokens for one in blocks]
    judged = [
        one.num_accepted_tokens
        if one.truncated
        else min(one.num_accepted_tokens + 1, one.most_accepted)
        for one in blocks
    ]
    return (
        sum(accepted),
        sum(one.num_draft_tokens for one in blocks),
        sum(one.num_draft_tokens > 0 for one in blocks),
        sum(one.num_emitted_tokens for one in blocks),
        len(blocks),
        [sum(one > i for one in judged) for i in range(depth)],
        [sum(one > i for one in accepted) for i in range(depth)],
    )


def of_prompt(counts: AcceptanceCounts, prompt):
    return (
        *(
            int(getattr(counts, name)[prompt])
            for name in (
                "num_accepted",
                "num_drafted",
                "num_drafted_blocks",
                "num_emitted",
                "num_passes",
            )
        ),
        counts.num_reached[prompt].astype(int).tolist(),
        counts.num_kept[prompt].astype(int).tolist(),
    )


def test_the_best_tree_of_each_size_begins_the_next():
    """One order holds the trees of all sizes, each without gaps."""
    ranks = np.random.default_rng(0).geometric(0.4, size=(300, HEADS)) - 1
    order = growth(ranks, 64)

    assert 64 == len(order)
    for size in (1, 8, 16, 32, 64):
        assert TokenTree.of(order[:size]) == best_tree(ranks, size)


def test_growth_counts_paths_and_not_products():
    """Heads that are right together: a path that its product makes rare joins as early as due."""
    ranks = np.array([[0, 0]] * 40 + [[1, 1]] * 35 + [[2, 0]] * 25)

    assert ((0,), (0, 0), (1,), (2,)) == growth(ranks, 4)
    assert (1, 1) in growth(ranks, 7)
    assert (1, 1) not in growth_by_products(ranks, 7)


def test_the_way_to_a_commoner_sibling_counts_as_its_mean():
    """A node that is never right is taken where what stands behind it pays for both."""
    ranks = np.array([[0, 1]] * 60 + [[1, 0]] * 20)

    assert ((0,), (0, 0), (0, 1), (1,)) == growth(ranks, 4)


def test_growth_keeps_most():
    """On joint ranks with falling chances no tree of six nodes keeps more than the grown one."""
    rng = np.random.default_rng(3)
    ranks = np.minimum(rng.geometric(0.5, size=(200, 1)) - 1, 5) + np.zeros((1, 2), dtype=int)
    ranks[:, 1] = np.minimum(rng.geometric(0.6, size=200) - 1, 5)
    grown = kept(ranks, best_tree(ranks, 6))

    assert all(
        kept(ranks, random_tree(np.random.default_rng(seed), 6, num_heads=2, width=6)) <= grown
        for seed in range(300)
    )


def kept(ranks, tree):
    """Drafts that blocks would keep, one at each of these places."""
    return sum(tuple(row[: len(path)]) == path for row in ranks.tolist() for path in tree.paths)


def test_products_treat_heads_as_independent():
    """The paper's value of a tree is the sum of products of accuracies along its paths."""
    ranks = np.array([[0, 0], [0, 0], [0, 1], [1, 1]])
    tree = TokenTree.of([[0], [1], [0, 0]])

    assert 1 + 0.75 + 0.25 + 0.75 * 0.5 == product_length(rank_shares(ranks), tree)


def test_nodes_end_where_heads_and_ranks_do():
    """One head with three choices has trees of three nodes at most."""
    ranks = np.array([[0], [1], [9]])

    assert ((0,), (1,), (2,)) == growth(ranks, 64, max_rank=3)


def test_ranks_of_nothing_are_no_nodes():
    """Tokens behind an answer's end count for no head."""
    shares = rank_shares(np.array([[0, -1], [1, 0]]), 2)

    assert [[0.5, 0.5], [1.0, 0.0]] == shares.tolist()


def test_scores_without_ranks_are_refused():
    """A draft model's scores make no tree, and the message says which command records ranks."""
    with pytest.raises(InsufficientEvidence, match="heads profile"):
        read_places([make_answer(num_tokens=3)], [draft_scores([0, 1, 1])], np.zeros(1, dtype=int))


def test_a_length_needs_a_block_with_drafts():
    """An answer whose budget leaves no room for drafts has no τ."""
    answer = make_answer(num_tokens=2, budget=2)
    places = read_places([answer], [rank_scores([[-1], [0]])], np.zeros(1, dtype=int))

    with pytest.raises(InsufficientEvidence, match="needs a block with drafts"):
        expected_length(places, TokenTree.chain(1))
