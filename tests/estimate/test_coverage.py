"""Do 95 % intervals cover the truth 95 times in 100? On simulated traffic, at fixed seeds.

Answer lengths are heavy-tailed and prompts differ in difficulty; true values are exact
(``tests.fakes.truth``). Over 1600 other workloads, counted to ± 0.008, the speedup's intervals
cover 0.89 with 8 prompts, 0.918 with 20 and 0.927 with 50. Over the 400 here the binomial standard
error of such a count is 0.016, 0.014 and 0.013, so each floor stands 1.3 to 2 errors below: 0.87,
0.90, 0.90. The ceiling of 0.98 is 0.95 + 2.8 errors: wider intervals would waste prompts.
"""

import numpy as np
import pytest

from specmeasure.estimate import acceptance, latency
from specmeasure.estimate.intervals import Intervals
from specmeasure.records.plan import BASELINE, DecodeSettings
from specmeasure.records.trace import TrialRecord
from tests.fakes import (
    DRAFT_4,
    FakeEngine,
    Machine,
    Traffic,
    make_plan,
    make_prompts,
    make_trial,
    truth,
)

NUM_WORKLOADS = 400
FLOORS = {8: 0.87, 20: 0.90, 50: 0.90}  # by number of prompts
CEILING = 0.98
INTERVALS = Intervals()
PLAN = make_plan(BASELINE, DRAFT_4)
SETTINGS = DecodeSettings(max_new_tokens=PLAN.max_new_tokens)
TRUTH = truth(PLAN, DRAFT_4, Traffic(), Machine())


@pytest.fixture(scope="module")
def workloads():
    """400 workloads of 50 prompts, each with its baseline's and its draft arm's trials."""
    prompts = make_prompts(max(FLOORS))
    return [answers(FakeEngine(plan=PLAN, seed=seed), prompts) for seed in range(NUM_WORKLOADS)]


def answers(engine, prompts):
    """Times of both arms and the draft arm's counts, prompt by prompt."""
    contexts = [engine.context_ids(prompt, []) for prompt in prompts]
    baseline, draft = ([[trial(engine, ids, arm)] for ids in contexts] for arm in PLAN.arms)
    return latency.times(baseline), latency.times(draft), acceptance.count_acceptance(draft, 4)


def trial(engine, context_ids, arm) -> TrialRecord:
    seen = engine.observe(context_ids, arm, SETTINGS)
    return make_trial(
        "p",
        blocks=seen.blocks,
        num_emitted_tokens=len(seen.token_ids),
        decode_s=seen.decode_s,
        ttft_s=seen.ttft_s,
    )


def first(record, num_prompts):
    """A workload's arrays, as if it had this many prompts."""
    return type(record)(
        **{name: getattr(record, name)[:num_prompts] for name in record.__dataclass_fields__}
    )


def coverage(intervals, true_value):
    return float(np.mean([one.low <= true_value <= one.high for one in intervals]))


@pytest.mark.slow
@pytest.mark.parametrize("num_prompts", FLOORS)
def test_decode_speedup_is_covered(workloads, num_prompts):
    """The interval of a ratio of sums over heavy-tailed answers holds the true speedup."""
    found = [
        latency.decode_speedup(first(base, num_prompts), first(arm, num_prompts), INTERVALS)
        for base, arm, _ in workloads
    ]

    assert FLOORS[num_prompts] <= coverage(found, TRUTH.decode_speedup) <= CEILING


@pytest.mark.slow
@pytest.mark.parametrize("num_prompts", FLOORS)
def test_draft_acceptance_rate_is_covered(workloads, num_prompts):
    """The interval of the acceptance rate holds the true rate."""
    found = [
        acceptance.draft_acceptance_rate(first(counts, num_prompts), INTERVALS)
        for _, _, counts in workloads
    ]

    assert FLOORS[num_prompts] <= coverage(found, TRUTH.draft_acceptance_rate) <= CEILING


@pytest.mark.slow
@pytest.mark.parametrize("num_prompts", FLOORS)
def test_tau_is_covered(workloads, num_prompts):
    """The interval of τ holds the true τ."""
    found = [
        acceptance.mean_acceptance_length(first(counts, num_prompts), INTERVALS)
        for _, _, counts in workloads
    ]

    assert FLOORS[num_prompts] <= coverage(found, TRUTH.mean_acceptance_length) <= CEILING


@pytest.mark.slow
def test_estimates_are_not_far_off(workloads):
    """All 20 000 prompts together meet the truth to within 2 %, which is 3 standard errors."""
    tops = [sum(base.decode_s.sum() for base, _, _ in workloads)]
    bottoms = [sum(arm.decode_s.sum() for _, arm, _ in workloads)]
    tops.append(sum(counts.num_accepted.sum() for *_, counts in workloads))
    bottoms.append(sum(counts.num_drafted.sum() for *_, counts in workloads))

    assert [TRUTH.decode_speedup, TRUTH.draft_acceptance_rate] == pytest.approx(
        [top / bottom for top, bottom in zip(tops, bottoms, strict=True)], rel=0.02
    )
