"""Profiles and studies as the library writes them, on recorded ranks without a model."""

import json
from dataclasses import replace

import pytest

from specmeasure.api.head_trees import conclude_trees, confirm_trees, read_heads, write_trees
from specmeasure.api.heads import conclude_profile, write_profile
from specmeasure.api.trees import read_tree
from specmeasure.errors import InsufficientEvidence, UsageError
from specmeasure.estimate.tree_choice import TreeQuestion
from tests.estimate.heads import NAME, heads_trace
from tests.estimate.replays import make_costs, replay_trace

OTHER = "medusa:other"


@pytest.fixture(scope="module")
def two_heads():
    """A profile of two sets of heads, which know the same."""
    trace = heads_trace(8)
    request = trace.manifest.request
    plan = request.request.plan
    other = replace(plan.arms[1], name=OTHER, heads="/srv/other")
    plan = replace(plan, arms=(*plan.arms, other))
    rounds = tuple(
        replace(one, drafts={**one.drafts, OTHER: one.drafts[NAME]}) for one in trace.costs.rounds
    )
    return replace(
        trace,
        manifest=replace(
            trace.manifest, request=replace(request, request=replace(request.request, plan=plan))
        ),
        scores={NAME: trace.scores[NAME], OTHER: trace.scores[NAME]},
        candidates=(*trace.candidates, replace(trace.candidates[0], name=OTHER)),
        costs=replace(trace.costs, rounds=rounds),
    )


def test_every_set_of_heads_has_its_part_and_figure(two_heads, tmp_path):
    """One page and one document over all heads of a profile."""
    page = write_profile(conclude_profile(two_heads), tmp_path).read_text()
    document = json.loads((tmp_path / "heads.json").read_text())

    assert [NAME, OTHER] == [one["name"] for one in document["heads"]]
    assert "](accuracy.svg)" in page
    assert "](accuracy-2.svg)" in page
    assert (tmp_path / "accuracy-2.svg").is_file()


def test_several_heads_must_be_told_apart(two_heads):
    """By the candidate's name or the heads' own; without one, the names are listed."""
    assert NAME == read_heads(two_heads, NAME).name
    assert OTHER == read_heads(two_heads, "/srv/other").name
    with pytest.raises(UsageError, match=f"several heads were recorded: {NAME}, {OTHER}"):
        read_heads(two_heads)
    with pytest.raises(UsageError, match="--medusa mine: no such heads"):
        read_heads(two_heads, "mine")


def test_a_replay_without_heads_makes_no_trees():
    """The message names the command that records ranks."""
    with pytest.raises(InsufficientEvidence, match="heads profile"):
        read_heads(replay_trace(8))


def test_files_of_an_earlier_study_go(tmp_path):
    """Trees of sizes that are not asked for any more do not stay behind."""
    trace = heads_trace(8)
    write_trees(conclude_trees(trace, question=TreeQuestion(sizes=(4, 8))), tmp_path)
    write_trees(
        conclude_trees(trace, question=TreeQuestion(sizes=(6,))), tmp_path, write=tmp_path / "mine"
    )

    assert {"tree.md", "trees.json", "trees.svg", "tree-6.json", "mine"} == {
        path.name for path in tmp_path.iterdir()
    }
    assert read_tree(str(tmp_path / "trees.json")) == read_tree(str(tmp_path / "mine"))


def test_untimed_trees_are_written_and_not_run(tmp_path):
    """Without times no tree is chosen: the largest is shown, and none runs for real."""
    trace = heads_trace(8, costs=make_costs({NAME: 0.02}))
    report = conclude_trees(trace, question=TreeQuestion(sizes=(4, 8)))
    write_trees(report, tmp_path)

    assert 8 == read_tree(str(tmp_path / "trees.json")).num_nodes
    with pytest.raises(UsageError, match="no tree was timed"):
        confirm_trees(report, tmp_path)


def test_another_machine_confirms_nothing(tmp_path):
    """Times predicted here and measured there would not be about one machine."""
    report = conclude_trees(heads_trace(8), question=TreeQuestion(sizes=(4,)))

    with pytest.raises(UsageError, match="this is not the machine"):
        confirm_trees(report, tmp_path)
