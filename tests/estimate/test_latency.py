from dataclasses import replace

import numpy as np
import pytest

from specmeasure.estimate import latency
from specmeasure.estimate.intervals import MIN_PROMPTS, Intervals
from specmeasure.estimate.latency import times
from specmeasure.records.estimates import Costs, Unmeasured
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
    simulated_trace,
)

INTERVALS = Intervals()


def prompts_of(*seconds, num_tokens=5, **changes):
    """Four prompts for each decode time, all with as many tokens after the first."""
    blocks = [make_block(0, 0)] * num_tokens
    trials = [make_trial("p", *blocks, decode_s=decode_s, **changes) for decode_s in seconds * 4]
    return times([[trial] for trial in trials])


def trials_of(trace, arm):
    return [trial for trial in trace.trials if trial.key.arm == arm]


def test_a_fast_short_answer_weighs_little():
    """10 s → 10 s and 1 s → 0.25 s are 1.07 times faster by the stopwatch, not 2.5 times."""
    found = latency.decode_speedup(prompts_of(10, 1), prompts_of(10, 0.25), INTERVALS)

    assert 11 / 10.25 == pytest.approx(found.value, rel=1e-12)
    assert "1.07" == f"{found.value:.2f}"


def test_answers_of_other_lengths_compare_seconds_per_token():
    """Sampled arms emit different texts: 10 s for 20 tokens against 6 s for 24 is twice as fast."""
    found = latency.decode_speedup(
        prompts_of(5, 5, num_tokens=10), prompts_of(3, 3, num_tokens=12), INTERVALS
    )

    assert 2.0 == pytest.approx(found.value, rel=1e-12)


def test_the_median_prompt_may_differ_from_the_sum():
    """The median of 1×, 4× and 2× is 2×, whatever their lengths."""
    found = latency.median_prompt_speedup(
        prompts_of(10, 1, 4), prompts_of(10, 0.25, 2), replace(INTERVALS, num_resamples=200)
    )

    assert 2.0 == pytest.approx(found.value)


def test_share_slower_counts_prompts():
    """A quarter of the prompts lost time; a prompt at the same speed did not."""
    found = latency.share_slower(prompts_of(1, 1, 1, 1), prompts_of(2, 1, 0.5, 0.9), INTERVALS)

    assert (0.25, 16) == (found.value, found.num_clusters)


def test_prompt_speedups_are_sorted():
    """Every prompt once, slowest first, so that none can be told by its place."""
    found = latency.prompt_speedups(prompts_of(1, 4, 1), prompts_of(2, 1, 1))

    assert sorted(found) == list(found)
    assert [0.5, 1.0, 4.0] == pytest.approx(sorted(set(found)))


def test_end_to_end_counts_both_prefills():
    """(10 + 2) s against (5 + 3) s is 1.5, where decoding alone is 2."""
    baseline, arm = prompts_of(10, 10, ttft_s=2.0), prompts_of(5, 5, ttft_s=3.0)

    assert 1.5 == pytest.approx(latency.end_to_end_speedup(baseline, arm, INTERVALS).value)
    assert 2.0 == pytest.approx(latency.decode_speedup(baseline, arm, INTERVALS).value)


def test_tpot_leaves_the_first_token_out():
    """Σ 3 s over Σ 10 tokens after the first."""
    assert 0.3 == pytest.approx(latency.tpot(prompts_of(1, 2), INTERVALS).value)


def test_one_token_answers_have_no_decode_time():
    """Where every answer is one token long, there is no speedup, not a speedup of 1."""
    short = prompts_of(0.0, 0.0, num_tokens=0)

    found = latency.decode_speedup(short, short, INTERVALS)

    assert Unmeasured(reason="no answer was longer than one token") == found
    assert Unmeasured(reason="nothing was counted") == latency.tpot(short, INTERVALS)
    assert isinstance(latency.median_prompt_speedup(short, short, INTERVALS), Unmeasured)


@pytest.mark.parametrize("num_prompts", range(1, MIN_PROMPTS))
def test_few_prompts_have_no_speedup(num_prompts):
    """A speedup over a few prompts has no interval, so it is unmeasured."""
    few = times([[make_trial("p", make_block(4, 4))]] * num_prompts)

    for estimator in (
        latency.decode_speedup,
        latency.end_to_end_speedup,
        latency.median_prompt_speedup,
        latency.share_slower,
    ):
        assert f"this has {num_prompts}" in estimator(few, few, INTERVALS).reason


