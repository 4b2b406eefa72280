"""Sampled output with heads has the target's distribution: 200,000 samples, by chi-square.

All sequences of three tokens over six ids (216 cells): a block of the real proposer and the real
verifier, run for all samples at once, with plain draws behind it; then the loop as it is, with
fewer samples. Siblings that claim the law of draws with replacement are rejected by the same test.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations, product

import pytest
import torch
from scipy import stats
from torch import Tensor

from specmeasure.decode.loop import Decoder
from specmeasure.decode.stopping import Stopping
from specmeasure.proposers.medusa import MedusaProposer
from specmeasure.records.plan import GREEDY, Sampling
from specmeasure.records.tree import TokenTree
from specmeasure.speculate import tree as tree_rules
from specmeasure.speculate.proposal import Proposal
from specmeasure.speculate.sampling import draw, sampling_probs
from specmeasure.speculate.verify import verify_rejection
from tests.decode.fake_clock import FakeClock
from tests.decode.table_model import random_table
from tests.decode.tree_proposer import BUSHY
from tests.proposers.stated_table import StatedTable, table_heads

pytestmark = pytest.mark.slow
VOCAB, LENGTH, NUM_SAMPLES, NUM_LOOPS, ALPHA = 6, 3, 200_000, 4_000, 1e-3
BEFORE, LAST = 4, 2  # what the target has read, and the token that it emitted then
TARGET = random_table(VOCAB, 0, spread=1.0)
TABLES = tuple(random_table(VOCAB, seed, spread=1.0) for seed in (1, 2, 3))
TABLES[0][BEFORE] += TARGET[LAST]  # so that drafts are kept
PLAIN, NUCLEUS = Sampling(temperature=1.0), Sampling(temperature=0.8, top_p=0.8)
NARROW = Sampling(temperature=1.0, top_k=2)  # BUSHY has three siblings
FLAT = TokenTree.of([(0,), (1,), (2,)])
Change = Callable[[Proposal, Tensor], Proposal]


class Batched:
    """A target whose state is set from outside."""

    last_state = torch.eye(VOCAB)[BEFORE]


def medusa(target, sampling: Sampling, tree: TokenTree | None) -> MedusaProposer:
    generator = torch.Generator().manual_seed(11)
    return MedusaProposer(table_heads(*TABLES), target, sampling, tree=tree, generator=generator)


def drafted(sampling: Sampling, tree: TokenTree | None, number: int) -> tuple[Tensor, Tensor]:
    """Drafts [B, N] and their laws [B, N, V]."""
    target = Batched()
    one = medusa(target, sampling, tree)

    def propose(state: Tensor) -> tuple[Tensor, Tensor]:
        target.last_state = state
        proposal = one.propose(LENGTH)
        return proposal.tokens, proposal.probs

    states = torch.eye(VOCAB)[BEFORE].expand(number, -1)
    with torch.inference_mode():
        return torch.vmap(propose, randomness="different")(states)


def as_it_is(proposal: Proposal, _: Tensor) -> Proposal:
    return proposal


def with_replacement(proposal: Proposal, heads_laws: Tensor) -> Proposal:
    """A fault: the siblings' laws still hold what stands already."""
    return replace(proposal, probs=heads_laws)


