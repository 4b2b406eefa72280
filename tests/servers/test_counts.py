"""Counts that add up, and the sentences for those that do not."""

from dataclasses import replace

import pytest

from specmeasure.records.trace import DraftCounts
from specmeasure.servers.counts import cross_check
from specmeasure.servers.llamacpp import LlamacppDialect
from specmeasure.servers.prometheus import difference, parse_snapshot
from specmeasure.servers.vllm import VllmDialect
from tests.servers.streams import PAYLOADS, documents, reply_of

STEPS = ((4, 0), (4, 2), (3, 3))
TOLD = DraftCounts(
    num_draft_tokens=11,
    num_accepted_tokens=5,
    num_drafted_blocks=3,
    histogram=(1, 0, 1, 1, 0),
    steps=STEPS,
)
WINDOW = DraftCounts(
    num_draft_tokens=22,
    num_accepted_tokens=10,
    num_drafted_blocks=6,
    accepted_by_position=(4, 4, 2, 0),
)


def test_counts_that_agree_say_nothing():
    """Positions follow from steps, from a histogram, or are told."""
    histogram = replace(TOLD, steps=None)
    positions = replace(histogram, histogram=None, accepted_by_position=(2, 2, 1))

    assert () == cross_check([TOLD, histogram], WINDOW)
    assert () == cross_check([histogram, positions], WINDOW)
    assert () == cross_check([TOLD, TOLD], None)
    assert () == cross_check([], replace(WINDOW, **NOTHING))


NOTHING = {
    "num_draft_tokens": 0,
    "num_accepted_tokens": 0,
    "num_drafted_blocks": 0,
    "accepted_by_position": None,
}


@pytest.mark.parametrize("kind", ["draft", "ngram", "synth"])
def test_recorded_requests_are_what_the_server_counted(kind):
    """llama.cpp: the sums of three requests are the differences of its counters."""
    name = f"llamacpp-2026.10.11549-{kind}"
    pages = [(PAYLOADS / f"{name}-metrics-{place}.txt").read_text() for place in (0, 1)]
    window = difference(*(parse_snapshot(page, "llamacpp") for page in pages))
    replies = [reply_of(LlamacppDialect(), documents(f"{name}-{place}.sse")) for place in range(3)]
    told = [reply.counts for reply in replies if reply.counts is not None]

    assert () == cross_check(told, window.drafts)
    assert window.num_emitted_tokens == sum(reply.num_emitted_tokens for reply in replies)


def test_recorded_vllm_requests_are_what_the_server_counted():
    """vLLM: blocks, positions and totals of three requests are those of its fresh counters."""
    window = parse_snapshot((PAYLOADS / "vllm-0.32.0-demo-metrics.txt").read_text(), "vllm")
    replies = [reply_of(VllmDialect(), documents(f"vllm-0.32.0-demo-{i}.sse")) for i in range(3)]

    assert () == cross_check([reply.counts for reply in replies], window.drafts)
    assert window.num_emitted_tokens == sum(reply.num_emitted_tokens for reply in replies)


def test_each_difference_has_a_sentence():
    """Which count, what both sides say, and by how much."""
    window = DraftCounts(
        num_draft_tokens=15,
        num_accepted_tokens=6,
        num_drafted_blocks=2,
        accepted_by_position=(3, 2, 1),
    )

    assert (
        "drafted tokens: the requests say 11, the server's counters 15, 4 more",
        "accepted tokens: the requests say 5, the server's counters 6, 1 more",
        "drafted blocks: the requests say 3, the server's counters 2, 1 fewer",
        "accepted tokens at position 0: the requests say 2, the server's counters 3, 1 more",
    ) == cross_check([TOLD], window)


def test_what_one_side_does_not_tell_is_not_compared():
    """Totals alone are compared by totals alone."""
    totals = DraftCounts(num_draft_tokens=11, num_accepted_tokens=5)

    assert () == cross_check([totals, TOLD], WINDOW)
    assert () == cross_check([TOLD, TOLD], replace(WINDOW, accepted_by_position=None))


def test_positions_left_out_by_the_server_are_zero_where_nothing_was_accepted():
    """Requests that accepted nothing agree with counters that have no positions yet."""
    rejected = DraftCounts(num_draft_tokens=4, num_accepted_tokens=0, steps=((4, 0),))
    window = DraftCounts(num_draft_tokens=4, num_accepted_tokens=0, num_drafted_blocks=1)

    assert () == cross_check([rejected], window)


def test_a_request_may_contradict_itself():
    """Its histogram is of its blocks, and no block accepts more than it drafted."""
    shifted = replace(TOLD, histogram=(0, 2, 0, 1, 0))
    impossible = replace(TOLD, steps=((4, 0), (5, 2), (2, 3)))

    assert ("a request's histogram is not that of its blocks",) == cross_check([shifted], None)
    assert ("a request has 1 blocks that accepted more than they drafted",) == cross_check(
        [impossible], None
    )


@pytest.mark.parametrize(
    "name",
    [
        "vllm-0.32.0-draft_model-detailed-text.sse",
        "vllm-0.32.0-draft_model-detailed-eos.sse",
        "vllm-0.32.0-draft_model-summary-ids.sse",
        "vllm-0.32.0-ngram-detailed-ids.sse",
    ],
)
def test_recorded_answers_agree_with_themselves(name):
    """vLLM's own histogram is that of its blocks, cut last ones among them."""
    reply = reply_of(VllmDialect(), documents(name))

    assert reply.counts.histogram is not None
    assert cross_check([reply.counts], None) == ()
