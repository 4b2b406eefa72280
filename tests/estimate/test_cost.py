"""Seconds of blocks by hand and by walk; the speedup's interval; break-even."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.cost import (
    BreakEven,
    CostError,
    block_costs,
    cost_lines,
    decoded,
    draft_ratio,
    flops_ratio,
    own_verify_ratio,
    speedup_spread,
    spend,
)
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.replay import count_replay
from specmeasure.records.costs import CostRound, CostTable, DraftCosts
from specmeasure.records.estimates import Unmeasured
from specmeasure.records.replay import CandidateFacts
from tests.estimate.replays import draft_scores, lookup_scores, make_answer, make_costs

INTERVALS = Intervals()
HAND_ROUND = CostRound(
    step_s=(1.0, 2.0),
    verify_s=((1.0, 3.0), (2.0, 6.0)),
    drafts={"draft": DraftCosts(draft_s=((0.5, 0.8), (1.0, 1.6)), overhead_s=(0.1, 0.3))},
)
HAND = CostTable(
    machine="paper",
    context_lengths=(10, 20),
    num_rows=(1, 3),
    num_drafts=(1, 2),
    rounds=(HAND_ROUND,),
)


def spending(answers, scores, table, most, *, seed=0):
    costs = block_costs(table, "draft", most, seed=seed)
    return spend(answers, scores, costs, np.ones((1, len(answers))))


def test_blocks_between_what_was_timed():
    """By hand: 2 rows lie between 1 and 3, one draft is timed, none costs verifying alone."""
    costs = block_costs(HAND, "draft", 2, seed=0)

    assert [1 + 0.1, 2 + 0.5 + 0.1, 3 + 0.8 + 0.1] == pytest.approx(costs.block_s[0, 0].tolist())
    assert [2 + 0.3, 4 + 1 + 0.3, 6 + 1.6 + 0.3] == pytest.approx(costs.block_s[0, 1].tolist())


def exit_table(verify_s=((1.0, 2.0), (2.0, 3.0))) -> CostTable:
    """The table by hand, its candidate verified at costs of its own."""
    own = replace(HAND_ROUND.drafts["draft"], verify_s=verify_s)
    return replace(HAND, rounds=(replace(HAND_ROUND, drafts={"draft": own}),))


def test_a_candidates_own_verifications_take_the_place_of_the_targets():
    """By hand: after an early exit three rows cost 2 instead of 3."""
    costs = block_costs(exit_table(), "draft", 2, seed=0)

    assert [1 + 0.1, 1.5 + 0.5 + 0.1, 2 + 0.8 + 0.1] == pytest.approx(costs.block_s[0, 0].tolist())
    assert [[1.0, 2.0]] == costs.step_s.tolist()


def test_a_cheaper_verification_needs_less_to_break_even():
    """The same acceptance is faster by what verifying costs less."""
    answers = [make_answer(num_tokens=41, num_prompt_tokens=10)]
    scores = [draft_scores([0.5] * 41)]
    dear, cheap = (spending(answers, scores, table, 2) for table in (HAND, exit_table()))

    assert dear.baseline_s.tolist() == cheap.baseline_s.tolist()
    assert (cheap.speculative_s < dear.speculative_s).all()


def test_what_verifying_costs_a_candidate_alone():
    """At the middle context and over the rounds' medians; None where it is as for the others."""
    assert 3 / 2 == own_verify_ratio(exit_table(), "draft", 2)
    assert 2.5 / 2 == own_verify_ratio(exit_table(), "draft", 1)
    assert own_verify_ratio(HAND, "draft", 2) is None


def test_more_drafts_than_were_timed():
    """The last two sizes go on in a straight line; a line that falls is not followed."""
    falling = replace(HAND_ROUND, verify_s=((3.0, 1.0), (6.0, 6.0)))
    drafts_s = [0.8 + 0.3 * 2 + 0.1, 1.6 + 0.6 * 2 + 0.3]

    rising_s = block_costs(HAND, "draft", 4, seed=0).block_s[0, :, 4]
    held_s = block_costs(replace(HAND, rounds=(falling,)), "draft", 4, seed=0).block_s[0, :, 4]

    assert [5 + drafts_s[0], 10 + drafts_s[1]] == pytest.approx(rising_s.tolist())
    assert [1 + drafts_s[0], 6 + drafts_s[1]] == pytest.approx(held_s.tolist())


@pytest.mark.parametrize(
    ("num_prompt_tokens", "baseline_s", "speculative_s"),
    [
        (2, 1 + 1, 1 + 0.5 + 1 + 0.1),  # below the shortest
        (14, 1.5 + 1.6, (2.6 + 5.3) / 2),  # at 15 and 16
        (99, 2 + 2, 5.3),
    ],
)
def test_contexts_between_what_was_timed(num_prompt_tokens, baseline_s, speculative_s):
    """Three tokens: two steps, or one block of one draft that starts a token behind the prompt."""
    answer = make_answer(num_tokens=3, budget=3, num_prompt_tokens=num_prompt_tokens)

    found = spending([answer], [draft_scores([1, 1, 1])], HAND, 2)

    assert (baseline_s, speculative_s) == pytest.approx(
        (found.baseline_s[0], found.speculative_s[0, 1])
    )


