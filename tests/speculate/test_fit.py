"""Transforms and scores have, under the target's law, exactly the moments that they claim."""

import pytest
import torch
from torch import Tensor

from specmeasure.speculate.fit import (
    MAX_RATIO,
    TokenScores,
    likelihood_ratio,
    pull,
    randomised_pit,
    surprise,
)

VOCAB = 40


def laws() -> tuple[Tensor, Tensor]:
    """Target and draft, [1, V] each; neither has every token, and some ratios pass the cap."""
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(2, VOCAB, generator=generator, dtype=torch.float64)
    logits[0, :4], logits[1, 2:8] = -torch.inf, -torch.inf
    target, draft = logits.softmax(-1)[:, None]
    return target, draft


def of_all_tokens(law: Tensor) -> tuple[Tensor, Tensor]:
    """Every token once, each beside the law: [V] and [V, V]."""
    return torch.arange(VOCAB), law.expand(VOCAB, VOCAB)


def test_a_transform_by_hand():
    """Half the chance lies before the second token, and a third of its own is added."""
    target = torch.tensor([[0.5, 0.3, 0.2]])
    ranking = torch.tensor([[1.0, 2.0, 3.0]])

    found = randomised_pit(torch.tensor([1]), target, ranking, torch.tensor([1 / 3]))

    assert [0.6] == pytest.approx(found.tolist())


def test_of_equals_the_likelier_is_first():
    """Without a ranking the order is by chance; tokens with the same chance share their place."""
    target = torch.tensor([[0.1, 0.4, 0.4, 0.1]]).expand(4, 4)

    found = randomised_pit(torch.arange(4), target, torch.zeros(4, 4), torch.full((4,), 0.5))

    assert [0.9, 0.4, 0.4, 0.9] == pytest.approx(found.tolist())


@pytest.mark.parametrize("by", ["ratio", "chance"])
def test_transforms_tile_the_unit_interval(by: str):
    """Each token's part is as long as its chance, and they cover [0, 1]: uniform, exactly."""
    target, draft = laws()
    tokens, target = of_all_tokens(target)
    ratio = likelihood_ratio(target, draft.expand_as(target))
    ranking = ratio if by == "ratio" else torch.zeros_like(target)
    low, high = (
        randomised_pit(tokens, target, ranking, fill(VOCAB)) for fill in (torch.zeros, torch.ones)
    )
    possible = target[0] > 0
    starts, order = low[possible].sort()

    torch.testing.assert_close(target[0], high - low)
    torch.testing.assert_close(starts[1:], high[possible][order][:-1])
    assert (0.0, 1.0) == (float(starts[0]), pytest.approx(float(high.max())))


@pytest.mark.parametrize("of", ["surprise", "pull"])
def test_scores_have_the_moments_that_they_claim(of: str):
    """Over the target's law: mean 0, the variance and the third central moment of every token."""
    target, draft = laws()
    tokens, whole = of_all_tokens(target)
    scores = surprise(tokens, whole) if of == "surprise" else both_pulls(tokens, whole, draft)
    possible = target[0] > 0
    chance, excess = target[0][possible], scores.excess[possible]

    assert pytest.approx(0.0, abs=1e-12) == float((chance * excess).sum())
    for power, claimed in ((2, scores.variance), (3, scores.third_moment)):
        expected = float((chance * excess**power).sum())
        assert [expected] * len(chance) == pytest.approx(claimed[possible].tolist())


def both_pulls(tokens: Tensor, target: Tensor, draft: Tensor) -> TokenScores:
    return pull(tokens, target, draft.expand_as(target)).scores


def test_surprise_is_in_nats_above_the_entropy():
    """A fair coin surprises by log 2 whatever it shows; a certain token not at all."""
    target = torch.tensor([[0.5, 0.5], [1.0, 0.0]])

    found = surprise(torch.tensor([0, 0]), target)

    assert [0.0, 0.0] == found.excess.tolist()
    assert [0.0, 0.0] == found.variance.tolist()


def test_a_token_without_a_chance_has_no_surprise():
    """It would be infinite; it is counted elsewhere."""
    found = surprise(torch.tensor([1]), torch.tensor([[0.75, 0.0, 0.25]]))

    assert [0.0] * 3 == [float(x) for x in (found.excess, found.variance, found.third_moment)]


def test_a_share_of_the_drafts_law_pulls_by_that_share():
    """Of rejections let through: p' = (1 − ε) p + ε q raises the mean by ε · shift, exactly."""
    target, draft = laws()
    tokens, whole = of_all_tokens(target)
    found = pull(tokens, whole, draft.expand_as(whole))
    leaky = 0.93 * target[0] + 0.07 * draft[0]

    expected = 0.07 * float(found.shift[0])

    assert expected == pytest.approx(float((leaky * found.scores.excess).sum()))


def test_the_pull_is_capped():
    """A token that only the draft has counts ``MAX_RATIO``; one that neither has, nothing."""
    target, draft = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.5, 0.5, 0.0]])
    tokens = torch.arange(3)

    found = pull(tokens, target.expand(3, 3), draft.expand(3, 3))

    assert [0.0, MAX_RATIO - 0.5, -0.5] == found.scores.excess.tolist()
    assert [0.5] * 3 == found.total_variation.tolist()


def test_equal_laws_pull_nowhere():
    """A target that drafts for itself leaves nothing to tell apart."""
    target, _ = laws()
    tokens, whole = of_all_tokens(target)
    found = pull(tokens, whole, whole)

    assert pytest.approx(0.0, abs=1e-12) == float(found.shift.abs().max())
    assert 0.0 == float(found.total_variation.max())
