"""Which trials stand beside each other, and what is independent of what."""

from dataclasses import replace

import pytest

from specmeasure.estimate.pairing import by_cluster, pair_trials
from specmeasure.estimate.trials import cluster_of
from specmeasure.records.plan import BASELINE
from specmeasure.records.serving import Load
from tests.fakes import DRAFT_4, make_trial

AT_4, AT_8 = Load(concurrency=4), Load(concurrency=8)


def request(prompt_id, arm=DRAFT_4, *, load=AT_4, group=0, repeat=0):
    trial = make_trial(prompt_id, arm=arm.name)
    return replace(trial, key=replace(trial.key, load=load, repeat=repeat), group=group)


def ids(rows):
    return [[trial.key.prompt_id for trial in row] for row in rows]


def test_prompts_of_a_group_are_one_cluster():
    """They were sent together; in process each stands alone, with its repeats."""
    together = [request("a"), request("b"), request("c", group=1), request("a", repeat=1)]
    alone = [make_trial("a"), make_trial("b"), make_trial("a")]

    assert [["a", "b", "a"], ["c"]] == ids(by_cluster(together))
    assert [["a", "a"], ["b"]] == ids(by_cluster(alone))


def test_groups_of_two_loads_are_two_clusters():
    """The same group at another load is another window."""
    assert cluster_of(request("a")) != cluster_of(request("a", load=AT_8))
    assert "a" == cluster_of(make_trial("a"))


@pytest.mark.parametrize("other", [{"load": AT_8}, {"repeat": 1}])
def test_contexts_match_on_load_and_repeat(other):
    """A request at another load, or asked again, is compared with its like alone."""
    baseline = [request("a", BASELINE), request("b", BASELINE)]

    assert [["a", "b"]] == ids(pair_trials(baseline, [request("a"), request("b")]).arm)
    assert [["b"]] == ids(pair_trials(baseline, [request("a", **other), request("b")]).arm)


def test_pairs_of_windows_know_their_prompts():
    """Repeats are one prompt, whatever window they were in."""
    trials = [request("a"), request("b"), request("a", repeat=1)]
    pairs = pair_trials([replace(t, key=replace(t.key, arm="baseline")) for t in trials], trials)
    own = pairs.by_prompt()

    assert (1, 2) == (len(pairs.arm), pairs.num_prompts)
    assert [["a", "a"], ["b"]] == ids(own.arm) == ids(own.baseline)
