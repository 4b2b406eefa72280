"""Trees of drafts: the greedy path, and laws of what is emitted.

Laws: a block, and plain draws behind it, up to three tokens over four ids (64 cells), 200,000
samples, chi-square at alpha = 1e-3. The same test with a quarter of the samples rejects every fault
of ``tree_oracle``.
"""

import random
from collections import Counter
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from specmeasure.errors import BrokenLogits
from specmeasure.records.plan import GREEDY, Sampling
from specmeasure.records.tree import TokenTree
from specmeasure.speculate import tree as tree_rules
from specmeasure.speculate.proposal import Proposal
from specmeasure.speculate.sampling import draw, sampling_probs
from specmeasure.speculate.tree import verify_tree_greedy, verify_tree_rejection
from specmeasure.speculate.verify import verify_greedy, verify_rejection, verify_strictly
from tests.decode.table_model import random_table
from tests.decode.tree_proposer import BUSHY, drawn_tree, ranked_tree
from tests.speculate.tree_oracle import Fault, Tree, walk

VOCAB, LENGTH, NUM_SAMPLES, ALPHA = 4, 3, 200_000, 1e-3
ROOT = torch.tensor([2])
TARGET, DRAFT = random_table(VOCAB, 1, spread=1.0), random_table(VOCAB, 2, spread=2.0)
PLAIN, NUCLEUS = Sampling(temperature=1.0), Sampling(temperature=0.8, top_p=0.8)
FLAT = TokenTree.of([(0,), (1,)])
RANKED, DRAWN = "ranked", "drawn"
BOTH_WAYS = pytest.mark.parametrize("siblings", [RANKED, DRAWN])
PARENTS = (-1, -1, 0, 0, 1, 3)
DRAFTS = torch.tensor([10, 11, 20, 21, 22, 30])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def greedy(*target_tokens: int):
    return verify_tree_greedy(DRAFTS, PARENTS, torch.tensor(target_tokens))


@pytest.mark.parametrize(
    ("target_tokens", "path", "tokens"),
    [
        ((9, 0, 0, 0, 0, 0, 0), (), (9,)),  # no child of the root
        ((11, 0, 20, 0, 0, 0, 0), (1,), (11, 20)),  # 20 is a child of another node
        ((10, 21, 0, 0, 5, 0, 0), (0, 3), (10, 21, 5)),  # the second sibling, then a rejection
        ((10, 21, 0, 0, 30, 0, 7), (0, 3, 5), (10, 21, 30, 7)),  # down to a leaf, and a bonus
        ((11, 0, 22, 0, 0, 6, 0), (1, 4), (11, 22, 6)),
    ],
)
def test_the_greedy_path_is_kept(target_tokens, path, tokens):
    """From each kept node to the child that is the target's argmax, then the argmax itself."""
    verdict = greedy(*target_tokens)

    assert (path, tokens) == (verdict.path, verdict.tokens)
    assert len(path) == verdict.num_accepted
    assert tuple(DRAFTS.tolist()) == verdict.draft_tokens


def test_nan_off_the_path_does_not_matter():
    """Only rows that are used can break a block."""
    assert (10, 4) == greedy(10, 4, -1, -1, -1, -1, -1).tokens
    with pytest.raises(BrokenLogits, match="the target's"):
        greedy(10, -1, 0, 0, 0, 0, 0)


@given(st.integers(0, 10_000), st.integers(0, 5))
def test_a_chain_is_verified_as_a_chain(seed: int, num_drafts: int):
    """A tree without siblings gives what the chain's rule gives, greedily token by token."""
    source = generator(seed)
    drafts = torch.randint(2, (num_drafts,), generator=source)
    targets = torch.randint(2, (num_drafts + 1,), generator=source)
    chain, tree = (
        verify_greedy(drafts, targets),
        verify_tree_greedy(drafts, range(-1, num_drafts - 1), targets),
    )

    assert (chain.num_accepted, chain.tokens) == (tree.num_accepted, tree.tokens)
    assert tuple(range(chain.num_accepted)) == tree.path


