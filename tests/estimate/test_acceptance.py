import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.acceptance import (
    acceptance_survival,
    conditional_acceptance,
    count_acceptance,
    draft_acceptance_rate,
    mean_acceptance_length,
    refuse_uneven_sums,
    tokens_per_target_pass,
)
from specmeasure.estimate.intervals import MIN_PROMPTS, Intervals
from specmeasure.records.estimates import Interval, Unmeasured
from tests.fakes import make_block, make_trial

INTERVALS = Intervals()
ESTIMATORS = (
    lambda counts: [mean_acceptance_length(counts, INTERVALS)],
    lambda counts: [draft_acceptance_rate(counts, INTERVALS)],
    lambda counts: [tokens_per_target_pass(counts, INTERVALS)],
    lambda counts: conditional_acceptance(counts, INTERVALS),
    lambda counts: acceptance_survival(counts, INTERVALS),
)


@st.composite
def any_block(draw):
    """Up to four drafts, any of them kept, sometimes cut by EOS."""
    drafted = draw(st.integers(0, 4))
    accepted = draw(st.integers(0, drafted))
    return make_block(drafted, accepted, truncated=accepted > 0 and draw(st.booleans()))


def whole_block(k):
    """K drafts, any of them kept, never cut."""
    return st.integers(0, k).map(lambda accepted: make_block(k, accepted))


def prompts_of(blocks):
    """Prompts of one trial each."""
    return st.lists(st.lists(blocks, max_size=6), max_size=9).map(
        lambda rows: [[make_trial(f"p{i}", *row)] for i, row in enumerate(rows)]
    )


@pytest.fixture
def counts():
    """K = 3: whole, rejected, cut by EOS, short of budget, without drafts; each six times."""
    whole = [make_block(3, 3), make_block(3, 1)]
    rest = [make_block(3, 0), make_block(1, 1), make_block(0, 0)]
    cut = make_block(3, 2, truncated=True)
    prompts = [whole, [*rest, cut]] * 6
    return count_acceptance([[make_trial(f"p{i}", *row)] for i, row in enumerate(prompts)], 3)


def values(estimates):
    return [estimate.value for estimate in estimates]


def test_tau_by_hand(counts):
    """7 drafts were kept in 5 drafted blocks; prefills and the miss are not drafted blocks."""
    assert 1 + 7 / 5 == mean_acceptance_length(counts, INTERVALS).value


def test_draft_acceptance_rate_by_hand(counts):
    """7 of 13 drafts; the one behind EOS counts as drafted."""
    assert 7 / 13 == draft_acceptance_rate(counts, INTERVALS).value


def test_tokens_per_pass_by_hand(counts):
    """14 tokens in 8 passes, prefills and the pass without drafts among them."""
    assert 14 / 8 == tokens_per_target_pass(counts, INTERVALS).value


def test_conditional_acceptance_by_hand(counts):
    """Short and cut blocks leave the denominators of the positions they say nothing of.

    First drafts: 5 judged, 4 kept. Second: judged in (3, 3), (3, 1) and the cut block, kept in two.
    Third: judged in (3, 3) alone; of the cut block nobody knows.
    """
    assert [4 / 5, 2 / 3, 1.0] == values(conditional_acceptance(counts, INTERVALS))


def test_survival_by_hand(counts):
    """Kaplan-Meier: the product of the conditional rates up to each position."""
    expected = [4 / 5, 4 / 5 * 2 / 3, 4 / 5 * 2 / 3 * 1]

    assert expected == pytest.approx(values(acceptance_survival(counts, INTERVALS)), rel=1e-12)


@pytest.fixture
def tree_counts():
    """Trees of 9 nodes, 3 deep: whole, rejected at once and later, cut by EOS and by the budget."""
    blocks = [
        make_block(9, 3, draft_depth=3),
        make_block(9, 0, draft_depth=3),
        make_block(9, 1, draft_depth=3),
        make_block(4, 1, draft_depth=1),
        make_block(9, 2, draft_depth=3, truncated=True),
        make_block(0, 0),
    ]
    return count_acceptance([[make_trial(f"p{i}", *blocks)] for i in range(12)], 3)


def test_trees_are_counted_by_depth(tree_counts):
    """τ counts kept drafts, the rate nodes; positions are depths with denominators of their own.

    Depth 1: judged in five, kept in four. Depth 2: judged in three of the kept, kept in two. Depth
    3: judged in the whole one alone, kept.
    """
    assert 1 + 7 / 5 == mean_acceptance_length(tree_counts, INTERVALS).value
    assert 7 / 40 == draft_acceptance_rate(tree_counts, INTERVALS).value
    assert (7 + 7 - 1) / 7 == tokens_per_target_pass(tree_counts, INTERVALS).value
    assert [4 / 5, 2 / 3, 1.0] == values(conditional_acceptance(tree_counts, INTERVALS))


