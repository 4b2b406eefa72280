"""Trees of drafts through the real loop, over tables and over tiny models."""

import random
from collections import Counter
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.loop import Decoded, Decoder, Verify
from specmeasure.decode.stopping import Stopping
from specmeasure.records.plan import GREEDY, Sampling
from specmeasure.records.trace import FinishReason
from specmeasure.records.tree import TokenTree
from specmeasure.speculate.proposal import CachedModel, Proposal
from specmeasure.speculate.sampling import sampling_probs
from specmeasure.speculate.verdict import Verdict
from specmeasure.speculate.verify import verify_strictly
from tests.decode import tiny_models
from tests.decode.fake_clock import FakeClock
from tests.decode.table_model import TableModel, random_table
from tests.decode.tree_proposer import BUSHY, TreeProposer
from tests.speculate.tree_oracle import Fault, Tree, walk

CPU = torch.device("cpu")
VOCAB = 6
TREES = {
    "one node": TokenTree.chain(1),
    "chain": TokenTree.chain(4),
    "flat": TokenTree.of([(0,), (1,), (2,)]),
    "bushy": BUSHY,
    "right": TokenTree.of([(0,), (1,), (1, 0), (1, 1), (1, 1, 0)]),
}


class FromTarget:
    """``Proposer`` that asks another copy of the target for the likeliest tokens, now and then."""

    def __init__(self, model: CachedCausalLM, tree: TokenTree) -> None:
        self.model = model
        self.tree = tree
        self.ids: list[int] = []

    def begin(self, prompt_ids) -> None:
        self.ids = list(prompt_ids)

    def commit(self, num_accepted: int, next_token: int) -> None:
        path = self.tokens_kept(num_accepted, next_token)
        self.ids += path

    def tokens_kept(self, num_accepted: int, next_token: int) -> list[int]:
        """The greedy answer itself, read off a plain pass: what a lossless block must have kept."""
        known = list(self.ids)
        while len(known) < len(self.ids) + num_accepted:
            known.append(int(self.logits(known).argmax()))
        return [*known[len(self.ids) :], next_token]

    def propose(self, num_tokens: int) -> Proposal:
        tree = self.tree.down_to(num_tokens)
        if tree is None:
            return Proposal(tokens=torch.empty(0, dtype=torch.int64))
        said: dict[tuple[int, ...], list[int]] = {(): self.ids}
        for path in tree.paths:
            before = said[path[:-1]]
            rank = (path[-1] + len(before)) % 3  # the likeliest is the first child, or a later one
            token = int(self.logits(before).topk(3).indices[rank])
            said[path] = [*before, token]
        tokens = [said[path][-1] for path in tree.paths]
        return Proposal(tokens=torch.tensor(tokens), parents=tree.parents)

    def logits(self, ids: list[int]) -> torch.Tensor:
        return self.model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]


def decode(
    target: CachedModel,
    proposer: TreeProposer | FromTarget | None,
    *,
    num_tokens: int,
    eos_ids: frozenset[int] = frozenset(),
    prompt: tuple[int, ...] = (0, 1),
) -> Decoded:
    decoder = Decoder(
        target=target,
        sampling=GREEDY,
        generator=torch.Generator(),
        clock=FakeClock(),
        device=CPU,
    )
    depth = 0 if proposer is None else proposer.tree.depth
    stopping = Stopping(max_new_tokens=num_tokens, eos_ids=eos_ids, num_speculative_tokens=depth)
    return decoder.decode(proposer, prompt, stopping)


def drafting(table: torch.Tensor, tree: TokenTree) -> TreeProposer:
    return TreeProposer(table.softmax(-1), tree)


