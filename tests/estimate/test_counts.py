"""What servers tell, in the shape of counts over blocks."""

import pytest

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.counts import (
    num_drafted_blocks,
    own_windows,
    refuse_contradictions,
    with_silent_requests,
)
from specmeasure.estimate.positions import positions
from specmeasure.records.plan import TrialKey
from specmeasure.records.serving import Evidence, Load
from specmeasure.records.trace import DraftCounts, TrialRecord, WindowKey, WindowRecord
from tests.simulated_load import counts_of

AT_4 = Load(concurrency=4)
STEPS = ((4, 0), (4, 2), (4, 4), (4, 1))
TOLD = DraftCounts(num_draft_tokens=8, num_accepted_tokens=3)
NOTHING = DraftCounts(num_draft_tokens=0, num_accepted_tokens=0)


def request(prompt_id="p", **changes):
    values = {"counts": None, "num_emitted_tokens": 9, "group": 0, "labels": {}}
    key = TrialKey(prompt_id=prompt_id, turn=0, repeat=0, arm="draft k=4", load=AT_4)
    return TrialRecord(key=key, prompt_hash="h", **{**values, **changes})


def window(counters, *, num_counted=100, num_emitted=100):
    return WindowRecord(
        key=WindowKey(load=AT_4, group=0, arm="draft k=4"),
        duration_s=1.0,
        num_emitted_tokens=num_emitted,
        mean_in_flight=4.0,
        counters=counters,
        num_counted_tokens=num_counted,
        memory_bytes=None,
    )


@pytest.mark.parametrize("evidence", [Evidence.BLOCKS, Evidence.HISTOGRAM, Evidence.COUNTERS])
def test_whole_blocks_are_told_alike_by_all(evidence):
    """Where every block had K drafts, steps, histogram and positions are the same counts."""
    counts = counts_of(STEPS, evidence)
    found = positions(counts, 4)

    assert 4 == num_drafted_blocks(counts)
    assert ([3, 2, 1, 1], [4, 3, 2, 1], [4, 3, 2, 1]) == (
        found.kept.tolist(),
        found.asked_most.tolist(),
        found.asked_least.tolist(),
    )


def test_steps_tell_what_short_blocks_were_asked():
    """A block of two drafts that keeps both was not asked a third."""
    found = positions(counts_of([(2, 2), (4, 2)], Evidence.BLOCKS), 4)

    assert ([2, 2, 0, 0], [2, 2, 1, 0]) == (found.kept.tolist(), found.asked_most.tolist())
    assert found.asked_least.tolist() == found.asked_most.tolist()


@pytest.mark.parametrize("evidence", [Evidence.HISTOGRAM, Evidence.COUNTERS])
@pytest.mark.parametrize("steps", [[(2, 2), (4, 2), (4, 3)], [(1, 1), (3, 0), (4, 4), (3, 3)]])
def test_bounds_hold_what_short_blocks_were_asked(evidence, steps):
    """Without the steps, the true counts lie between those of no and of most blocks cut short."""
    known = positions(counts_of(steps, Evidence.BLOCKS), 4)
    found = positions(counts_of(steps, evidence), 4)

    assert 4 * len(steps) - sum(drafted for drafted, _ in steps) == found.num_missing
    assert known.kept.tolist() == found.kept.tolist()
    assert (found.asked_least <= known.asked_most).all()
    assert (known.asked_most <= found.asked_most).all()


@pytest.mark.parametrize(
    "counts",
    [
        TOLD,
        DraftCounts(num_draft_tokens=8, num_accepted_tokens=3, num_drafted_blocks=2),
        DraftCounts(num_draft_tokens=8, num_accepted_tokens=3, accepted_by_position=(2, 1)),
        DraftCounts(num_draft_tokens=12, num_accepted_tokens=2, histogram=(0, 2)),
        DraftCounts(num_draft_tokens=12, num_accepted_tokens=5, histogram=(1, 0, 0, 0, 0, 1)),
    ],
    ids=["sums", "blocks alone", "positions alone", "a tree of drafts", "more than K"],
)
def test_positions_that_are_not_told_are_not_guessed(counts):
    """Without blocks, without positions, or beyond K there is nothing to divide by."""
    assert positions(counts, 4) is None


def test_a_window_without_an_accepted_draft_tells_its_positions():
    """Engines leave the positions out until one was accepted: they are 0 and not unknown."""
    found = positions(
        DraftCounts(num_draft_tokens=8, num_accepted_tokens=0, num_drafted_blocks=2), 4
    )

    assert ([0, 0, 0, 0], [2, 0, 0, 0]) == (found.kept.tolist(), found.asked_most.tolist())


@pytest.mark.parametrize(
    ("others", "windows", "fills"),
    [
        ([TOLD], [], True),
        ([None], [window(NOTHING)], True),
        ([None], [window(TOLD)], False),
        ([None], [window(None)], False),
        ([None], [], False),
    ],
    ids=["others tell", "no draft at all", "drafts of windows", "no counters", "nothing"],
)
def test_silence_is_zero_only_where_the_server_tells(others, windows, fills):
    """A server that tells of others drafted nothing here; one that tells of none is unknown."""
    trials = [request("quiet"), *(request(f"p{n}", counts=one) for n, one in enumerate(others))]
    quiet = with_silent_requests(trials, windows)[0].counts

    assert (0 if fills else None) == (quiet and quiet.num_draft_tokens)


def test_a_failed_request_drafted_nobody_knows_what():
    """It stays without counts."""
    failed = request("failed", error="HTTP 500", num_emitted_tokens=None)

    assert with_silent_requests([failed, request(counts=TOLD)], [])[0].counts is None


def test_windows_with_foreign_tokens_are_left_out():
    """Counters that hold somebody else's tokens hold somebody else's drafts."""
    own, unknown = window(TOLD), window(TOLD, num_counted=None)

    assert [own, unknown] == own_windows([own, window(TOLD, num_counted=150), unknown], [])
    assert [] == own_windows([window(None)], [])


@pytest.mark.parametrize(
    ("counts", "is_own"),
    [
        ([TOLD], True),
        ([TOLD, NOTHING], True),
        ([TOLD, TOLD], False),
        ([TOLD, None], True),
        ([DraftCounts(num_draft_tokens=8, num_accepted_tokens=4)], False),
    ],
    ids=["equal", "with a silent one", "fewer than asked", "not all told", "other accepted"],
)
def test_counters_and_requests_have_the_same_sums(counts, is_own):
    """Where they do not, the counters are of something else."""
    trials = [request(f"p{n}", counts=one) for n, one in enumerate(counts)]

    assert is_own == bool(own_windows([window(TOLD)], trials))


@pytest.mark.parametrize(("num_emitted", "is_refused"), [(7, False), (4, False), (3, True)])
def test_counts_may_pass_the_answer_by_a_cut_block_alone(num_emitted, is_refused):
    """Six accepted drafts in two blocks are eight tokens; of the last, at most four are cut."""
    counts = DraftCounts(num_draft_tokens=8, num_accepted_tokens=6, num_drafted_blocks=2)
    trial = request(counts=counts, num_emitted_tokens=num_emitted)

    if is_refused:
        with pytest.raises(InsufficientEvidence, match="not to be trusted"):
            refuse_contradictions(trial, 4)
    else:
        refuse_contradictions(trial, 4)