@given(st.integers(0, 2**30), st.integers(1, 5), st.booleans())
def test_seconds_are_those_of_the_walk(seed, k, is_lookup):
    """Block by block along a walk of known drafts, with a budget, between contexts."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 30))
    budget = n + int(rng.integers(0, 4))
    answer = make_answer(num_tokens=n, budget=budget, num_prompt_tokens=int(rng.integers(1, 30)))
    hits = rng.random(n) < 0.7
    ahead = [int(np.cumprod(hits[t:]).sum()) for t in range(n)]
    found = rng.integers(0, 6, size=n) if is_lookup else np.full(n, 5)
    matching = np.minimum(found, ahead).tolist()
    scores = lookup_scores(found.tolist(), matching) if is_lookup else draft_scores(hits)
    costs = block_costs(HAND, "draft", 5, seed=0)

    def seconds(grid, length):
        return float(np.interp(length, HAND.context_lengths, grid))

    expected, place = 0.0, 1
    while place < n:
        drafts = min(k, int(found[place]), budget - place - 1)
        expected += seconds(costs.block_s[0, :, drafts], answer.num_prompt_tokens + place)
        place += min(drafts, ahead[place]) + 1
    steps = [seconds(costs.step_s[0], answer.num_prompt_tokens + t) for t in range(1, n)]

    own = spending([answer], [scores], HAND, 5)

    assert expected == pytest.approx(own.speculative_s[0, k - 1])
    assert sum(steps) == pytest.approx(own.baseline_s[0])
    assert own.part_speculative_s[0, :, 0] == pytest.approx(own.speculative_s[0])


def test_a_candidate_without_costs_is_named():
    """It is not guessed; the message says what the table has, and what to do."""
    with pytest.raises(InsufficientEvidence, match=r"'medusa', only of: draft\. Add it"):
        block_costs(HAND, "medusa", 4, seed=0)


def test_one_row_says_nothing_of_verifying():
    """v(K) is measured, never assumed to be 1."""
    one_row = replace(HAND_ROUND, verify_s=((1.0,), (2.0,)))
    table = replace(HAND, num_rows=(1,), rounds=(one_row,))

    with pytest.raises(InsufficientEvidence, match="one row alone"):
        block_costs(table, "draft", 4, seed=0)


def drawn(num_prompts, rng):
    """Prompts that differ in length and difficulty, with chances of a sampled target."""
    lengths = np.clip(np.round(np.exp(rng.normal(3.2, 0.6, size=num_prompts))), 2, 80).astype(int)
    rates = rng.beta(6, 3, size=num_prompts)
    answers = [
        make_answer(f"p{i}", num_tokens=n, budget=80, num_prompt_tokens=int(rng.integers(10, 400)))
        for i, n in enumerate(lengths.tolist())
    ]
    return answers, [
        draft_scores(rng.beta(4 * rate, 4 * (1 - rate), size=n))
        for n, rate in zip(lengths, rates, strict=True)
    ]


def speedup(answers, scores, table, k, *, seed=0):
    own = spending(answers, scores, table, k, seed=seed)
    return speedup_spread(own.baseline_s, own.speculative_s[:, k - 1], own.cost_error(k), INTERVALS)


def test_a_speedup_has_no_unit():
    """All costs times 2: the same speedup, the same error."""
    answers, scores = drawn(12, np.random.default_rng(0))
    seconds, halves = (
        make_costs({"draft": 0.1}, num_rounds=4, noise=0.05, step_s=step) for step in (0.01, 0.02)
    )

    found, same = speedup(answers, scores, seconds, 3), speedup(answers, scores, halves, 3)

    assert (found.value, found.standard_error) == pytest.approx((same.value, same.standard_error))


def test_rounds_add_their_error():
    """One round leaves the prompts' error alone, and so do equal ones; noisy ones rule it."""
    answers, scores = drawn(12, np.random.default_rng(0))
    one, equal, noisy = (
        speedup(answers, scores, make_costs({"draft": 0.1}, num_rounds=n, noise=noise), 3)
        for n, noise in ((1, 0.0), (4, 0.0), (4, 0.5))
    )

    assert (one.value, one.standard_error, one.degrees) == pytest.approx(
        (equal.value, equal.standard_error, equal.degrees)
    )
    assert noisy.standard_error > 1.1 * one.standard_error
    assert noisy.degrees < one.degrees < 11


def test_two_rounds_count_for_what_they_are():
    """The median of two is a mean: its resampled variance is half of the true one."""
    resampled = np.array([0.0, 1.0, 0.5, 0.5])

    assert 2 * resampled.var() == CostError.of(resampled, 2).variance
    assert resampled.var() == CostError.of(resampled, 3).variance


def test_answers_of_one_token_have_no_speedup():
    """There is nothing to decode after the prefill."""
    answers = [make_answer(f"p{i}", num_tokens=1, budget=1) for i in range(5)]

    found = speedup(answers, [draft_scores([1])] * 5, HAND, 2)

    assert Unmeasured(reason="no answer is longer than one token") == found


