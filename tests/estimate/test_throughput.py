"""Tokens and requests per second, window by window."""

from dataclasses import replace

import pytest

from specmeasure.estimate.goodput import keeps_to
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.throughput import arm_under_load
from specmeasure.records.estimates import Interval
from specmeasure.records.plan import BASELINE, TrialKey
from specmeasure.records.serving import Load, Serving, ServingEngine, Slo
from specmeasure.records.trace import Trace, TrialRecord, WindowKey, WindowRecord
from tests.fakes import DRAFT_4, make_manifest, make_plan

AT_4 = Load(concurrency=4)
WINDOWS = Intervals(cluster="window")
NUM_WINDOWS = 8
SLO = Slo(ttft_s=0.5, tpot_s=0.1)


def request(group=0, number=0, arm=DRAFT_4, **changes):
    """Eleven tokens in 1.2 seconds."""
    values = {"num_emitted_tokens": 11, "ttft_s": 0.2, "decode_s": 1.0, "num_retries": 0}
    return TrialRecord(
        key=TrialKey(prompt_id=f"{group}.{number}", turn=0, repeat=0, arm=arm.name, load=AT_4),
        prompt_hash="h",
        labels={},
        group=group,
        **{**values, **changes},
    )


def window(group, arm=DRAFT_4, *, duration_s=2.0, num_emitted=110, mean_in_flight=4.0):
    return WindowRecord(
        key=WindowKey(load=AT_4, group=group, arm=arm.name),
        duration_s=duration_s,
        num_emitted_tokens=num_emitted,
        mean_in_flight=mean_in_flight,
        counters=None,
        num_counted_tokens=None,
        memory_bytes=None,
    )


def found(trials, windows, *, slo=SLO, arm=DRAFT_4):
    serving = Serving(engine=ServingEngine.OPENAI, loads=(AT_4,), slo=slo)
    manifest = make_manifest(make_plan(BASELINE, DRAFT_4, serving=serving), [])
    trace = Trace(manifest=manifest, trials=tuple(trials), sealed=True, windows=tuple(windows))
    return arm_under_load(trace, arm, WINDOWS)


def a_run(*, is_good=lambda group, arm: True, missing=()):  # noqa: ARG005
    """Windows of ten requests; the baseline's take 3 s, the arm's 2 s."""
    trials, windows = [], []
    for group in range(NUM_WINDOWS):
        for arm in (BASELINE, DRAFT_4):
            wait = 0.2 if is_good(group, arm) else 0.6
            trials += [request(group, n, arm, ttft_s=wait) for n in range(10)]
            if (group, arm) not in missing:
                windows.append(window(group, arm, duration_s=3.0 if arm.is_baseline else 2.0))
    return trials, windows


def test_rates_are_sums_over_seconds():
    """110 tokens and ten requests in each 2 s; 1.5 times the baseline's 3 s."""
    own = found(*a_run())

    assert (55.0, 5.0, 1.0) == (own.tokens_per_s.value, own.goodput.value, own.slo_share.value)
    assert (1.5, 1.5) == (own.throughput_ratio.value, own.goodput_ratio.value)
    assert ("window", NUM_WINDOWS) == (own.tokens_per_s.cluster, own.tokens_per_s.num_clusters)


def test_the_baseline_has_no_ratio():
    """It would be 1."""
    own = found(*a_run(), arm=BASELINE)

    assert (None, None) == (own.throughput_ratio, own.goodput_ratio)
    assert 110 / 3 == pytest.approx(own.tokens_per_s.value)


def test_without_an_objective_there_is_no_goodput():
    """Nobody said what is good."""
    own = found(*a_run(), slo=None)

    assert (None, None, None) == (own.goodput, own.slo_share, own.goodput_ratio)
    assert isinstance(own.throughput_ratio, Interval)


def test_failed_requests_miss_the_objective():
    """One of ten failed in every window: nine are good."""
    trials, windows = a_run()
    failed = [
        replace(one, error="HTTP 500") if one.key.prompt_id.endswith(".3") else one
        for one in trials
    ]
    own = found(failed, windows)

    assert (4.5, 0.9) == (own.goodput.value, pytest.approx(own.slo_share.value))


def test_ratios_take_the_windows_that_both_finished():
    """A group that one arm has no window of is compared with nothing."""
    own = found(*a_run(missing=[(0, BASELINE), (1, DRAFT_4)]))

    assert NUM_WINDOWS - 2 == own.throughput_ratio.num_clusters
    assert NUM_WINDOWS - 1 == own.tokens_per_s.num_clusters


def test_where_hardly_any_request_is_good_there_is_no_ratio():
    """Nothing is divided by nothing."""
    none_of_baseline = found(*a_run(is_good=lambda _, arm: not arm.is_baseline))
    none_of_arm = found(*a_run(is_good=lambda group, arm: arm.is_baseline or group == 0))

    assert "hardly any of the baseline's" in none_of_baseline.goodput_ratio.reason
    assert "hardly any of this arm's" in none_of_arm.goodput_ratio.reason
    assert 0.125 == none_of_arm.slo_share.value


def test_requests_in_flight_are_a_mean_over_time():
    """Three seconds with four and one with two are 3.5."""
    windows = [window(0, duration_s=3.0), window(1, duration_s=1.0, mean_in_flight=2.0)]

    assert 3.5 == found([request()], windows).mean_in_flight


def test_an_arm_without_windows_says_so():
    """Neither 0 tokens nor 0 requests in flight."""
    own = found([request(num_retries=2), request(number=1, num_retries=None)], [])

    assert "no window" in own.tokens_per_s.reason
    assert "no window" in own.goodput.reason
    assert "beside the baseline" in own.throughput_ratio.reason
    assert (None, 2) == (own.mean_in_flight, own.num_retries)


def test_tokens_that_nobody_counted_are_not_zero():
    """A server that does not say how many tokens it sent has no tokens per second."""
    trials, windows = a_run()
    untold = [replace(trial, num_emitted_tokens=None) for trial in trials]
    own = found(untold, [replace(one, num_emitted_tokens=0) for one in windows])

    assert "does not say how many tokens" in own.tokens_per_s.reason
    assert "beside the baseline" in own.throughput_ratio.reason


@pytest.mark.parametrize(
    ("slo", "changes", "expected"),
    [
        (SLO, {}, True),
        (SLO, {"ttft_s": 0.5, "decode_s": 1.0}, True),
        (SLO, {"ttft_s": 0.51}, False),
        (SLO, {"decode_s": 1.01}, False),
        (SLO, {"num_emitted_tokens": 1, "decode_s": 0.0}, True),
        (SLO, {"num_emitted_tokens": None}, False),
        (Slo(ttft_s=0.5), {"num_emitted_tokens": None}, True),
        (Slo(end_to_end_s=1.2), {}, True),
        (Slo(end_to_end_s=1.1), {}, False),
        (SLO, {"error": "no", "ttft_s": None, "decode_s": None}, False),
    ],
)
def test_a_request_keeps_to_every_limit(slo, changes, expected):
    """At the limit is kept; one token has no time per further one; the unknown keeps to none."""
    assert expected == keeps_to(request(**changes), slo)
