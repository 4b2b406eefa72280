"""What heads draft: choices, laws of siblings, and the shapes that budgets cut.

Laws of what is emitted stand in ``test_medusa_distribution``.
"""

import pytest
import torch
from torch import Tensor

from specmeasure.decode.loop import Decoder
from specmeasure.decode.stopping import Stopping
from specmeasure.proposers.medusa import MedusaProposer, likeliest_tokens
from specmeasure.records.medusa_tree import PAPER_TREE
from specmeasure.records.plan import GREEDY, Sampling
from specmeasure.records.tree import TokenTree
from specmeasure.speculate.sampling import NOT_A_TOKEN, sampling_probs
from tests.decode.fake_clock import FakeClock
from tests.decode.table_model import random_table
from tests.decode.tree_proposer import BUSHY
from tests.proposers.stated_table import StatedTable, table_heads

VOCAB = 6
TABLES = tuple(random_table(VOCAB, seed) for seed in (1, 2, 3))
LAST = 4  # the last token that the target remembers
PLAIN = Sampling(temperature=1.0)
FLAT = TokenTree.of([(0,), (1,), (2,)])
TREES = pytest.mark.parametrize(
    "tree", [None, TokenTree.chain(3), FLAT, BUSHY], ids=["chain", "chain tree", "flat", "bushy"]
)


def proposer(
    sampling: Sampling = GREEDY, tree: TokenTree | None = None, tables: tuple[Tensor, ...] = TABLES
) -> MedusaProposer:
    target = StatedTable(random_table(VOCAB, 0))
    target.prefill([0, LAST])
    generator = torch.Generator().manual_seed(7)
    return MedusaProposer(table_heads(*tables), target, sampling, tree=tree, generator=generator)


def laws(sampling: Sampling) -> Tensor:
    """Each head's, [H, V]."""
    return sampling_probs(torch.stack([table[LAST] for table in TABLES]), sampling)


def test_a_greedy_chain_is_each_heads_likeliest_token():
    """No more of them than heads, all point masses."""
    proposal = proposer().propose(8)

    assert [int(table[LAST].argmax()) for table in TABLES] == proposal.tokens.tolist()
    assert (None, None) == (proposal.probs, proposal.parents)


def test_a_greedy_trees_nodes_are_choices_by_rank():
    """The child of rank r at depth d is the r-th choice of head d, whatever its parent is."""
    proposal = proposer(tree=BUSHY).propose(8)
    order = [table[LAST].argsort(descending=True).tolist() for table in TABLES]

    assert [order[len(path) - 1][path[-1]] for path in BUSHY.paths] == proposal.tokens.tolist()
    assert BUSHY.parents == proposal.parents


@pytest.mark.parametrize("sampling", [GREEDY, PLAIN], ids=str)
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_a_budget_cuts_a_tree_to_its_depth(sampling: Sampling, depth: int):
    """What is left is a tree, and a chain is cut alike."""
    tree, chain = proposer(sampling, BUSHY).propose(depth), proposer(sampling).propose(depth)
    cut = BUSHY.down_to(depth)

    assert (cut.num_nodes if cut else 0) == tree.num_tokens
    assert depth == tree.depth == chain.depth


def test_only_the_heads_that_are_needed_are_computed():
    """A budget of one draft costs one head."""
    one = proposer(tree=BUSHY)
    called = []
    for place, matrix in enumerate(one._heads.lm_heads):
        matrix.register_forward_hook(lambda *_, place=place: called.append(place))

    one.propose(2)

    assert [0, 1] == called


@pytest.mark.parametrize("sampling", [GREEDY, PLAIN], ids=str)
def test_a_chain_is_a_tree_without_siblings(sampling: Sampling):
    """The same drafts and the same laws at the same seed."""
    chain = proposer(sampling).propose(3)
    tree = proposer(sampling, TokenTree.chain(3)).propose(3)

    assert chain.tokens.tolist() == tree.tokens.tolist()
    assert (-1, 0, 1) == tree.parents
    if sampling is PLAIN:
        torch.testing.assert_close(tree.probs, chain.probs)


def test_a_greedy_chain_is_the_first_path_of_every_greedy_tree():
    """So that a tree keeps at least what a chain of its depth keeps."""
    chain, tree = proposer().propose(3), proposer(tree=BUSHY).propose(3)
    firsts = [BUSHY.paths.index((0,) * depth) for depth in (1, 2, 3)]

    assert chain.tokens.tolist() == tree.tokens[firsts].tolist()