def exact_law(sampling: Sampling) -> dict[int, float]:
    """The chance of every sequence of three tokens, by its number in base four."""
    step = sampling_probs(TARGET, sampling).double()
    law = {}
    for number, sequence in enumerate(product(range(VOCAB), repeat=LENGTH)):
        chance, last = 1.0, int(ROOT)
        for token in sequence:
            chance *= float(step[last, token])
            last = token
        law[number] = chance
    return law


def p_value(numbers: Tensor, sampling: Sampling) -> float:
    """Chi-square of sequences [B] over the cells that can occur; a sample outside has p = 0."""
    law = exact_law(sampling)
    counts = torch.bincount(numbers, minlength=len(law)).tolist()
    if any(counts[cell] for cell, chance in law.items() if chance == 0):
        return 0.0
    cells = [cell for cell, chance in law.items() if chance > 0]
    expected = np.array([law[cell] for cell in cells])
    expected *= len(numbers) / expected.sum()
    return float(stats.chisquare([counts[cell] for cell in cells], expected).pvalue)


def in_full(emitted: Tensor, step: Tensor, source: torch.Generator) -> Tensor:
    """Sequences [B, *], -1 where a block emitted less, with plain draws behind, as numbers [B]."""
    number, last = torch.zeros(len(emitted), dtype=torch.int64), ROOT.expand(len(emitted))
    emitted = torch.nn.functional.pad(emitted, (0, LENGTH), value=-1)
    for place in range(LENGTH):
        drawn = draw(step[last], generator=source)
        last = torch.where(emitted[:, place] < 0, drawn, emitted[:, place])
        number = VOCAB * number + last
    return number


