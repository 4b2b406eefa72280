"""What a server leaves out, and what cannot be true of it."""

from dataclasses import replace

import pytest

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate import latency
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.precision import pilot_spread
from specmeasure.estimate.summary import estimate
from specmeasure.records.estimates import Unmeasured
from specmeasure.records.serving import Evidence, ServerFacts, ServingEngine
from specmeasure.records.trace import DraftCounts
from tests.fakes import DRAFT_4
from tests.simulated_load import Server, serving_trace

WINDOWS = Intervals(cluster="window")
SERVER = Server(speedups={4: 1.3})
QUIET = DraftCounts(num_draft_tokens=0, num_accepted_tokens=0, num_drafted_blocks=0)


@pytest.fixture(scope="module")
def trace():
    return serving_trace(SERVER)


def with_trials(trace, change):
    return replace(trace, trials=tuple(change(trial) for trial in trace.trials))


def arm_of(trace):
    return estimate(trace, WINDOWS).arms[0]


def is_first(trial):
    return trial.key.prompt_id == "p0" and trial.counts is not None


def test_a_request_without_drafts_counts_as_none(trace):
    """llama.cpp leaves the fields out: nothing drafted, nothing accepted, in every slice too."""
    silent = arm_of(with_trials(trace, lambda t: replace(t, counts=None) if is_first(t) else t))
    said = arm_of(with_trials(trace, lambda t: replace(t, counts=QUIET) if is_first(t) else t))

    assert said.mean_acceptance_length == silent.mean_acceptance_length
    assert said.tokens_per_target_pass == silent.tokens_per_target_pass
    assert said.draft_acceptance_rate == silent.draft_acceptance_rate
    assert said.slices == silent.slices
    assert silent.mean_acceptance_length != arm_of(trace).mean_acceptance_length


def test_a_server_that_never_drafted_has_no_length():
    """Its counters stood still: not measured, for nothing was counted; one token a pass."""
    trace = serving_trace(SERVER, evidence=Evidence.COUNTERS)
    windows = [
        window if window.counters is None else replace(window, counters=QUIET)
        for window in trace.windows
    ]
    found = arm_of(replace(trace, windows=tuple(windows)))

    assert Unmeasured(reason="nothing was counted") == found.mean_acceptance_length
    assert Unmeasured(reason="nothing was counted") == found.draft_acceptance_rate
    assert 1.0 == found.tokens_per_target_pass.value


def test_counts_that_pass_the_answer_are_refused(trace):
    """A server that accepts more than it sends is not believed in anything."""
    wrong = with_trials(
        trace, lambda t: replace(t, num_emitted_tokens=2) if t.key.prompt_id == "p0" else t
    )

    with pytest.raises(InsufficientEvidence, match="counts are not to be trusted"):
        estimate(wrong, WINDOWS)


def test_the_middle_prompt_has_an_interval_over_windows(trace):
    """The value is that of the prompts; prompts of one window share its luck."""
    found = arm_of(trace)
    middle = found.prompt_speedups[len(found.prompt_speedups) // 2 - 1 :][:2]

    assert sum(middle) / 2 == pytest.approx(found.median_prompt_speedup.value)
    shared = Server(speedups={4: 1.0}, window_noise=0.3, between=0.01, request_noise=0.01)
    wide = arm_of(serving_trace(shared))
    assert 0.2 < wide.share_slower.value < 0.8
    assert wide.share_slower.high - wide.share_slower.low > 0.4  # of 80 alone: 0.21


def test_passes_are_not_timed():
    """Costs of a pass are unknown even where its drafts are counted."""
    trials = serving_trace(SERVER).trials
    by_arm = [
        [trial for trial in trials if trial.key.arm == name] for name in ("baseline", "draft k=4")
    ]

    assert "does not time its passes" in latency.costs(*by_arm).reason


def test_a_pilot_on_a_server_plans_nothing(trace):
    """Its prompts are not independent of each other."""
    with pytest.raises(InsufficientEvidence, match="windows are independent and prompts are not"):
        pilot_spread(trace)


def test_no_answer_with_a_count_says_why(trace):
    """The reason is the first failure."""
    untold = with_trials(trace, lambda trial: replace(trial, num_emitted_tokens=None))

    with pytest.raises(InsufficientEvidence, match="first failure: the server does not say"):
        estimate(untold, WINDOWS)


def with_servers(trace, **gives_ids):
    """Each arm's server as it says whether it gives ids; digests by what was asked."""
    servers = tuple(
        ServerFacts(
            arm=arm,
            engine=ServingEngine.OPENAI,
            model="target",
            version=None,
            url=None,
            evidence=Evidence.NONE,
            gives_ids=gives,
            num_speculative_tokens=None,
        )
        for arm, gives in zip(("baseline", DRAFT_4.name), gives_ids.values(), strict=True)
    )
    digested = with_trials(trace, lambda t: replace(t, ids_hash=t.key.prompt_id))
    return replace(digested, manifest=replace(trace.manifest, servers=servers))


def test_servers_without_ids_are_compared_as_text(trace):
    """By the digest of the text; three texts differ of eighty."""
    served = with_servers(trace, baseline=False, arm=False)
    three = {f"p{number}" for number in range(3)}
    changed = with_trials(
        served,
        lambda t: (
            replace(t, ids_hash="other")
            if t.key.arm == DRAFT_4.name and t.key.prompt_id in three
            else t
        ),
    )
    found = [arm_of(one).losslessness for one in (served, changed)]

    assert [(0, 80, 0), (0, 80, 3)] == [
        (one.num_trials, one.num_compared, one.num_differing_from_baseline) for one in found
    ]
    assert all(one.compared_as_text for one in found)


def test_text_is_not_compared_with_ids(trace):
    """Digests of other things differ always: where one server alone gives ids, none is compared."""
    found = arm_of(with_servers(trace, baseline=True, arm=False)).losslessness

    assert (0, 0) == (found.num_compared, found.num_differing_from_baseline)