@pytest.mark.parametrize("number", [1, 2, 5])
def test_equal_logits_stand_in_the_order_of_their_ids(number: int):
    """Negative, zero of either sign and positive ones, in half precision as well."""
    logits = torch.tensor([[-1.0, 2.0, -0.0, 2.0, 0.0], [-2.0, -3.0, -2.0, -3.0, -2.0]])
    order = [[1, 3, 2, 4, 0], [0, 2, 4, 1, 3]]

    for dtype in (torch.float32, torch.bfloat16):
        assert [row[:number] for row in order] == likeliest_tokens(
            logits.to(dtype), number
        ).tolist()


@pytest.mark.parametrize("tree", [None, FLAT], ids=["chain", "tree"])
@pytest.mark.parametrize("sampling", [GREEDY, PLAIN], ids=str)
def test_nan_is_no_token(sampling: Sampling, tree: TokenTree | None):
    """Of the head whose logits hold it; the verifier tells the user."""
    broken = TABLES[0].clone()
    broken[LAST, 3] = torch.nan
    proposal = proposer(sampling, tree, (broken, *TABLES[1:])).propose(3)

    assert {NOT_A_TOKEN} == set(proposal.tokens[: 1 if tree is None else None].tolist())
    assert tree is not None or min(proposal.tokens[1:].tolist()) >= 0


def test_each_sampled_draft_has_its_law_without_earlier_siblings():
    """Taken out and renormalised, node by node; a chance of 0 for what stands already."""
    one = proposer(PLAIN, BUSHY)
    for _ in range(50):
        proposal = one.propose(3)
        for node, path in enumerate(BUSHY.paths):
            law = laws(PLAIN)[len(path) - 1].clone()
            for rank in range(path[-1]):
                law[proposal.tokens[BUSHY.paths.index((*path[:-1], rank))]] = 0.0
            torch.testing.assert_close(law / law.sum(), proposal.probs[node])


def test_siblings_beyond_the_tokens_with_a_chance_are_point_masses():
    """At top-k 2 the third and fourth are the next likeliest: the tree keeps its shape."""
    tree = TokenTree.of([(0,), (1,), (2,), (3,), (3, 0)])
    proposal = proposer(Sampling(temperature=1.0, top_k=2), tree).propose(2)
    order = TABLES[0][LAST].argsort(descending=True)

    assert tree.parents == proposal.parents
    assert set(order[:2].tolist()) == set(proposal.tokens[:2].tolist())
    assert order[2:4].tolist() == proposal.tokens[2:4].tolist()
    torch.testing.assert_close(torch.eye(VOCAB)[proposal.tokens[1:4]], proposal.probs[1:4])


def test_more_siblings_than_tokens_are_refused():
    """A tree for real vocabularies on a toy one."""
    with pytest.raises(ValueError, match="more siblings than the 6 tokens"):
        proposer(tree=PAPER_TREE)


@TREES
@pytest.mark.parametrize("sampling", [GREEDY, PLAIN], ids=str)
def test_greedy_answers_are_the_targets_own(tree: TokenTree | None, sampling: Sampling):
    """Whatever the heads know; those that know the target get tokens accepted."""
    table = random_table(VOCAB, 0)
    after = table.argmax(-1)  # of each token, what the target says next
    knowing = tuple(table[following] for following in (after, after[after], after[after[after]]))
    for tables in (TABLES, knowing):
        target = StatedTable(table)
        generator = torch.Generator().manual_seed(3)
        drafting = MedusaProposer(
            table_heads(*tables), target, sampling, tree=tree, generator=generator
        )
        decoder = Decoder(
            target=target,
            sampling=GREEDY,
            generator=generator,
            clock=FakeClock(),
            device=torch.device("cpu"),
        )
        depth = 3 if tree is None else tree.depth
        stopping = Stopping(max_new_tokens=16, eos_ids=frozenset(), num_speculative_tokens=depth)
        plain = decoder.decode(None, [0, LAST], stopping)
        found = decoder.decode(drafting, [0, LAST], stopping)

        assert plain.token_ids == found.token_ids
        if tables is knowing and sampling is GREEDY:
            assert [depth] == list({block.num_accepted_tokens for block in found.blocks[1:-1]})