@given(st.integers(1, 5).flatmap(lambda k: st.tuples(st.just(k), prompts_of(whole_block(k)))))
def test_survival_adds_up_to_tau(drawn):
    """Σ survival = τ − 1 where K is constant and nothing is cut; a curve at 0 stays there."""
    k, prompts = drawn
    counts = count_acceptance(prompts, k)
    tau = mean_acceptance_length(counts, INTERVALS)
    if isinstance(tau, Unmeasured):
        return
    curve = acceptance_survival(counts, INTERVALS)
    survival = [one.value if isinstance(one, Interval) else 0.0 for one in curve]

    assert sum(survival) == pytest.approx(tau.value - 1, abs=1e-12)
    assert survival == sorted(survival, reverse=True)


@given(prompts_of(any_block()))
def test_tokens_are_accepted_drafts_and_one_per_pass(prompts):
    """emitted = accepted + passes − cut passes: the identity behind every count."""
    counts = count_acceptance(prompts, 4)
    num_cut = sum(block.truncated for (trial,) in prompts for block in trial.blocks)

    assert counts.num_emitted.sum() == (
        counts.num_accepted.sum() + counts.num_passes.sum() - num_cut
    )
    assert counts.num_accepted.sum() == counts.num_kept.sum()


@given(prompts_of(any_block()))
def test_rates_are_rates_or_unmeasured(prompts):
    """Whatever was recorded, an estimate is a finite interval or says why it is not: never NaN."""
    counts = count_acceptance(prompts, 4)

    for estimator in ESTIMATORS:
        for one in estimator(counts):
            if isinstance(one, Unmeasured):
                assert one.reason
            else:
                assert 0 <= one.low <= one.value <= one.high < math.inf


def test_no_drafts_is_not_an_acceptance_of_zero():
    """An arm that never drafted has no rate, no τ and no curve."""
    counts = count_acceptance([[make_trial(f"p{i}", make_block(0, 0))] for i in range(4)], 2)

    assert Unmeasured(reason="nothing was counted") == draft_acceptance_rate(counts, INTERVALS)
    assert Unmeasured(reason="nothing was counted") == mean_acceptance_length(counts, INTERVALS)
    assert [
        Unmeasured(reason="no block had a judged draft 1"),
        Unmeasured(reason="no block had a judged draft 2"),
    ] == acceptance_survival(counts, INTERVALS)


@pytest.mark.parametrize("num_prompts", range(1, MIN_PROMPTS))
def test_few_prompts_have_no_interval(num_prompts):
    """A rate over a few prompts is not published without an interval: it is unmeasured."""
    prompts = [[make_trial(f"p{i}", make_block(4, 2))] for i in range(num_prompts)]
    counts = count_acceptance(prompts, 4)

    for estimator in ESTIMATORS:
        for one in estimator(counts)[:2]:
            assert f"not enough prompts: an interval needs {MIN_PROMPTS}" in one.reason


def test_prompts_without_drafts_are_not_behind_the_rate():
    """The number beside a rate counts the prompts that drafted."""
    drafting = [[make_trial(f"p{i}", make_block(4, i % 5))] for i in range(7)]
    counts = count_acceptance([*drafting, [make_trial("silent", make_block(0, 0))]], 4)

    assert 7 == draft_acceptance_rate(counts, INTERVALS).num_clusters


def test_trials_of_a_prompt_are_pooled():
    """Turns and repeats of a prompt are one cluster, in whatever order they come."""
    one, two = make_trial("p0", make_block(4, 1)), make_trial("p0", make_block(4, 3))
    others = [[make_trial(f"p{i}", make_block(4, i % 5))] for i in range(1, 6)]

    pooled = draft_acceptance_rate(count_acceptance([[one, two], *others], 4), INTERVALS)

    assert (14 / 28, 6) == (pooled.value, pooled.num_clusters)
    assert pooled == draft_acceptance_rate(count_acceptance([[two, one], *others], 4), INTERVALS)


def test_uneven_sums_are_refused():
    """Blocks that do not add up to their answer are not counted; the trial is named."""
    trial = make_trial("p7", make_block(4, 2), num_emitted_tokens=5)

    with pytest.raises(InsufficientEvidence, match=r"'p7'.* blocks emitted 4 tokens, .* says 5"):
        refuse_uneven_sums([trial])
    with pytest.raises(InsufficientEvidence, match="not to be trusted"):
        count_acceptance([[trial]], 4)
