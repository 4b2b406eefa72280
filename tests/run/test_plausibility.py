"""Recorded responses are the target's own, or refused with a number and a remedy."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from specmeasure.decode.teacher import TargetAlong
from specmeasure.errors import UsageError
from specmeasure.records.plan import GREEDY, Sampling
from specmeasure.records.replay import Plausibility
from specmeasure.run.plausibility import (
    ResponseFit,
    doubt,
    fit_greedy,
    fit_sampled,
    plausibility,
    refuse_implausible,
)

WARM = Sampling(temperature=0.8)


def along(probs: Tensor, tokens: Tensor) -> TargetAlong:
    """The target with these distributions [T, V] along these tokens [T]."""
    surprise = -probs.log().masked_fill(probs == 0, 0.0)
    entropy = (probs * surprise).sum(-1)
    said = probs.gather(1, tokens[:, None])
    return TargetAlong(
        entropy=entropy,
        log_prob=said.log()[:, 0],
        log_prob_variance=(probs * surprise.square()).sum(-1) - entropy.square(),
        token_rank=(probs > said).sum(-1).float(),
    )


def drawn(
    seed: int, *, num_tokens: int = 400, temperature: float = 1.0, of_temperature: float = 1.0
) -> TargetAlong:
    """Tokens drawn at one temperature, along the target at another."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num_tokens, 50, generator=generator)
    said = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
    return along((logits / of_temperature).softmax(-1), said[:, 0])


def greedy_along(ranks: list[int]) -> TargetAlong:
    nothing = torch.zeros(len(ranks))
    return TargetAlong(
        entropy=nothing,
        log_prob=nothing,
        log_prob_variance=nothing,
        token_rank=torch.tensor(ranks).float(),
    )


def of_greedy(num_answers: int, num_others: int) -> Plausibility:
    own, other = fit_greedy(greedy_along([0] * 20), 0), fit_greedy(greedy_along([3] * 20), 15)
    return plausibility([own] * (num_answers - num_others) + [other] * num_others)


def test_own_samples_have_a_standard_normal_score():
    """Over many texts that a target drew, z has mean 0 and deviation 1."""
    scores = torch.tensor([plausibility([fit_sampled(drawn(seed))]).z_score for seed in range(400)])

    assert abs(float(scores.mean())) < 3 / 20
    assert 0.9 < float(scores.std()) < 1.1


@pytest.mark.parametrize("seed", range(5))
def test_own_samples_pass_without_a_word(seed: int):
    """Texts drawn at the stated settings are neither refused nor doubted."""
    found = plausibility([fit_sampled(drawn(seed))])
    refuse_implausible(found, [WARM])

    assert doubt(found) is None


@pytest.mark.parametrize("temperature", [0.5, 1.6])
def test_samples_at_another_temperature_are_refused(temperature: float):
    """Too likely or too unlikely: both say another setting wrote them, and what to do."""
    found = plausibility([fit_sampled(drawn(0, temperature=temperature))])

    with pytest.raises(UsageError, match=r"at temperature 0\.8 it would be.*Name the target"):
        refuse_implausible(found, [WARM])


def test_parts_add_up_to_the_whole():
    """Batches' sums give what one batch of everything gives."""
    texts = [fit_sampled(drawn(seed, num_tokens=30 + seed)) for seed in range(6)]
    first, second = sum(texts[:2], ResponseFit()), sum(texts[2:], ResponseFit())

    assert plausibility(texts) == plausibility([first, second])


def test_a_small_gap_is_doubted_not_refused():
    """Far in standard errors, near in nats: a warning that says how far."""
    found = replace(
        plausibility([fit_sampled(drawn(0))]),
        mean_log_prob=-1.0,
        expected_log_prob=-1.05,
        z_score=9.0,
    )
    refuse_implausible(found, [WARM])

    assert "9 standard errors" in str(doubt(found))


def test_impossible_tokens_are_counted_and_refused():
    """Tokens outside top-p cannot be drawn; the rest is judged without them."""
    probs = torch.tensor([[0.5, 0.5, 0.0]] * 100)
    tokens = torch.tensor([0] * 95 + [2] * 5)
    found = plausibility([fit_sampled(along(probs, tokens))])

    assert (5, 100) == (found.num_impossible_tokens, found.num_sampled_tokens)
    assert found.mean_log_prob == pytest.approx(found.expected_log_prob)
    with pytest.raises(UsageError, match="5 of 100 tokens cannot be drawn from this target at"):
        refuse_implausible(found, [Sampling(temperature=1.0, top_p=0.9)])


def test_one_impossible_token_in_a_hundred_passes():
    """As much as rounding at the edge of top-p can do."""
    probs = torch.tensor([[0.5, 0.5, 0.0]] * 100)
    found = plausibility([fit_sampled(along(probs, torch.tensor([0] * 99 + [2])))])
    refuse_implausible(found, [Sampling(temperature=1.0, top_p=0.9)])

    assert 1 == found.num_impossible_tokens


def test_other_greedy_answers_are_refused_with_the_mean_rank():
    """More than one answer in twenty is another model's."""
    with pytest.raises(
        UsageError, match=r"2 of 20 responses .*\(mean rank 0\.30 of 400 tokens; 0 where all are\)"
    ):
        refuse_implausible(of_greedy(20, 2), [GREEDY])


def test_one_greedy_answer_in_twenty_is_doubted():
    """It is replayed as it is, and said."""
    found = of_greedy(20, 1)
    refuse_implausible(found, [GREEDY])

    assert "1 of 20 recorded responses" in str(doubt(found))


def test_greedy_answers_have_no_score():
    """Nothing was drawn: no log-probability is expected, and none is made up."""
    found = of_greedy(4, 0)
    refuse_implausible(found, [GREEDY])

    assert (None, None, None) == (found.mean_log_prob, found.expected_log_prob, found.z_score)
    assert doubt(found) is None


@pytest.mark.parametrize(("num_tokens", "expected"), [(50, 1), (100, 0), (101, 0)])
def test_one_other_token_in_a_hundred_is_rounding(num_tokens: int, expected: int):
    """A near-tie that went the other way does not make an answer another's."""
    fit = fit_greedy(greedy_along([1] + [0] * (num_tokens - 1)), 1)

    assert expected == fit.num_other_greedy_answers


def test_a_certain_target_has_no_score():
    """Where only one token could be drawn, no variance divides anything."""
    probs = torch.tensor([[1.0, 0.0]] * 8)
    found = plausibility([fit_sampled(along(probs, torch.zeros(8, dtype=torch.int64)))])
    refuse_implausible(found, [WARM])

    assert found.z_score is None
    assert 0.0 == found.mean_log_prob
