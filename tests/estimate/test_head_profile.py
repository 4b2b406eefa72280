"""Accuracies of heads from recorded ranks, overall and by slice; memory and the price of a pass."""

from array import array
from dataclasses import replace

import numpy as np
import pytest

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.head_profile import (
    MOST_CHOICES,
    head_accuracies,
    pass_ratio,
    profile_heads,
    read_ranks,
)
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.prediction import predict
from specmeasure.records.estimates import Unmeasured
from specmeasure.records.plan import Sampling
from tests.estimate import heads
from tests.estimate.heads import NAME, NUM_HEADS, heads_trace, rank_scores
from tests.estimate.replays import replay_trace

INTERVALS = Intervals()


@pytest.fixture(scope="module")
def trace():
    return heads_trace()


@pytest.fixture(scope="module")
def profile(trace):
    return profile_heads(trace, INTERVALS)[0]


def test_accuracy_is_the_share_of_judged_places(trace, profile):
    """Top-k of a head, counted token by token: places with a rank below k of those with a rank."""
    for head in range(NUM_HEADS):
        ranks = [
            rank
            for one in trace.scores[NAME]
            for rank in one.rank[NUM_HEADS + head :: NUM_HEADS]
            if rank >= 0
        ]
        assert len(ranks) == profile.accuracy[head].num_places
        for choices in range(1, MOST_CHOICES + 1):
            right = sum(rank < choices for rank in ranks)
            assert right / len(ranks) == pytest.approx(
                profile.accuracy[head].top[choices - 1].value
            )


def test_more_choices_are_right_more_often(profile):
    """Top-k rises with k and falls from head to head, on heads that know less ahead."""
    for one in profile.accuracy:
        values = [found.value for found in one.top]
        assert sorted(values) == values
    firsts = [one.top[0].value for one in profile.accuracy]

    assert sorted(firsts, reverse=True) == firsts


def test_prompts_are_the_clusters(profile):
    """Intervals count prompts, not tokens."""
    assert {30} == {found.num_clusters for one in profile.accuracy for found in one.top}
    assert 30 == profile.num_prompts < profile.num_tokens


def test_slices_cut_the_same_places(profile):
    """Every axis holds all judged places; slices stand at one level for all slices and heads."""
    for axis in dict.fromkeys(part.axis for part in profile.slices):
        parts = [part for part in profile.slices if part.axis == axis]
        for head in range(NUM_HEADS):
            places = sum(part.heads[head].num_places for part in parts)
            assert profile.accuracy[head].num_places == places
    level = INTERVALS.corrected(len(profile.slices) * NUM_HEADS).level
    levels = {part.heads[0].top[0].level for part in profile.slices if part.num_prompts >= 6}
    assert {level} == levels


def test_code_is_easier(profile):
    """Heads that are drawn better on code are found to be."""
    by_name = {part.name: part.heads[0].top[0] for part in profile.slices}

    assert by_name["code"].low > by_name["translation"].high


def test_memory_is_what_the_heads_weigh(profile):
    """Parameters and bytes as recorded, the share that of the target's weights."""
    assert (40_000_000, 160_000_000) == (
        profile.memory.num_parameters,
        profile.memory.num_bytes,
    )
    assert 0.08 == profile.memory.share


def test_a_pass_has_its_spread_over_rounds():
    """All heads once over a plain step: the median round, the least and the greatest."""
    table = heads.tree_costs(num_rounds=5, noise=0.05, ratio=0.02)
    middle, place = len(table.context_lengths) // 2, table.num_drafts.index(NUM_HEADS)
    ratios = [one.drafts[NAME].draft_s[middle][place] / one.step_s[middle] for one in table.rounds]
    found = pass_ratio(table, NAME, NUM_HEADS)

    assert (np.median(ratios), min(ratios), max(ratios)) == (found.value, found.low, found.high)
    assert 5 == found.num_rounds


def test_the_chain_is_what_the_replay_predicts(trace, profile):
    """K by K, as every other candidate is predicted."""
    assert predict(trace, INTERVALS).candidates[0] == profile.chain


def test_few_prompts_have_no_intervals():
    """Below six prompts an accuracy is not measured, with the reason; places are counted."""
    found = profile_heads(heads_trace(4), INTERVALS)[0]

    assert isinstance(found.accuracy[0].top[0], Unmeasured)
    assert found.accuracy[0].num_places > 0


def test_sampled_answers_have_accuracies_too():
    """What heads know of drawn tokens is a share like any other."""
    found = profile_heads(heads_trace(sampling=Sampling(temperature=0.7)), INTERVALS)[0]

    assert 0 < found.accuracy[0].top[0].value < 1


def test_a_head_beyond_every_answer_is_not_measured():
    """Answers of two tokens judge one head; of the next nothing is known, and no rate is 0."""
    ranks = np.full((12, 2), -1)
    ranks[:, 0] = 0
    found = head_accuracies(ranks, np.arange(12), INTERVALS)

    assert 1.0 == found[0].top[0].value
    assert found[0].top[0].low < 1
    assert "nothing was counted" == found[1].top[0].reason
    assert 0 == found[1].num_places


def test_no_block_starts_at_the_first_token():
    """The prefill emits it, so that its row is not looked at, whatever it holds."""
    scores = rank_scores([[5, 5], [0, 1], [2, -1]])
    ranks, answers = read_ranks([scores, scores])

    assert [[0, 1], [2, -1]] * 2 == ranks.tolist()
    assert [0, 0, 1, 1] == answers.tolist()


def test_a_replay_without_heads_is_refused():
    """The message names the command that records heads."""
    with pytest.raises(InsufficientEvidence, match="heads profile"):
        profile_heads(replay_trace(8), INTERVALS)


def test_scores_of_another_kind_are_refused():
    """Scores that hold no ranks are no profile."""
    with pytest.raises(InsufficientEvidence, match="no ranks"):
        read_ranks(replay_trace(8).scores["small"])


def test_an_answer_of_one_token_has_no_places(trace):
    """Nothing is judged there, and other answers count as before."""
    one = rank_scores([[-1] * NUM_HEADS])
    short = replace(trace.answers[0], num_tokens=1)
    short_target = replace(
        trace.target[0],
        **{
            name: array(getattr(trace.target[0], name).typecode, getattr(trace.target[0], name)[:1])
            for name in trace.target[0].__slots__
        },
    )
    cut = replace(
        trace,
        answers=(short, *trace.answers[1:]),
        target=(short_target, *trace.target[1:]),
        scores={NAME: (one, *trace.scores[NAME][1:])},
    )
    found = profile_heads(cut, INTERVALS)[0]
    lost = trace.answers[0].num_tokens - 1
    before = sum(len(own.rank) // NUM_HEADS - 1 for own in trace.scores[NAME])

    assert before - lost == found.accuracy[0].num_places
