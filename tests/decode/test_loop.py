import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specmeasure.decode.loop import Decoded, Decoder
from specmeasure.decode.stopping import Stopping
from specmeasure.proposers.draft_model import DraftModelProposer
from specmeasure.proposers.ngram import NgramProposer
from specmeasure.records.plan import Sampling
from specmeasure.records.trace import FinishReason
from specmeasure.speculate.proposal import Proposer
from tests.decode.fake_clock import FakeClock
from tests.decode.table_model import TableModel, random_table

CPU = torch.device("cpu")
VOCAB = 6


def greedy_answer(
    target: TableModel,
    proposer: Proposer | None,
    *,
    num_tokens: int,
    eos_ids: frozenset[int] = frozenset(),
    k: int = 0,
) -> Decoded:
    decoder = Decoder(
        target=target,
        sampling=Sampling(),
        generator=torch.Generator(),
        clock=FakeClock(),
        device=CPU,
    )
    stopping = Stopping(max_new_tokens=num_tokens, eos_ids=eos_ids, num_speculative_tokens=k)
    return decoder.decode(proposer, [0, 1], stopping)


def drafting(table: torch.Tensor) -> DraftModelProposer:
    return DraftModelProposer(
        TableModel(table), Sampling(), generator=torch.Generator(), device=CPU
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 500),
    st.integers(0, 500),
    st.integers(1, 8),
    st.integers(1, 30),
    st.sets(st.integers(0, VOCAB - 1), max_size=2),
)
def test_greedy_speculation_changes_nothing(target_seed, draft_seed, k, num_tokens, eos_ids):
    """Any draft, any K, any budget, any eos: the baseline's tokens, and block sums that add up."""
    target = random_table(VOCAB, target_seed)
    eos = frozenset(eos_ids)
    plain = greedy_answer(TableModel(target), None, num_tokens=num_tokens, eos_ids=eos)
    proposers: list[Proposer] = [
        drafting(random_table(VOCAB, draft_seed)),
        drafting(target),
        NgramProposer(max_ngram=3, min_ngram=1, device=CPU),
    ]
    for proposer in proposers:
        fast = greedy_answer(TableModel(target), proposer, num_tokens=num_tokens, eos_ids=eos, k=k)
        accepted = sum(block.num_accepted_tokens for block in fast.blocks)
        truncated = sum(block.truncated for block in fast.blocks)

        assert plain.token_ids == fast.token_ids
        assert plain.finish_reason == fast.finish_reason
        assert len(fast.token_ids) == accepted + len(fast.blocks) - truncated


def test_budget_never_cuts_a_block():
    """The last block drafts only what the budget can take: no work is thrown away."""
    table = random_table(VOCAB, 1)
    answer = greedy_answer(TableModel(table), drafting(table), num_tokens=8, k=4)

    assert [0, 4, 1] == [block.num_draft_tokens for block in answer.blocks]
    assert [1, 5, 2] == [block.num_emitted_tokens for block in answer.blocks]
    assert FinishReason.BUDGET == answer.finish_reason


def test_eos_inside_accepted_drafts_truncates_the_block():
    """What follows an emitted EOS is neither emitted nor counted as accepted."""
    ring = torch.full((VOCAB, VOCAB), -9.0)
    for token in range(VOCAB):
        ring[token, (token + 1) % VOCAB] = 9.0
    answer = greedy_answer(
        TableModel(ring), drafting(ring), num_tokens=20, eos_ids=frozenset([4]), k=4
    )
    last = answer.blocks[-1]

    assert (2, 3, 4) == answer.token_ids
    assert (4, 2, 2, True) == (
        last.num_draft_tokens,
        last.num_accepted_tokens,
        last.num_emitted_tokens,
        last.truncated,
    )


def test_eos_as_the_first_token_ends_after_the_prefill():
    """A one-token answer has one block and no decode work."""
    ring = torch.full((VOCAB, VOCAB), -9.0)
    ring[1, 3] = 9.0
    answer = greedy_answer(TableModel(ring), None, num_tokens=20, eos_ids=frozenset([3]))

    assert (3,) == answer.token_ids
    assert 1 == len(answer.blocks)


def test_context_length_counts_what_the_target_had_read():
    """Each block starts from the prompt and everything emitted but the last token."""
    table = random_table(VOCAB, 1)
    answer = greedy_answer(TableModel(table), drafting(table), num_tokens=12, k=4)

    assert [0, 2, 7, 12] == [block.context_length for block in answer.blocks]


def test_target_ends_with_what_was_emitted():
    """After every rollback the target has read the prompt and the answer, nothing else."""
    target = TableModel(random_table(VOCAB, 2))
    answer = greedy_answer(target, drafting(random_table(VOCAB, 3)), num_tokens=15, k=3)

    assert [0, 1, *answer.token_ids[:-1]] == target.read


def test_times_cover_the_whole_answer():
    """TTFT spans both prefills; decode time spans every block; the parts never exceed it."""
    table = random_table(VOCAB, 1)
    answer = greedy_answer(TableModel(table), drafting(table), num_tokens=12, k=4)
    parts = sum(block.draft_s + block.verify_s for block in answer.blocks[1:])

    assert 2.0 == answer.ttft_s
    assert 0 < parts <= answer.decode_s


@pytest.mark.parametrize("k", [1, 4])
def test_sampled_draft_that_is_the_target_is_always_accepted(k: int):
    """Same law on both sides: acceptance is exactly 1 at temperature 0.8 too."""
    sampling = Sampling(temperature=0.8, top_k=4)
    table = random_table(VOCAB, 5)
    source = torch.Generator().manual_seed(0)
    decoder = Decoder(
        target=TableModel(table),
        sampling=sampling,
        generator=source,
        clock=FakeClock(),
        device=CPU,
    )
    proposer = DraftModelProposer(TableModel(table), sampling, generator=source, device=CPU)
    answer = decoder.decode(
        proposer,
        [0],
        Stopping(max_new_tokens=100, eos_ids=frozenset(), num_speculative_tokens=k),
    )

    assert all(block.num_accepted_tokens == block.num_draft_tokens for block in answer.blocks)
