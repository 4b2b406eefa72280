from dataclasses import replace

import pytest

from specmeasure.estimate.acceptance import count_acceptance
from specmeasure.estimate.intervals import MIN_PROMPTS, Intervals
from specmeasure.estimate.summary import estimate
from specmeasure.estimate.textbook import textbook
from specmeasure.records.estimates import Costs, Textbook, Unmeasured
from tests.fakes import (
    DRAFT_4,
    FakeEngine,
    Machine,
    Traffic,
    make_block,
    make_plan,
    make_prompts,
    make_trial,
    recorded_trace,
)

INTERVALS = Intervals(num_resamples=100)
COSTS = Costs(
    target_step_s=0.01,
    draft_ratio=0.1,
    verify_ratio=1.3,
    overhead_ratio=0.05,
    overhead_share=0.03,
    tokens_per_pass=2.0,
    break_even_tokens_per_pass=1.75,
)


def counts_of(*blocks):
    """Prompts of one trial each, all alike, K = 3."""
    return count_acceptance([[make_trial(f"p{n}", *blocks)] for n in range(MIN_PROMPTS)], 3)


def test_worked_by_hand():
    """α = 3 of 6 judged drafts: (1 + ½ + ¼ + ⅛) / (1 + 3 · 0.1), and the same with v and o."""
    counts = counts_of(make_block(3, 2), make_block(3, 0), make_block(3, 1), make_block(0, 0))
    found = textbook(counts, COSTS, 3, INTERVALS)

    assert isinstance(found, Textbook)
    assert pytest.approx(0.5) == found.acceptance.value
    assert pytest.approx(1.875) == found.tokens_per_pass
    assert pytest.approx(1.875 / 1.3) == found.decode_speedup
    assert pytest.approx(1.875 / 1.6) == found.speedup_with_verification
    assert pytest.approx(1.875 / 1.65) == found.speedup_with_overhead


@pytest.mark.parametrize(("accepted", "tokens"), [(3, 4.0), (0, 1.0)])
def test_ends_of_the_formula(accepted, tokens):
    """All drafts accepted gives K + 1 tokens a pass, none gives one; α = 1 divides by nothing."""
    found = textbook(counts_of(make_block(3, accepted)), COSTS, 3, INTERVALS)

    assert isinstance(found, Textbook)
    assert tokens == found.tokens_per_pass


@pytest.mark.parametrize("k", [1, 2, 7])
def test_closed_form(k):
    """The sum is (1 − α^(K+1)) / (1 − α)."""
    found = textbook(counts_of(make_block(3, 2), make_block(3, 0)), COSTS, k, INTERVALS)

    assert isinstance(found, Textbook)
    alpha = found.acceptance.value
    assert pytest.approx((1 - alpha ** (k + 1)) / (1 - alpha)) == found.tokens_per_pass


@pytest.mark.parametrize(
    ("blocks", "costs", "reason"),
    [
        ([make_block(0, 0)], COSTS, "nothing was counted"),
        ([make_block(3, 1)], replace(COSTS, draft_ratio=None), "no draft was timed"),
        ([make_block(3, 1)], Unmeasured(reason="no clock"), "no clock"),
    ],
)
def test_nothing_is_predicted_from_nothing(blocks, costs, reason):
    """Without judged drafts or without their costs there is a reason in place of a number."""
    assert Unmeasured(reason=reason) == textbook(counts_of(*blocks), costs, 3, INTERVALS)


def test_the_textbook_is_right_where_its_assumptions_hold():
    """One α for all, endless answers: with v and o it comes to what was measured."""
    traffic = Traffic(lengths=(220,), acceptance_rates=(0.7,))
    engine = FakeEngine(plan=make_plan(), traffic=traffic, machine=Machine(noise=0.0))
    (arm,) = estimate(recorded_trace(engine, make_prompts(60)), INTERVALS).arms

    assert DRAFT_4.name == arm.name
    assert isinstance(arm.textbook, Textbook)
    assert pytest.approx(arm.decode_speedup.value, rel=0.03) == arm.textbook.speedup_with_overhead
    assert arm.textbook.decode_speedup > 1.2 * arm.decode_speedup.value