@st.composite
def any_tree(draw) -> TokenTree:
    """Grown node by node; never more siblings than there are tokens."""
    paths = [(0,)]
    for _ in range(draw(st.integers(0, 8))):
        parent = draw(st.sampled_from([(), *paths]))
        num_siblings = sum(path[:-1] == parent for path in paths)
        if num_siblings < VOCAB:
            paths.append((*parent, num_siblings))
    return TokenTree.of(paths)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 500),
    st.integers(0, 500),
    any_tree(),
    st.integers(1, 30),
    st.sets(st.integers(0, VOCAB - 1), max_size=2),
)
def test_greedy_trees_change_nothing(target_seed, draft_seed, tree, num_tokens, eos_ids):
    """Any tree, draft, budget and eos: the baseline's tokens, block sums and a settled target."""
    table, eos = random_table(VOCAB, target_seed), frozenset(eos_ids)
    plain = decode(TableModel(table), None, num_tokens=num_tokens, eos_ids=eos)
    for draft in (table, random_table(VOCAB, draft_seed)):
        target = TableModel(table)
        fast = decode(target, drafting(draft, tree), num_tokens=num_tokens, eos_ids=eos)
        accepted = sum(block.num_accepted_tokens for block in fast.blocks)
        truncated = sum(block.truncated for block in fast.blocks)

        assert plain.token_ids == fast.token_ids
        assert plain.finish_reason == fast.finish_reason
        assert len(fast.token_ids) == accepted + len(fast.blocks) - truncated
        assert fast.token_ids == tuple(i for block in fast.blocks for i in block.emitted_ids)
        if not fast.blocks[-1].truncated:
            assert [0, 1, *fast.token_ids[:-1]] == target.read


def test_a_tree_of_chain_shape_is_the_chain():
    """Block by block the same counts, drafts and tokens, whichever way they are handed over."""

    class AsChain(TreeProposer):
        def propose(self, num_tokens: int) -> Proposal:
            return Proposal(tokens=super().propose(num_tokens).tokens)

    table, tree = random_table(VOCAB, 3), TokenTree.chain(3)
    noisy = (table + random_table(VOCAB, 4, spread=0.7)).softmax(-1)
    as_tree, as_chain = (
        decode(TableModel(table), made(noisy, tree), num_tokens=30)
        for made in (TreeProposer, AsChain)
    )

    assert as_chain.token_ids == as_tree.token_ids
    for one, other in zip(as_chain.blocks, as_tree.blocks, strict=True):
        assert one.draft_ids == other.draft_ids
        assert one.num_accepted_tokens == other.num_accepted_tokens
        assert one.most_accepted == other.most_accepted
    assert 1 < sum(block.num_accepted_tokens for block in as_tree.blocks)


def test_the_budget_cuts_the_tree_not_the_block():
    """The last tree is no deeper than what can still be received, and nothing is cut."""
    table = random_table(VOCAB, 1)
    answer = decode(TableModel(table), drafting(table, BUSHY), num_tokens=8)

    assert [0, 8, 6] == [block.num_draft_tokens for block in answer.blocks]
    assert [None, 3, 2] == [block.draft_depth for block in answer.blocks]
    assert [1, 4, 3] == [block.num_emitted_tokens for block in answer.blocks]
    assert FinishReason.BUDGET == answer.finish_reason
    assert not any(block.truncated for block in answer.blocks)


def test_eos_on_the_path_truncates_the_block():
    """What follows an emitted EOS is neither emitted nor counted as accepted."""
    ring = torch.full((VOCAB, VOCAB), -9.0)
    for token in range(VOCAB):
        ring[token, (token + 1) % VOCAB] = 9.0
    answer = decode(
        TableModel(ring),
        drafting(ring, BUSHY),
        num_tokens=20,
        eos_ids=frozenset([4]),
    )
    last = answer.blocks[-1]

    assert (2, 3, 4) == answer.token_ids
    assert (8, 3, 2, 2, True) == (
        last.num_draft_tokens,
        last.draft_depth,
        last.num_accepted_tokens,
        last.num_emitted_tokens,
        last.truncated,
    )