def test_times_are_summed_by_prompt():
    """Turns and repeats of a prompt add up; TTFT is their mean."""
    trials = [make_trial("p0", make_block(4, 3), decode_s=s, ttft_s=s / 10) for s in (1.0, 3.0)]

    found = times([trials])

    assert [4.0] == found.decode_s.tolist()
    assert [8] == found.num_decoded.tolist()
    assert [10] == found.num_emitted.tolist()
    assert [pytest.approx(0.2)] == found.ttft_s.tolist()
    assert [pytest.approx(4.4)] == found.total_s.tolist()


def test_costs_by_hand():
    """1 s a baseline step; per pass 1.5 s verifying, 2 drafts of 0.2 s, 0.1 s of the rest."""
    baseline = [make_trial("p0", *[make_block(0, 0)] * 6, decode_s=6.0)]
    arm = [make_trial("p0", *[make_block(2, 2, draft_s=0.4, verify_s=1.5)] * 2, decode_s=4.0)]

    found = latency.costs(baseline, arm)

    assert 1.0 == found.target_step_s
    assert 0.2 == pytest.approx(found.draft_ratio)
    assert 1.5 == pytest.approx(found.verify_ratio)
    assert 0.1 == pytest.approx(found.overhead_ratio)
    assert 0.2 / 4 == pytest.approx(found.overhead_share)
    assert 3.0 == found.tokens_per_pass
    assert 2.0 == pytest.approx(found.break_even_tokens_per_pass)


@pytest.mark.parametrize("seed", range(5))
def test_tokens_per_pass_over_break_even_is_the_speedup(seed):
    """The cost model explains the stopwatch to the last digit, not about."""
    trace = simulated_trace(8, seed=seed)
    baseline, arm = trials_of(trace, "baseline"), trials_of(trace, "draft k=4")

    found = latency.costs(baseline, arm)
    speedup = latency.decode_speedup(
        times([[trial] for trial in baseline]), times([[trial] for trial in arm]), INTERVALS
    )

    assert isinstance(found, Costs)
    assert found.tokens_per_pass / found.break_even_tokens_per_pass == pytest.approx(
        speedup.value, rel=1e-12
    )


@pytest.mark.parametrize("seed", range(5))
def test_break_even_is_the_sum_of_its_parts(seed):
    """v + c · drafts per pass + o."""
    trace = simulated_trace(8, seed=seed)
    arm = trials_of(trace, "draft k=4")
    blocks = [block for trial in arm for block in trial.blocks[1:]]
    drafts_per_pass = sum(block.num_draft_tokens for block in blocks) / len(blocks)

    found = latency.costs(trials_of(trace, "baseline"), arm)

    assert found.break_even_tokens_per_pass == pytest.approx(
        found.verify_ratio + found.draft_ratio * drafts_per_pass + found.overhead_ratio, rel=1e-12
    )


def test_costs_find_the_machine():
    """On a machine without noise, c and o come back as they were set, and v where all passes draft.

    Lengths of 1 + 5 n and a sure draft leave no pass without drafts.
    """
    machine = Machine(draft_ratio=0.07, verify_ratio=1.4, overhead_ratio=0.03, noise=0.0)
    traffic = Traffic(lengths=(6, 11, 16), acceptance_rates=(1.0,))
    engine = FakeEngine(plan=make_plan(), traffic=traffic, machine=machine)
    trace = recorded_trace(engine, make_prompts(6))

    found = latency.costs(trials_of(trace, "baseline"), trials_of(trace, DRAFT_4.name))

    assert [0.010, 0.07, 1.4, 0.03, 5.0] == pytest.approx(
        [
            found.target_step_s,
            found.draft_ratio,
            found.verify_ratio,
            found.overhead_ratio,
            found.tokens_per_pass,
        ]
    )


def test_costs_without_drafts_have_no_draft_ratio():
    """A proposer that never spoke has no price per draft: absent, not 0."""
    trial = make_trial("p0", make_block(0, 0, verify_s=1.0), decode_s=1.5)

    found = latency.costs([trial], [trial])

    assert None is found.draft_ratio
    assert 1.0 == found.break_even_tokens_per_pass


def test_costs_need_a_second_token():
    """Nothing is decoded in an answer of one token."""
    trial = make_trial("p0", decode_s=0.0)

    assert isinstance(latency.costs([trial], [trial]), Unmeasured)


def test_no_prompts_have_no_times():
    """An arm without trials has arrays without rows."""
    assert 0 == np.size(times([]).decode_s)
