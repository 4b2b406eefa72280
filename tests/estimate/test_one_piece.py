"""Streams that arrive at once are told from streams that are fast."""

from dataclasses import replace

import numpy as np
import pytest

from specmeasure.estimate.load_curve import load_curve
from specmeasure.estimate.one_piece import in_one_piece
from specmeasure.records.plan import BASELINE, Arm, Method
from tests.estimate.streams import Engine, lumped, streamed_trace
from tests.fakes import DRAFT_4, FakeEngine, make_plan, make_prompts, recorded_trace
from tests.simulated_load import Server, serving_trace

NGRAM_16 = Arm(
    name="ngram k=16",
    method=Method.NGRAM,
    num_speculative_tokens=16,
    max_ngram=4,
    min_ngram=2,
)
ATTACHED = Arm(name="speculative", method=Method.SERVED, num_speculative_tokens=1)
LARGE, SMALL = Engine(), Engine(pass_s=0.0006, token_s=0.0001, prompt_token_s=0.00001)
CROWDED = Engine(pass_s=0.001, token_s=0.001)  # as slow as all requests one after the other


@pytest.mark.parametrize("engine", [LARGE, SMALL, CROWDED], ids=["large", "small", "crowded"])
@pytest.mark.parametrize("chance", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("concurrency", [1, 4, 16])
@pytest.mark.parametrize("arm", [DRAFT_4, NGRAM_16], ids=str)
def test_fast_streams_are_no_lumps(engine, chance, concurrency, arm):
    """All of 16 drafts kept, windows that run out, tiny models: each streams, none is flagged."""
    trace = streamed_trace(engine, arm, chance=chance, concurrency=concurrency, seed=0)

    assert frozenset() == in_one_piece(trace)


def test_a_server_that_does_not_tell_k_may_draft_many():
    """The plan's K of an attached server is no more than a word."""
    told = streamed_trace(LARGE, NGRAM_16, chance=1.0, concurrency=4, seed=0)
    plan = told.manifest.plan
    renamed = tuple(
        one
        if one.key.arm == BASELINE.name
        else replace(one, key=replace(one.key, arm="speculative"))
        for one in told.trials
    )
    manifest = replace(told.manifest, plan=replace(plan, arms=(BASELINE, ATTACHED)))

    assert frozenset() == in_one_piece(replace(told, manifest=manifest, trials=renamed))


@pytest.mark.parametrize("share", [0.02, 0.33, 0.66])
@pytest.mark.parametrize("which", [BASELINE.name, DRAFT_4.name])
def test_lumps_are_found(share, which):
    """One in fifty, a third, two thirds of an arm's answers: all of eight tokens or more."""
    trace = streamed_trace(LARGE, DRAFT_4, chance=0.6, concurrency=4, seed=1)
    trace, expected = with_lumps(trace, which, share)

    assert expected == in_one_piece(trace)
    assert expected


def test_a_path_that_buffers_everything_is_found():
    """Where no answer is streamed there is nothing to compare with: no server is that fast."""
    trace = streamed_trace(LARGE, DRAFT_4, chance=0.6, concurrency=4, seed=1)
    everything, _ = with_lumps(trace, BASELINE.name, 1.0)
    everything, _ = with_lumps(everything, DRAFT_4.name, 1.0)
    found = [key for key in in_one_piece(everything) if key.arm == BASELINE.name]
    long = [one for one in trace.trials if one.num_emitted_tokens >= 8]

    assert sum(one.key.arm == BASELINE.name for one in long) == len(found)


def test_in_process_nothing_arrives():
    """No load, no stream."""
    trace = recorded_trace(FakeEngine(plan=make_plan()), make_prompts(2))

    assert frozenset() == in_one_piece(trace)


@pytest.fixture(scope="module")
def curves():
    """The same run as it was streamed, and with a fifth of the baseline's answers in one piece."""
    trace = serving_trace(Server(speedups={1: 1.5}))
    lumps, keys = with_lumps(trace, BASELINE.name, 0.2)
    return (*(load_curve(one, seed=0, level=0.95).points[0] for one in (trace, lumps)), len(keys))


def test_speeds_leave_lumps_out(curves):
    """A fifth without decode time would make the baseline a fifth faster; it does not."""
    streamed, lumps, _ = curves
    before, after = (one.estimates.arms[0].decode_speedup for one in (streamed, lumps))

    assert after.low <= 1.5 <= after.high
    assert after.value == pytest.approx(before.value, rel=0.06)
    for one in (streamed, lumps):
        assert one.estimates.baseline.tpot_s.value == pytest.approx(0.01, rel=0.06)
        assert one.estimates.baseline.ttft_s.value == pytest.approx(0.05)
    assert lumps.estimates.noise_floor.value == pytest.approx(1.0, abs=0.08)


def test_whole_requests_count_lumps(curves):
    """How long a request took is known, and so are end-to-end speed and throughput."""
    streamed, lumps, _ = curves
    whole = [
        (
            one.estimates.arms[0].end_to_end_speedup.value,
            one.estimates.baseline.end_to_end_quantiles.p50.value,
            one.baseline.tokens_per_s.value,
            one.estimates.arms[0].num_prompts,
        )
        for one in (streamed, lumps)
    ]

    assert whole[1] == pytest.approx(whole[0])


def test_lumps_are_counted_by_arm(curves):
    """In the arm where they arrived."""
    streamed, lumps, number = curves

    assert (0, 0) == (streamed.baseline.num_in_one_piece, streamed.arms[0].num_in_one_piece)
    assert (number, 0) == (lumps.baseline.num_in_one_piece, lumps.arms[0].num_in_one_piece)


def test_slices_leave_lumps_out():
    """Where all of a slice arrived so, its speed is unknown and says why; acceptance is known."""
    trace = serving_trace(Server(speedups={1: 1.5}))
    code = [one.key for one in trace.trials if one.labels["category"] == "code"]
    long = replace(
        trace,
        trials=tuple(
            replace(one, num_emitted_tokens=max(8, one.num_emitted_tokens), counts=None)
            for one in trace.trials
        ),
    )
    lumps = replace(long, trials=tuple(lumped(t) if t.key in code else t for t in long.trials))
    (arm,) = load_curve(lumps, seed=0, level=0.95).points[0].estimates.arms
    slices = {one.name: one for one in arm.slices if one.axis == "category"}

    assert "arrived in one piece" in slices["code"].decode_speedup.reason
    assert slices["chat"].decode_speedup.value == pytest.approx(1.5, rel=0.1)


def with_lumps(trace, arm, share):
    """The trace with some of an arm's answers at once, and those that are long enough to tell."""
    own = [trial for trial in trace.trials if trial.key.arm == arm]
    rng = np.random.default_rng(0)
    places = rng.permutation(len(own))[: max(1, round(share * len(own)))]
    keys = {own[place].key for place in places}
    trials = tuple(lumped(one) if one.key in keys else one for one in trace.trials)
    long = frozenset(one.key for one in trials if one.key in keys and one.num_emitted_tokens >= 8)
    return replace(trace, trials=trials), long