def emitted_by_trees(
    sampling: Sampling, drafts: Sampling, tree: TokenTree, change: Change = as_it_is
) -> Tensor:
    """Sequences [B, 1 + depth], -1 where a block emitted less."""
    source = torch.Generator().manual_seed(5)
    target, rows = Batched(), sampling_probs(TARGET, sampling)
    one = medusa(target, drafts, tree)
    own = sampling_probs(torch.stack([table[BEFORE] for table in TABLES]), PLAIN)
    laws = own[[len(path) - 1 for path in tree.paths]]

    def block(state: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        target.last_state = state
        proposal = change(one.propose(LENGTH), laws)
        judged = rows[torch.cat([torch.tensor([LAST]), proposal.tokens])]
        return tree_rules._descend(proposal, judged, generator=source), proposal.tokens

    states = torch.eye(VOCAB)[BEFORE].expand(NUM_SAMPLES, -1)
    copies = rows.expand(NUM_SAMPLES, -1, -1)
    with torch.inference_mode():
        found, tokens = torch.vmap(block, randomness="different")(states, copies)
    steps = found[:, 1:]
    before = torch.nn.functional.pad(steps, (1, 0))[:, :-1]
    num_kept = (steps != before).sum(1, keepdim=True)  # a row that repeats itself is no step
    kept = torch.cat([tokens.gather(1, (steps - 1).clamp_min(0)), found[:, :1]], dim=1)
    places = torch.arange(kept.shape[1])
    return torch.where(places == num_kept, found[:, :1], kept).masked_fill(places > num_kept, -1)


def emitted_by_chains(sampling: Sampling) -> Tensor:
    """The same, with every chain verified on its own."""
    source, rows = torch.Generator().manual_seed(5), sampling_probs(TARGET, sampling)
    found = []
    for drafts, law in zip(*drafted(sampling, None, NUM_SAMPLES), strict=True):
        judged = rows[torch.cat([torch.tensor([LAST]), drafts])]
        tokens = verify_rejection(drafts, law, judged, generator=source).tokens
        found.append([*tokens, *[-1] * (LENGTH + 1 - len(tokens))])
    return torch.tensor(found)


def p_value(emitted: Tensor, sampling: Sampling) -> float:
    """Of three tokens, plain draws behind what a block emitted; p = 0 outside the target's law."""
    source, step = torch.Generator().manual_seed(6), sampling_probs(TARGET, sampling)
    number, last = torch.zeros(len(emitted), dtype=torch.int64), torch.full((len(emitted),), LAST)
    emitted = torch.nn.functional.pad(emitted, (0, LENGTH), value=-1)
    for place in range(LENGTH):
        drawn = draw(step[last], generator=source)
        last = torch.where(emitted[:, place] < 0, drawn, emitted[:, place])
        number = VOCAB * number + last
    counts = dict(enumerate(torch.bincount(number, minlength=VOCAB**LENGTH).tolist()))
    cells = [sum(t * VOCAB**p for p, t in enumerate(one[::-1])) for one in sequences()]
    return p_of(counts, dict(zip(cells, chances(step.double()), strict=True)))


def sequences() -> list[tuple[int, ...]]:
    return list(product(range(VOCAB), repeat=LENGTH))


def chances(step: Tensor) -> list[float]:
    return [
        float(torch.stack([step[a, b] for a, b in zip((LAST, *one), one, strict=False)]).prod())
        for one in sequences()
    ]


def p_of(counts: dict, law: dict) -> float:
    """Chi-square over the law's cells that can occur; a sample outside them has p = 0."""
    possible = {cell: chance for cell, chance in law.items() if chance > 0}
    if any(number and cell not in possible for cell, number in counts.items()):
        return 0.0
    observed = [counts.get(cell, 0) for cell in possible]
    scale = sum(observed) / sum(possible.values())
    return float(stats.chisquare(observed, [scale * one for one in possible.values()]).pvalue)


@pytest.mark.parametrize("sampling", [PLAIN, NUCLEUS, NARROW], ids=str)
@pytest.mark.parametrize("siblings", ["drawn", "ranked"])
@pytest.mark.parametrize("tree", [TokenTree.chain(3), FLAT, BUSHY], ids=["chain", "flat", "bushy"])
def test_emitted_tokens_follow_the_target(tree: TokenTree, siblings: str, sampling: Sampling):
    """Joint law of three tokens, for siblings without replacement and for point masses."""
    emitted = emitted_by_trees(sampling, sampling if siblings == "drawn" else GREEDY, tree)

    assert (emitted[:, 1] >= 0).float().mean() > 0.1  # drafts were kept
    assert ALPHA < p_value(emitted, sampling)


@pytest.mark.parametrize("sampling", [PLAIN, NUCLEUS], ids=str)
def test_emitted_tokens_of_chains_follow_the_target(sampling: Sampling):
    """Joint law of three tokens, through the chains' own rule."""
    assert ALPHA < p_value(emitted_by_chains(sampling), sampling)


def test_siblings_with_a_wrong_law_are_rejected():
    """The same test sees siblings that claim to be drawn with replacement."""
    emitted = emitted_by_trees(PLAIN, PLAIN, FLAT, with_replacement)

    assert ALPHA > p_value(emitted, PLAIN)


@pytest.mark.parametrize("tree", [None, BUSHY], ids=["chain", "bushy"])
def test_the_loop_emits_the_targets_law(tree: TokenTree | None):
    """Block after block, each drafted from the state that the one before left."""
    target = StatedTable(TARGET)
    one = medusa(target, NUCLEUS, tree)
    decoder = Decoder(
        target=target,
        sampling=NUCLEUS,
        generator=torch.Generator().manual_seed(8),
        clock=FakeClock(),
        device=torch.device("cpu"),
    )
    stopping = Stopping(max_new_tokens=LENGTH, eos_ids=frozenset(), num_speculative_tokens=3)
    counts = Counter(
        decoder.decode(one, [BEFORE, LAST], stopping).token_ids for _ in range(NUM_LOOPS)
    )
    step = sampling_probs(TARGET, NUCLEUS).double()

    assert ALPHA < p_of(counts, dict(zip(sequences(), chances(step), strict=True)))


def test_siblings_follow_the_law_of_draws_without_replacement():
    """All ordered triples of six tokens, by enumeration: q(a) · q(b)/(1 − q(a)) · …"""
    q = sampling_probs(TABLES[0][BEFORE][None], PLAIN)[0].double().tolist()
    tokens, _ = drafted(PLAIN, FLAT, NUM_SAMPLES)
    law = {
        (a, b, c): q[a] * q[b] / (1 - q[a]) * q[c] / (1 - q[a] - q[b])
        for a, b, c in permutations(range(VOCAB), 3)
    }

    assert ALPHA < p_of(Counter(map(tuple, tokens.tolist())), law)


def test_children_of_different_parents_are_drawn_apart():
    """The joint law of two parents' first children is the product of the head's law."""
    q = sampling_probs(TABLES[1][BEFORE][None], PLAIN)[0].double().tolist()
    tokens, _ = drafted(PLAIN, TokenTree.of([(0,), (1,), (0, 0), (1, 0)]), NUM_SAMPLES)
    law = {(a, b): q[a] * q[b] for a in range(VOCAB) for b in range(VOCAB)}

    assert ALPHA < p_of(Counter(map(tuple, tokens[:, 2:].tolist())), law)
