import pytest
import torch

from specmeasure.proposers.draft_model import DraftModelProposer
from specmeasure.records.plan import DraftSampling, Sampling
from tests.decode.table_model import TableModel, random_table

VOCAB = 5


def proposer(table: torch.Tensor, sampling: Sampling) -> DraftModelProposer:
    return DraftModelProposer(
        TableModel(table), sampling, generator=torch.Generator(), device=torch.device("cpu")
    )


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.7)])
def test_a_draft_with_nan_marks_its_tokens(sampling: Sampling):
    """NaN logits become a mark that the verifier reports, not an index that crashes."""
    one = proposer(torch.full((VOCAB, VOCAB), torch.nan), sampling)
    one.begin([1])
    one.commit(0, 2)

    assert [-1, -1] == one.propose(2).tokens.tolist()


def test_the_draft_reads_exactly_what_was_committed():
    """After any verdict its context is the prompt and the emitted tokens, once each."""
    table = random_table(VOCAB, 4)
    for num_accepted in range(4):
        model = TableModel(table)
        one = DraftModelProposer(
            model, Sampling(), generator=torch.Generator(), device=torch.device("cpu")
        )
        one.begin([0, 1])
        one.commit(0, 2)
        drafts = one.propose(3).tokens.tolist()
        one.commit(num_accepted, 4)
        one.propose(1)

        assert [0, 1, 2, *drafts[:num_accepted], 4] == model.read


def test_asked_for_nothing_it_proposes_nothing():
    """A full budget leaves no room for drafts; what is unread stays unread."""
    one = proposer(random_table(VOCAB, 4), Sampling())
    one.begin([0])
    one.commit(0, 1)

    assert 0 == one.propose(0).num_tokens
    one.commit(0, 2)
    assert 2 == one.propose(2).num_tokens


def test_greedy_drafts_are_point_masses():
    """Where the target samples, too: the likeliest tokens, and no law to verify against."""
    table = random_table(VOCAB, 4)
    one = DraftModelProposer(
        TableModel(table),
        Sampling(temperature=0.7),
        draft_sampling=DraftSampling.GREEDY,
        generator=torch.Generator(),
        device=torch.device("cpu"),
    )
    one.begin([1])
    one.commit(0, 2)
    proposal = one.propose(2)
    first = int(table[2].argmax())

    assert [first, int(table[first].argmax())] == proposal.tokens.tolist()
    assert proposal.probs is None
