"""What servers told of their drafts, over a whole run."""

from dataclasses import replace

import pytest

from specmeasure.api.told_drafts import count_checks, told_evidence
from specmeasure.records.serving import Evidence, ServerFacts, ServingEngine
from specmeasure.records.trace import DraftCounts
from tests.simulated_load import Server, serving_trace

TRACE = serving_trace(Server())
FACTS = ServerFacts(
    arm="draft k=4",
    engine=ServingEngine.VLLM,
    model="m",
    version=None,
    url=None,
    evidence=Evidence.NONE,
    gives_ids=True,
    num_speculative_tokens=4,
)


def with_sums(trace):
    """The same run with counters that add up in every window."""
    told = {}
    for trial in trace.trials:
        key = (trial.key.load, trial.group, trial.key.arm)
        told.setdefault(key, []).append(trial.counts)
    windows = []
    for window in trace.windows:
        counts = told[window.key.load, window.key.group, window.key.arm]
        sums = None
        if all(counts):
            sums = DraftCounts(
                num_draft_tokens=sum(one.num_draft_tokens for one in counts),
                num_accepted_tokens=sum(one.num_accepted_tokens for one in counts),
            )
        windows.append(replace(window, counters=sums))
    return replace(trace, windows=tuple(windows))


def test_sums_that_agree_are_said_with_their_number():
    """All windows of which both sides tell are counted."""
    trace = with_sums(TRACE)
    num_told = sum(window.counters is not None for window in trace.windows)

    (sentence,) = count_checks(trace)
    assert num_told > 0
    assert f"In {num_told} of {num_told} windows" in sentence


def test_sums_that_differ_are_said_once_a_kind():
    """Two windows with other traffic are one sentence with an example."""
    trace = with_sums(TRACE)
    odd = [window for window in trace.windows if window.counters is not None][:2]
    more = {
        window.key: replace(
            window, counters=replace(window.counters, num_draft_tokens=10**6 + place)
        )
        for place, window in enumerate(odd)
    }
    windows = tuple(more.get(window.key, window) for window in trace.windows)

    agree, differ = count_checks(replace(trace, windows=windows))
    num_told = sum(window.counters is not None for window in windows)
    assert f"In {num_told - 2} of {num_told} windows" in agree
    assert differ.startswith("In 2 of them it does not: ")
    assert "drafted tokens" in differ


def test_one_side_alone_is_not_checked():
    """Without counters, or without counts by request, there is nothing to say."""
    silent = replace(TRACE, windows=tuple(replace(one, counters=None) for one in TRACE.windows))

    assert () == count_checks(silent)


@pytest.mark.parametrize("evidence", [Evidence.BLOCKS, Evidence.HISTOGRAM, Evidence.COUNTERS])
def test_evidence_is_what_the_run_showed(evidence):
    """Whatever a first look at the server showed."""
    trace = serving_trace(Server(), evidence=evidence)
    manifest = replace(trace.manifest, servers=(FACTS,))

    (found,) = told_evidence(replace(trace, manifest=manifest)).servers
    assert evidence is found.evidence


def test_a_silent_server_stays_what_it_was():
    """A run in which nothing was drafted tells no more than the first look."""
    manifest = replace(TRACE.manifest, servers=(replace(FACTS, arm="another"),))

    (found,) = told_evidence(replace(TRACE, manifest=manifest)).servers
    assert Evidence.NONE is found.evidence
