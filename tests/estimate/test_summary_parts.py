"""What the summary adds to an arm's estimates beside speed and acceptance."""

from dataclasses import replace

import pytest

from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.summary import estimate
from specmeasure.records.estimates import (
    Accuracy,
    Drift,
    Interval,
    Quantiles,
    Steadiness,
    Unmeasured,
)
from specmeasure.records.plan import (
    BASELINE,
    BASELINE_AGAIN,
    AnswerCheck,
    TypicalAcceptance,
)
from tests.fakes import (
    DRAFT_4,
    FakeEngine,
    make_plan,
    make_prompts,
    recorded_trace,
)

LOSSY = replace(DRAFT_4, name="draft k=4 typical", lossy=TypicalAcceptance())
PLAN = make_plan(
    BASELINE, DRAFT_4, LOSSY, BASELINE_AGAIN, answer_check=AnswerCheck.CONTAINS, max_new_tokens=40
)


@pytest.fixture(scope="module")
def found():
    """A run of 80 prompts, the odd ones with a reference."""
    prompts = [
        replace(prompt, references=("w1",) if n % 2 else ())
        for n, prompt in enumerate(make_prompts(80))
    ]
    return estimate(recorded_trace(FakeEngine(plan=PLAN), prompts), Intervals())


def test_lossy_arms_alone_drift(found):
    """A strict arm's output is audited, a lossy arm's drift is measured as well."""
    strict, lossy = found.arms

    assert strict.drift is None
    assert isinstance(lossy.drift, Drift)
    assert found.baseline.drift is None


def test_graded_arms_have_an_accuracy(found):
    """Every speculative arm beside the baseline, over the prompts with references."""
    for arm in found.arms:
        assert isinstance(arm.accuracy, Accuracy)
        assert 40 == arm.accuracy.num_answers
        assert arm.accuracy.baseline.value == arm.accuracy.arm.value
    assert found.baseline.accuracy is None


def test_every_arm_has_quantiles(found):
    """p50 and p95 from 80 requests, p99 not; end to end is more than either part."""
    for arm in (found.baseline, *found.arms):
        ttft, whole = arm.ttft_quantiles, arm.end_to_end_quantiles
        assert isinstance(ttft, Quantiles)
        assert isinstance(whole, Quantiles)
        assert isinstance(ttft.p95, Interval)
        assert isinstance(ttft.p99, Unmeasured)
        assert ttft.p50.value < ttft.p95.value < whole.p95.value


def test_the_machines_pace_is_told(found):
    """One cycle for each prompt; the fake machine is steady."""
    assert isinstance(found.steadiness, Steadiness)
    assert 80 == len(found.steadiness.pace)
    assert () == found.steadiness.steps


def test_an_arm_without_answers_has_no_quantiles():
    """All of its trials failed: unmeasured as a whole."""
    engine = FakeEngine(
        plan=make_plan(),
        failures={f"p{n}": RuntimeError("no") for n in range(8)},
        failing_arms=frozenset({DRAFT_4.name}),
    )
    arm = estimate(recorded_trace(engine, make_prompts(8)), Intervals()).arms[0]

    assert isinstance(arm.ttft_quantiles, Unmeasured)
    assert arm.accuracy is None
