"""Drafts of a target's first layers, whatever the layers."""

import pytest
import torch
from torch import Tensor

from specmeasure.proposers.early_exit import EarlyExitProposer
from specmeasure.records.plan import DraftSampling, Sampling
from specmeasure.speculate.sampling import sampling_probs
from tests.decode.table_model import random_table

VOCAB = 5
WARM = Sampling(temperature=0.7)


class FirstLayers:
    """Logits by the last token; remembers what it was asked to read."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        self.read: list[list[int]] = []

    def draft(self, ids: Tensor) -> Tensor:
        self.read.append(ids.tolist())
        return self.logits[ids]


def proposer(
    layers: FirstLayers, sampling: Sampling, **changes: DraftSampling
) -> EarlyExitProposer:
    generator = torch.Generator().manual_seed(0)
    one = EarlyExitProposer(
        layers, sampling, generator=generator, device=torch.device("cpu"), **changes
    )
    one.begin([0, 1])
    one.commit(0, 2)
    return one


def test_each_draft_follows_the_one_before():
    """Token by token from the last emitted one; the last draft itself is not read."""
    layers = FirstLayers(random_table(VOCAB, 4))
    drafts = proposer(layers, Sampling()).propose(3).tokens.tolist()
    expected = [2]
    for _ in range(3):
        expected.append(int(layers.logits[expected[-1]].argmax()))

    assert expected[1:] == drafts
    assert [[one] for one in expected[:-1]] == layers.read


@pytest.mark.parametrize("num_accepted", [0, 1, 3])
def test_whatever_was_kept_only_the_last_token_is_unread(num_accepted: int):
    """Drafts that were kept are in the target's cache."""
    layers = FirstLayers(random_table(VOCAB, 4))
    one = proposer(layers, Sampling())
    one.propose(3)
    one.commit(num_accepted, 4)
    layers.read.clear()
    one.propose(1)

    assert [[4]] == layers.read


def test_asked_for_nothing_it_reads_nothing():
    """A full budget leaves no room for drafts."""
    layers = FirstLayers(random_table(VOCAB, 4))

    assert 0 == proposer(layers, Sampling()).propose(0).num_tokens
    assert [] == layers.read


def test_sampled_drafts_come_with_their_law():
    """Each row is the law after temperature at the token before."""
    layers = FirstLayers(random_table(VOCAB, 4))
    found = proposer(layers, WARM).propose(3)
    before = torch.tensor([2, *found.tokens.tolist()[:-1]])

    assert found.probs is not None
    torch.testing.assert_close(found.probs, sampling_probs(layers.logits[before], WARM))


def test_greedy_drafts_are_point_masses():
    """Where the target samples, too."""
    layers = FirstLayers(random_table(VOCAB, 4))
    found = proposer(layers, WARM, draft_sampling=DraftSampling.GREEDY).propose(2)

    assert found.probs is None
    assert int(layers.logits[2].argmax()) == found.tokens[0]


@pytest.mark.parametrize("sampling", [Sampling(), WARM])
def test_nan_is_marked(sampling: Sampling):
    """A mark that the verifier reports, not an index that crashes."""
    layers = FirstLayers(torch.full((VOCAB, VOCAB), torch.nan))

    assert [-1, -1] == proposer(layers, sampling).propose(2).tokens.tolist()