@torch.inference_mode()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("tree", TREES)
def test_trees_over_a_compacted_cache_change_nothing(tree: str, kind: str, attention: str):
    """Greedy tokens are those without drafts; what is remembered is a prefill of the answer."""
    target, judge, oracle = (cached(kind, attention) for _ in range(3))
    shape, prompt = TREES[tree], (5, 9, 3, 7, 11)
    plain = decode(judge, None, num_tokens=24, prompt=prompt)
    fast = decode(target, FromTarget(oracle, shape), num_tokens=24, prompt=prompt)
    judge.reset(rolls_back=False)
    judge.prefill([*prompt, *plain.token_ids[:-1]])

    assert plain.token_ids == fast.token_ids
    assert 0 < sum(block.num_accepted_tokens for block in fast.blocks)
    for expected, own in zip(judge._cache.layers, target._cache.layers, strict=True):
        assert torch.allclose(expected.keys, own.keys, atol=1e-4)
        assert torch.allclose(expected.values, own.values, atol=1e-4)


def cached(kind: str, attention: str) -> CachedCausalLM:
    model = getattr(tiny_models, kind)()
    model.set_attn_implementation(attention)
    return CachedCausalLM(model, vocab_size=tiny_models.VOCAB)


LENGTH, NUM_SAMPLES, ALPHA = 3, 3_000, 1e-3
SMALL, PLAIN = 3, Sampling(temperature=1.0)
TARGET, DRAFT = random_table(SMALL, 1), random_table(SMALL, 2, spread=1.0)
PAIRS = TokenTree.of([(0,), (1,), (0, 0), (0, 1), (1, 0)])


def with_fault(fault: Fault) -> Verify:
    """The oracle's rule in the loop's place, its fault planted."""
    rng = random.Random(9)

    def verify(
        proposal: Proposal, logits: torch.Tensor, sampling: Sampling, *, generator: torch.Generator
    ) -> Verdict:
        if proposal.parents is None:
            return verify_strictly(proposal, logits, sampling, generator=generator)
        drafts = proposal.tokens.tolist()
        laws = None if proposal.probs is None else proposal.probs.tolist()
        rows = sampling_probs(logits, sampling).tolist()
        path, token = walk(Tree(drafts, proposal.parents, laws, rows), rng, fault)
        return Verdict(
            num_accepted=len(path), next_token=token, draft_tokens=tuple(drafts), path=tuple(path)
        )

    return verify


def p_of_answers(verify: Verify, *, draws: bool) -> float:
    """Chi-square of answers of four tokens, the first of which is the prefill's."""
    source = torch.Generator().manual_seed(3)
    target, draft = (sampling_probs(table, PLAIN) for table in (TARGET, DRAFT))
    decoder = Decoder(
        target=TableModel(TARGET),
        sampling=PLAIN,
        generator=source,
        clock=FakeClock(),
        device=CPU,
        verify=verify,
    )
    proposer = TreeProposer(draft, PAIRS, generator=source if draws else None)
    stopping = Stopping(max_new_tokens=LENGTH + 1, eos_ids=frozenset(), num_speculative_tokens=2)
    counts = Counter(decoder.decode(proposer, [0], stopping).token_ids for _ in range(NUM_SAMPLES))
    step = target.double().tolist()
    law = {
        answer: step[0][answer[0]]
        * step[answer[0]][answer[1]]
        * step[answer[1]][answer[2]]
        * step[answer[2]][answer[3]]
        for answer in product(range(SMALL), repeat=LENGTH + 1)
    }
    scale = NUM_SAMPLES / sum(law.values())
    observed = [counts[answer] for answer in law]
    return float(stats.chisquare(observed, [scale * chance for chance in law.values()]).pvalue)


@pytest.mark.slow
@pytest.mark.parametrize("siblings", ["ranked", "drawn"])
def test_sampled_answers_follow_the_target(siblings: str):
    """Joint law of four tokens through loop, proposer and verifier; see tests/speculate too."""
    assert ALPHA < p_of_answers(verify_strictly, draws=siblings == "drawn")


@pytest.mark.slow
@pytest.mark.parametrize("siblings", ["ranked", "drawn"])
def test_a_broken_verifier_is_caught(siblings: str):
    """The same test at the same size sees one that forgets the siblings it rejected."""
    assert ALPHA > p_of_answers(with_fault(Fault.FORGETS_SIBLINGS), draws=siblings == "drawn")
