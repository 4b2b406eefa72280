"""Acceptance by how much a server reveals."""

from dataclasses import replace

import numpy as np
import pytest

from specmeasure.estimate.drafting import drafting, rate_and_length
from specmeasure.estimate.intervals import Intervals
from specmeasure.records.estimates import Interval, Unmeasured
from specmeasure.records.plan import TrialKey
from specmeasure.records.serving import Evidence, Load
from specmeasure.records.trace import DraftCounts, TrialRecord
from tests.simulated_load import KEEP, counts_of, true_length

WINDOWS = Intervals(cluster="window")
AT_4 = Load(concurrency=4)
MOST = len(KEEP)
NUM_WINDOWS, NUM_EACH = 10, 6


def requests(evidence, *, seed=0, is_cut=False, misses=0.0):
    """[windows][requests] of 60 tokens each, and their windows' counters.

    Cut ones get fewer drafts near their end, as llama.cpp's; missing ones have passes without.
    """
    rng = np.random.default_rng(seed)
    rows, counters = [], []
    for group in range(NUM_WINDOWS):
        answers = [_steps(rng, is_cut=is_cut, misses=misses) for _ in range(NUM_EACH)]
        tells = evidence in {Evidence.BLOCKS, Evidence.HISTOGRAM}
        rows.append(
            [
                _request(f"p{group}.{n}", group, counts_of(one, evidence) if tells else None)
                for n, one in enumerate(answers)
            ]
        )
        counters.append(counts_of([step for one in answers for step in one], Evidence.COUNTERS))
    return rows, counters if evidence is Evidence.COUNTERS else None


def _steps(rng, *, is_cut, misses):
    left, steps = 59, []
    while left > 0:
        if rng.random() < misses:
            left -= 1
            continue
        drafted = min(MOST, left - 1) if is_cut else MOST
        kept = next((i for i in range(drafted) if rng.random() >= KEEP[i]), drafted)
        if drafted:
            steps.append((drafted, kept))
        left -= kept + 1
    return steps


def _request(prompt_id, group, counts, num_emitted=60):
    key = TrialKey(prompt_id=prompt_id, turn=0, repeat=0, arm="draft k=4", load=AT_4)
    return TrialRecord(
        key=key,
        prompt_hash="h",
        labels={"category": "chat"},
        num_emitted_tokens=num_emitted,
        ttft_s=0.1,
        decode_s=1.0,
        group=group,
        counts=counts,
    )


def found(evidence, **changes):
    rows, counters = requests(evidence, **changes)
    return drafting(rows, MOST, WINDOWS, counters=counters)


@pytest.mark.parametrize("evidence", [Evidence.HISTOGRAM, Evidence.COUNTERS])
def test_the_same_blocks_give_the_same_estimates(evidence):
    """Steps, histograms and counters of windows: one rate, one τ, one curve, one interval."""
    blocks, own = found(Evidence.BLOCKS), found(evidence)

    assert blocks.draft_acceptance_rate == own.draft_acceptance_rate
    assert blocks.mean_acceptance_length == own.mean_acceptance_length
    assert blocks.acceptance_survival == own.acceptance_survival
    assert blocks.conditional_acceptance == own.conditional_acceptance


@pytest.mark.parametrize("evidence", [Evidence.BLOCKS, Evidence.HISTOGRAM, Evidence.COUNTERS])
def test_intervals_hold_the_truth(evidence):
    """τ and every position's chance, by windows."""
    own = found(evidence)

    assert own.mean_acceptance_length.low <= true_length() <= own.mean_acceptance_length.high
    for chance, one in zip(KEEP, own.conditional_acceptance, strict=True):
        assert one.low <= chance <= one.high
        assert ("window", NUM_WINDOWS) == (one.cluster, one.num_clusters)


@pytest.mark.parametrize("evidence", [Evidence.HISTOGRAM, Evidence.COUNTERS])
@pytest.mark.parametrize("seed", range(5))
def test_short_last_blocks_widen_the_curves(evidence, seed):
    """Drafts shortened at the budget, in blocks nobody names: the curve keeps all that can be."""
    exact, own = (found(one, is_cut=True, seed=seed) for one in (Evidence.BLOCKS, evidence))

    assert exact.mean_acceptance_length == own.mean_acceptance_length
    for known, bounded in zip(exact.acceptance_survival, own.acceptance_survival, strict=True):
        assert bounded.low < known.value < bounded.high
    assert exact.acceptance_survival[-1].high < own.acceptance_survival[-1].high