def sampled(shape: TokenTree, *, siblings: str, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Sequences [B] and the rows [B, depth] that blocks went through, by the tensor core."""
    source = generator(5)
    target, draft = (sampling_probs(table, sampling) for table in (TARGET, DRAFT))
    ranked = ranked_tree(draft, shape, ROOT)

    def block(target: Tensor, draft: Tensor) -> tuple[Tensor, Tensor]:
        proposal = drawn_tree(draft, shape, ROOT, generator=source) if siblings == DRAWN else ranked
        rows = target[torch.cat([ROOT, proposal.tokens])]
        return tree_rules._descend(proposal, rows, generator=source), proposal.tokens

    copies = [table.expand(NUM_SAMPLES, -1, -1) for table in (target, draft)]
    found, tokens = torch.vmap(block, randomness="different")(*copies)
    rows = found[:, 1:]
    emitted = torch.cat([tokens.gather(1, (rows - 1).clamp_min(0)), found[:, :1]], dim=1)
    before = torch.nn.functional.pad(rows, (1, 0))[:, :-1]
    num_kept = (rows != before).sum(1)  # a row that repeats itself is no step
    places = torch.arange(emitted.shape[1])
    emitted = torch.where(places == num_kept[:, None], found[:, :1], emitted)
    emitted = emitted.masked_fill(places > num_kept[:, None], -1)
    return in_full(emitted, target, source), rows


@pytest.mark.slow
@BOTH_WAYS
@pytest.mark.parametrize("shape", [FLAT, BUSHY], ids=["flat", "bushy"])
@pytest.mark.parametrize("sampling", [PLAIN, NUCLEUS], ids=str)
def test_emitted_tokens_follow_the_target(shape: TokenTree, siblings: str, sampling: Sampling):
    """Joint law of three tokens, for point masses and for siblings without replacement."""
    numbers, _ = sampled(shape, siblings=siblings, sampling=sampling)

    assert ALPHA < p_value(numbers, sampling)


def walked(
    shape: TokenTree, *, siblings: str, sampling: Sampling, fault: Fault | None, num_samples: int
) -> tuple[Tensor, Counter[int]]:
    """Sequences [B] by the oracle, and how often each node was the last one kept."""
    source, rng = generator(6), random.Random(6)
    target, draft = (sampling_probs(table, sampling) for table in (TARGET, DRAFT))

    def drafting(draft: Tensor) -> tuple[Tensor, Tensor]:
        proposal = drawn_tree(draft, shape, ROOT, generator=source)
        return proposal.tokens, proposal.probs

    if siblings == DRAWN:
        copies = draft.expand(num_samples, -1, -1)
        trees = torch.vmap(drafting, randomness="different")(copies)
        tokens, laws = (one.tolist() for one in trees)
    else:
        tokens = [ranked_tree(draft, shape, ROOT).tokens.tolist()] * num_samples
        laws = [None] * num_samples
    rows = target.tolist()
    last_kept: Counter[int] = Counter()
    emitted = []
    for drafts, law in zip(tokens, laws, strict=True):
        target_laws = [rows[token] for token in (int(ROOT), *drafts)]
        path, own = walk(Tree(drafts, shape.parents, law, target_laws), rng, fault)
        last_kept[path[-1] if path else -1] += 1
        said = [*(drafts[node] for node in path), own]
        emitted.append([*said, *[-1] * (shape.depth + 1 - len(said))])
    return in_full(torch.tensor(emitted), target, source), last_kept


@pytest.mark.slow
@BOTH_WAYS
@pytest.mark.parametrize("fault", Fault)
def test_a_broken_verifier_is_rejected(siblings: str, fault: Fault):
    """The same test, on a quarter of the samples, sees every planted fault."""
    numbers, _ = walked(
        FLAT, siblings=siblings, sampling=PLAIN, fault=fault, num_samples=NUM_SAMPLES // 4
    )

    assert ALPHA > p_value(numbers, PLAIN)


@pytest.mark.slow
@BOTH_WAYS
def test_paths_are_kept_as_often_as_by_the_book(siblings: str):
    """Where blocks end agrees with the rule in plain arithmetic: χ² over the tree's nodes."""
    _, rows = sampled(BUSHY, siblings=siblings, sampling=PLAIN)
    own = torch.bincount(rows[:, -1], minlength=BUSHY.num_nodes + 1).tolist()
    _, last_kept = walked(BUSHY, siblings=siblings, sampling=PLAIN, fault=None, num_samples=20_000)
    by_the_book = [last_kept[node] for node in range(-1, BUSHY.num_nodes)]

    assert ALPHA < stats.chi2_contingency([own, by_the_book]).pvalue


@pytest.mark.slow
def test_a_chain_keeps_as_often_as_the_chains_rule():
    """A tree without siblings, drawn: the number of kept drafts has the chain rule's law."""
    shape, source = TokenTree.chain(2), generator(7)
    target, draft = (sampling_probs(table, PLAIN) for table in (TARGET, DRAFT))
    _, rows = sampled(shape, siblings=DRAWN, sampling=PLAIN)
    as_tree = torch.bincount(rows[:, -1])  # of a chain the last kept node's row is their number
    kept = Counter()
    for _ in range(5_000):
        proposal = drawn_tree(draft, shape, ROOT, generator=source)
        rows_of = target[torch.cat([ROOT, proposal.tokens])]
        verdict = verify_rejection(proposal.tokens, proposal.probs, rows_of, generator=source)
        kept[verdict.num_accepted] += 1

    assert ALPHA < stats.chi2_contingency([as_tree.tolist(), [kept[i] for i in range(3)]]).pvalue


@BOTH_WAYS
def test_the_verdict_is_what_the_core_found(siblings: str):
    """Path, tokens and the target's own token, for one proposal and one generator."""
    target, draft = (sampling_probs(table, PLAIN) for table in (TARGET, DRAFT))
    lengths = set()
    for seed in range(100):
        proposal = (
            drawn_tree(draft, BUSHY, ROOT, generator=generator(seed))
            if siblings == DRAWN
            else ranked_tree(draft, BUSHY, ROOT)
        )
        rows = target[torch.cat([ROOT, proposal.tokens])]
        verdict = verify_tree_rejection(proposal, rows, generator=generator(seed))
        own, *went = tree_rules._descend(proposal, rows, generator=generator(seed)).tolist()

        assert own == verdict.next_token
        assert {row - 1 for row in went if row} == set(verdict.path)
        for parent, node in zip((-1, *verdict.path), verdict.path, strict=False):
            assert parent == BUSHY.parents[node]
        lengths.add(verdict.num_accepted)
    assert {0, 1, 2} <= lengths


def test_siblings_of_equal_laws_are_all_kept_at_once():
    """A draft that is the target has its first child kept, always."""
    step = sampling_probs(TARGET, PLAIN)
    for seed in range(50):
        proposal = drawn_tree(step, BUSHY, ROOT, generator=generator(seed))
        rows = step[torch.cat([ROOT, proposal.tokens])]
        verdict = verify_tree_rejection(proposal, rows, generator=generator(seed))

        assert (0, 3, 6) == verdict.path


def test_a_residual_of_zeros_is_not_taken():
    """Laws that leave nothing by rounding: the next sibling is judged, and a token is drawn."""
    target = torch.tensor([[0.3, 0.7, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    stacked_against = torch.tensor([[0.3000001, 0.7000001, 0.0], [0.0, 1.0, 0.0]])
    proposal = Proposal(tokens=torch.tensor([0, 1]), probs=stacked_against, parents=(-1, -1))
    seen = {
        verify_tree_rejection(proposal, target, generator=generator(seed)).tokens
        for seed in range(200)
    }

    assert seen <= {(0, 0), (1, 1), (0,), (1,)}


@pytest.mark.parametrize("law", [None, torch.tensor([[1.0, 0.0], [0.0, 1.0]])], ids=["point", "q"])
def test_an_impossible_draft_is_never_kept(law: Tensor | None):
    """A draft that the target gives no chance is passed over for its sibling."""
    target = torch.tensor([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    proposal = Proposal(tokens=torch.tensor([0, 1]), probs=law, parents=(-1, -1))
    verdicts = [verify_tree_rejection(proposal, target, generator=generator(s)) for s in range(50)]

    assert {((1,), 0)} == {(one.path, one.next_token) for one in verdicts}


@pytest.mark.parametrize("sampling", [GREEDY, PLAIN], ids=str)
def test_a_tree_of_nothing_is_plain_decoding(sampling: Sampling):
    """No node, one row: the target's own token."""
    nothing = Proposal(tokens=torch.empty(0, dtype=torch.int64), parents=())
    verdict = verify_strictly(nothing, torch.eye(3)[:1] * 50, sampling, generator=generator())

    assert ((0,), ()) == (verdict.tokens, verdict.path)


@pytest.mark.parametrize("sampling", [GREEDY, PLAIN], ids=str)
@BOTH_WAYS
def test_nan_is_refused_where_it_would_speak(sampling: Sampling, siblings: str):
    """The target's NaN never becomes a token, and a mark of the draft's is named."""
    logits = torch.zeros(3, 2)
    logits[:, 1] = 50
    law = torch.tensor([[0.0, 1.0], [1.0, 0.0]]) if siblings == DRAWN else None
    verify = partial(verify_strictly, sampling=sampling, generator=generator())
    tree = Proposal(tokens=torch.tensor([1, 0]), probs=law, parents=(-1, -1))
    unused = logits.index_fill(0, torch.tensor([2]), torch.nan)

    assert (1, 1) == verify(tree, unused).tokens
    for row in (0, 1):
        with pytest.raises(BrokenLogits, match="target's"):
            verify(tree, logits.index_fill(0, torch.tensor([row]), torch.nan))
    broken = Proposal(tokens=torch.tensor([-1, 0]), probs=law, parents=(-1, -1))
    with pytest.raises(BrokenLogits, match="draft's"):
        verify(broken, logits)
