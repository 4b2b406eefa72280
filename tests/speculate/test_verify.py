import pytest
import torch
from torch import Tensor

from specmeasure.errors import BrokenLogits
from specmeasure.records.plan import Sampling
from specmeasure.speculate.proposal import Proposal
from specmeasure.speculate.sampling import draw, greedy_tokens
from specmeasure.speculate.verify import verify_greedy, verify_rejection, verify_strictly


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_stops_at_first_mismatch():
    """Drafts after the first mismatch are dropped, even those that match."""
    verdict = verify_greedy(torch.tensor([7, 9, 5]), torch.tensor([7, 8, 5, 1]))

    assert 1 == verdict.num_accepted
    assert 8 == verdict.next_token
    assert (7, 8) == verdict.tokens


def test_full_acceptance_adds_the_bonus_token():
    """K accepted drafts come with the target's own next token: K + 1 in all."""
    verdict = verify_greedy(torch.tensor([7, 9]), torch.tensor([7, 9, 4]))

    assert (7, 9, 4) == verdict.tokens


def test_no_drafts_is_plain_decoding():
    """Without drafts a block emits the target's argmax."""
    verdict = verify_greedy(torch.tensor([], dtype=torch.int64), torch.tensor([6]))

    assert (0, (6,)) == (verdict.num_accepted, verdict.tokens)


def test_equal_laws_accept_everything():
    """Where draft and target agree as distributions, no draft is ever rejected."""
    probs = torch.softmax(torch.randn(5, 7, generator=generator()), -1)
    drafts = probs[:4].argmin(-1)
    verdicts = [
        verify_rejection(drafts, probs[:4], probs, generator=generator(seed)) for seed in range(50)
    ]

    assert {4} == {verdict.num_accepted for verdict in verdicts}


def test_impossible_draft_is_never_accepted():
    """A draft that the target gives no chance is rejected, whatever its own law says."""
    target = torch.tensor([[0.0, 1.0], [0.5, 0.5]])
    draft = torch.tensor([[1.0, 0.0]])
    verdicts = [
        verify_rejection(torch.tensor([0]), draft, target, generator=generator(seed))
        for seed in range(50)
    ]

    assert {(0, 1)} == {(verdict.num_accepted, verdict.next_token) for verdict in verdicts}


def test_residual_of_equal_laws_falls_back_to_the_target():
    """A residual that rounds to zero everywhere draws from the target, not from nothing."""
    target = torch.tensor([[0.3, 0.7], [1.0, 0.0]])
    stacked_against = torch.tensor([[0.3000001, 0.7000001]])  # no positive part is left
    seen = {
        verify_rejection(torch.tensor([0]), stacked_against, target, generator=generator(s)).tokens
        for s in range(200)
    }

    assert seen <= {(0, 0), (0,), (1,)}


@pytest.mark.parametrize("num_drafts", [1, 4])
def test_a_point_mass_is_a_law_of_one_token(num_drafts: int):
    """Without a law, and with one that is all on the draft, seed by seed the same verdicts."""
    probs = torch.softmax(2 * torch.randn(num_drafts + 1, 6, generator=generator()), -1)
    drafts = probs[:-1].argmax(-1)
    law = torch.zeros(num_drafts, 6).scatter(1, drafts[:, None], 1.0)
    verdicts = [
        [verify_rejection(drafts, one, probs, generator=generator(seed)) for one in (None, law)]
        for seed in range(100)
    ]

    assert [one for one, _ in verdicts] == [other for _, other in verdicts]
    assert set(range(num_drafts + 1)) == {one.num_accepted for one, _ in verdicts}


def test_without_drafts_it_is_one_plain_draw():
    """No coin is tossed for drafts that are not there."""
    probs = torch.softmax(torch.randn(1, 6, generator=generator()), -1)
    nothing = torch.tensor([], dtype=torch.int64)
    for seed in range(20):
        verdict = verify_rejection(nothing, None, probs, generator=generator(seed))

        assert (int(draw(probs, generator=generator(seed))),) == verdict.tokens


def first_token_law(draft: Tensor | None, target: Tensor, num_samples: int) -> Tensor:
    """Frequencies of the first emitted token when one draft is proposed and verified."""
    counts = torch.zeros(target.shape[-1])
    source = generator(3)
    for _ in range(num_samples):
        if draft is None:
            token = torch.tensor([1])
        else:
            token = torch.multinomial(draft[0], 1, generator=source)
        verdict = verify_rejection(token, draft, target, generator=source)
        counts[verdict.tokens[0]] += 1
    return counts / num_samples


@pytest.mark.parametrize("draft", [None, torch.tensor([[0.1, 0.3, 0.6]])])
def test_first_token_follows_the_target(draft: Tensor | None):
    """Leviathan et al. 2023, Theorem 1, for a sampled draft and for a point mass.

    5,000 samples: each frequency is within four standard errors (0.028) of the target's.
    """
    target = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    found = first_token_law(draft, target, 5000)

    assert torch.allclose(target[0], found, atol=0.028)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.0)])
def test_nan_logits_are_refused(sampling: Sampling):
    """NaN never becomes a token."""
    proposal = Proposal(tokens=torch.tensor([], dtype=torch.int64))
    logits = torch.tensor([[0.0, float("nan"), 1.0]])

    with pytest.raises(BrokenLogits, match="--dtype float32"):
        verify_strictly(proposal, logits, sampling, generator=generator())


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.0)])
def test_a_broken_draft_is_named(sampling: Sampling):
    """The mark of a draft's NaN reaches the verifier, which names the draft."""
    proposal = Proposal(
        tokens=torch.tensor([-1]), probs=None if sampling.is_greedy else torch.tensor([[0.5, 0.5]])
    )
    with pytest.raises(BrokenLogits, match="the draft's logits"):
        verify_strictly(proposal, torch.zeros(2, 2), sampling, generator=generator())


def test_nan_behind_the_first_rejection_does_not_matter():
    """Only rows that are used can break a block."""
    logits = torch.tensor([[0.0, 1.0], [float("nan"), 0.0]])
    verdict = verify_greedy(torch.tensor([0]), greedy_tokens(logits))

    assert (1,) == verdict.tokens