def test_where_many_blocks_were_short_positions_are_unmeasured():
    """τ needs no positions; the curve says why there is none."""
    rows, _ = requests(Evidence.BLOCKS)
    short = DraftCounts(num_draft_tokens=40, num_accepted_tokens=10, histogram=(10, 10))
    own = drafting([[replace(t, counts=short) for t in row] for row in rows], MOST, WINDOWS)

    assert 1.5 == own.mean_acceptance_length.value
    assert "fewer than K = 4 drafts" in own.acceptance_survival[0].reason
    assert MOST == len(own.conditional_acceptance)


def test_sums_of_requests_give_the_rate_alone():
    """Drafted and accepted by request, as llama.cpp's timings: no blocks, so no τ."""
    rows, _ = requests(Evidence.BLOCKS)
    sums = [[replace(trial, counts=_sums(trial.counts)) for trial in row] for row in rows]
    own = drafting(sums, MOST, WINDOWS)

    assert found(Evidence.BLOCKS).draft_acceptance_rate == own.draft_acceptance_rate
    assert "does not count the blocks" in own.mean_acceptance_length.reason
    assert isinstance(own.acceptance_survival[0], Unmeasured)


def test_windows_complete_what_requests_leave_open():
    """Sums by request beside counters of windows: τ and the curve come from the windows."""
    rows, _ = requests(Evidence.BLOCKS)
    sums = [[replace(trial, counts=_sums(trial.counts)) for trial in row] for row in rows]
    _, counters = requests(Evidence.COUNTERS)
    blocks, own = found(Evidence.BLOCKS), drafting(sums, MOST, WINDOWS, counters=counters)

    assert blocks.mean_acceptance_length == own.mean_acceptance_length
    assert blocks.acceptance_survival == own.acceptance_survival


@pytest.mark.parametrize("misses", [0.0, 0.4])
def test_passes_without_drafts_are_found_from_the_tokens(misses):
    """Each pass emits its accepted drafts and one more: blocks need not be told."""
    rows, _ = requests(Evidence.BLOCKS, is_cut=True, misses=misses)
    sums = [[replace(trial, counts=_sums(trial.counts)) for trial in row] for row in rows]
    emitted = 60 * NUM_WINDOWS * NUM_EACH
    accepted = sum(trial.counts.num_accepted_tokens for row in rows for trial in row)

    assert emitted / (emitted - accepted) == pytest.approx(
        drafting(sums, MOST, WINDOWS).tokens_per_target_pass.value
    )


@pytest.mark.parametrize("num_blocks", [2, None])
def test_a_last_block_counted_whole_adds_no_tokens(num_blocks):
    """Two blocks of four and the prefill, of an answer of eight: three passes, not fewer."""
    counts = DraftCounts(num_draft_tokens=8, num_accepted_tokens=8, num_drafted_blocks=num_blocks)
    rows = [[_request(f"p{n}", n, counts, num_emitted=8)] for n in range(NUM_WINDOWS)]

    assert 8 / 3 == pytest.approx(drafting(rows, MOST, WINDOWS).tokens_per_target_pass.value)


def test_a_server_that_tells_nothing_is_not_measured():
    """Neither 0 nor 1: a reason, at every place."""
    own = found(Evidence.NONE)
    everything = [
        own.draft_acceptance_rate,
        own.mean_acceptance_length,
        own.tokens_per_target_pass,
        *own.acceptance_survival,
        *own.conditional_acceptance,
    ]

    assert {Unmeasured(reason="the server tells nothing of its drafts")} == set(everything)


def test_counters_that_are_not_ours_are_not_used():
    """Their drafts are somebody else's, too; what requests tell stands."""
    rows, _ = requests(Evidence.BLOCKS)
    sums = [[replace(trial, counts=_sums(trial.counts)) for trial in row] for row in rows]
    untold, _ = requests(Evidence.NONE)
    nothing, rate = (drafting(one, MOST, WINDOWS, counters=[]) for one in (untold, sums))

    assert "not those of this run's requests" in nothing.draft_acceptance_rate.reason
    assert "not those of this run's requests" in rate.mean_acceptance_length.reason
    assert "not those of this run's requests" in rate.acceptance_survival[-1].reason
    assert isinstance(rate.draft_acceptance_rate, Interval)


def test_counters_of_windows_do_not_tell_slices():
    """A part of the requests has its acceptance from its own counts, or none."""
    told, _ = requests(Evidence.HISTOGRAM)
    untold, _ = requests(Evidence.COUNTERS)
    rate, length = rate_and_length(told, WINDOWS)

    assert (Interval, Interval) == (type(rate), type(length))
    assert all(isinstance(one, Unmeasured) for one in rate_and_length(untold, WINDOWS))


def _sums(counts):
    return DraftCounts(
        num_draft_tokens=counts.num_draft_tokens, num_accepted_tokens=counts.num_accepted_tokens
    )