def test_parts_are_sums_over_their_answers():
    """At the medians as at every resampled table, over all and over some."""
    answers, scores = drawn(6, np.random.default_rng(0))
    costs = block_costs(make_costs({"draft": 0.1}, num_rounds=3, noise=0.1), "draft", 3, seed=0)
    parts = np.array([[1.0] * 6, [1, 0, 0, 1, 0, 0]])

    own = spend(answers, scores, costs, parts)
    some = spend([answers[0], answers[3]], [scores[0], scores[3]], costs, np.ones((1, 2)))

    assert own.part_speculative_s[0, :, 0] == pytest.approx(own.speculative_s.sum(axis=0))
    assert own.part_speculative_s[1] == pytest.approx(some.part_speculative_s[0])
    assert own.part_baseline_s[1] == pytest.approx(some.part_baseline_s[0])


@pytest.mark.slow
def test_a_predicted_speedup_is_covered():
    """Nominal 95 % over prompts and timing noise of 4 %, at 50 prompts and 5 rounds.

    300 workloads: one binomial standard error is 0.013. The truth is that of 20,000 prompts at
    costs without noise, known to 0.1 %.
    """
    true_costs = make_costs({"draft": 0.1})
    truth = speedup(*drawn(20_000, np.random.default_rng(99)), true_costs, 3).value
    hits = 0
    for seed in range(300):
        table = make_costs({"draft": 0.1}, num_rounds=5, noise=0.04, seed=seed)
        answers, scores = drawn(50, np.random.default_rng(seed))
        found = INTERVALS.around(speedup(answers, scores, table, 3, seed=seed))
        hits += found.low <= truth <= found.high

    assert 0.90 <= hits / 300 <= 0.99


@pytest.mark.parametrize("k", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("seed", range(5))
def test_break_even_says_what_the_speedup_says(seed, k):
    """Above what is needed exactly where faster: tokens per pass, τ and acceptance alike."""
    rng = np.random.default_rng(seed)
    answers, scores = drawn(6, rng)
    own = spending(answers, scores, make_costs({"draft": 0.3}, verify_slope=0.15), 6)
    counts = count_replay(answers, scores, 6).at(k)
    ratio = own.speculative_s[:, k - 1].sum() / own.baseline_s.sum()

    needed = BreakEven.of(counts, len(answers), float(ratio))

    num_tokens, num_passes = decoded(counts, len(answers))
    accepted = counts.num_accepted.sum()
    is_faster = ratio < 1
    assert is_faster == (num_tokens / num_passes > needed.tokens_per_pass)
    assert is_faster == (1 + accepted / counts.num_drafted_blocks.sum() > needed.length)
    assert is_faster == (accepted / counts.num_drafted.sum() > needed.acceptance)
    assert 1 / ratio == pytest.approx(num_tokens / num_passes / needed.tokens_per_pass)


def test_at_a_speedup_of_1_one_has_what_one_needs():
    """Truncated blocks and passes without drafts are no exception."""
    answers = [make_answer(num_tokens=9, budget=20)]
    counts = count_replay(answers, [lookup_scores([0, 3, 0, 3, 0, 0, 3, 0, 0], [3] * 9)], 3).at(3)

    needed = BreakEven.of(counts, 1, 1.0)

    num_tokens, num_passes = decoded(counts, 1)
    accepted = counts.num_accepted.sum()
    assert num_tokens / num_passes == needed.tokens_per_pass
    assert 1 + accepted / counts.num_drafted_blocks.sum() == needed.length
    assert accepted / counts.num_drafted.sum() == needed.acceptance


def test_a_lookup_that_never_drafts_has_no_tau_to_reach():
    """No drafted block, no acceptance: unknown, not zero."""
    answers = [make_answer(num_tokens=5)]
    counts = count_replay(answers, [lookup_scores([0] * 5, [0] * 5)], 2).at(2)

    needed = BreakEven.of(counts, 1, 1.1)

    assert (1.1, None, None) == (needed.tokens_per_pass, needed.length, needed.acceptance)


def test_operations_per_token_by_hand():
    """8 tokens after the first in 2 passes of 4 rows; 6 drafts of a tenth of the target's."""
    answers = [make_answer(num_tokens=9, budget=9)]
    counts = count_replay(answers, [draft_scores([1] * 9)], 3).at(3)
    facts = CandidateFacts(name="draft", num_flops_per_draft=0.1)

    assert (4 + 4 + 6 * 0.1) / 8 == pytest.approx(flops_ratio(counts, 1, facts, 1.0))


def test_the_tables_own_ratios():
    """v(K) from K = 0 at each context; c from the longest block at the middle one."""
    lines = cost_lines(HAND, 2)

    assert [(10, 1.0), (20, 2.0)] == [(line.context_length, line.step_s) for line in lines]
    assert [(1, 2, 3), (1, 2, 3)] == [line.verify_ratios for line in lines]
    assert 1.6 / 2 / 2 == draft_ratio(HAND, "draft")
