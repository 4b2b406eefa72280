"""Pages, tables and figures of heads and of their trees."""

import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from markdown_it import MarkdownIt

from specmeasure.brief.heads import ProfiledHeads, heads_content, render_heads
from specmeasure.brief.heads_console import heads_summary, trees_summary
from specmeasure.brief.heads_figures import accuracy_figure, trees_figure
from specmeasure.brief.heads_trees import render_trees, trees_content
from specmeasure.estimate.head_profile import profile_heads
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.prediction import predict
from specmeasure.estimate.tree_choice import TreeQuestion, study_trees
from specmeasure.records.estimates import Unmeasured
from specmeasure.records.heads import TreeAgreement
from specmeasure.records.medusa_tree import PAPER_TREE
from specmeasure.records.plan import Sampling
from tests.brief import examples
from tests.brief.terminal import printed
from tests.estimate import heads
from tests.estimate.heads import NAME, heads_trace
from tests.estimate.replays import make_costs

GOLDEN = Path(__file__).parents[1] / "golden"
READER = MarkdownIt("commonmark").enable("table")
TEXT = "{http://www.w3.org/2000/svg}text"
INTERVALS = Intervals()
QUESTION = TreeQuestion(paper=PAPER_TREE)
TREE_FILE = "reports/mine/tree-16.json"


@pytest.fixture(scope="module")
def trace():
    return heads_trace(60)


@pytest.fixture(scope="module")
def study(trace):
    return study_trees(trace, NAME, QUESTION, INTERVALS)


def profiled(trace, study=None):
    """What the profile's page is made of."""
    predictions = predict(trace, INTERVALS)
    (profile,) = profile_heads(trace, INTERVALS, predictions=predictions)
    study = study or study_trees(trace, NAME, QUESTION, INTERVALS)
    return heads_content(trace, predictions, [ProfiledHeads(profile=profile, trees=study)])


def profile_page(trace, study=None):
    return render_heads(profiled(trace, study), figures={NAME: "accuracy.svg"})


def tree_page(trace, study, agreements=()):
    content = trees_content(trace, study, agreements, heads="/srv/heads", tree_file=TREE_FILE)
    return render_trees(content, figures={"trees": "trees.svg"})


def agreement(**changes):
    values = {
        "arm": "medusa tree 16",
        "num_nodes": 16,
        "predicted_length": examples.interval(2.77, 2.60, 2.93, num_prompts=60),
        "measured_length": examples.interval(2.77, 2.60, 2.93, num_prompts=60),
        "predicted_speedup": examples.interval(1.79, 1.68, 1.89, num_prompts=60),
        "measured_speedup": examples.interval(1.74, 1.66, 1.82, num_prompts=60),
        "speedup_error": 1.79 / 1.74 - 1,
        "num_predicted_passes": 1011,
        "num_measured_passes": 1011,
        "num_same_answers": 60,
        "num_other_answers": 0,
        "num_equal_counts": 60,
        "unequal": (),
    }
    return TreeAgreement(**{**values, **changes})


def approved(name, written):
    """The golden page; UPDATE_GOLDEN=1 approves anew."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(written, encoding="utf-8")
    return path.read_text(encoding="utf-8")


def test_golden_profile(trace, study):
    """The page of a profile reads as it was last approved."""
    written = profile_page(trace, study)

    assert approved("heads.md", written) == written


def test_golden_tree(trace, study):
    """The page of trees, one of them run for real, reads as it was last approved."""
    written = tree_page(trace, study, [agreement()])

    assert approved("tree.md", written) == written


def test_whatever_is_named_stays_text(trace, study):
    """Markup in an arm's name is escaped on the page of trees."""
    page = tree_page(trace, study, [agreement(arm="|<b>", unequal=("<i>: 3 passes",))])
    html = READER.render(page)

    assert "<b>" not in html
    assert "<i>" not in html


def test_a_tree_is_advised_where_it_is_faster(trace, study):
    """The page of a profile says tree, with both predicted speeds."""
    said = profiled(trace, study).parts[0].for_whom[0]

    assert said.startswith("Draft trees: a tree of 16 nodes at 1.79×")
    assert "a chain of 4 at 1.43×" in said


def test_a_chain_is_advised_where_nodes_are_dear():
    """Verifying costs most of what trees keep: chains."""
    costs = heads.tree_costs(num_rounds=5, noise=0.01, per_node=0.1)

    assert "Draft chains: a chain of" in profile_page(heads_trace(costs=costs))


def test_what_is_not_told_apart_is_not_advised(trace, study):
    """A lead whose interval holds 1.00 advises neither."""
    near = replace(study, lead_over_chain=examples.interval(1.04, 0.96, 1.12, num_prompts=60))

    assert "Trees and chains are not told apart: " in profile_page(trace, near)


def test_neither_is_advised_where_nothing_gains():
    """Heads as dear as the target, and dear nodes: no drafts."""
    costs = heads.tree_costs(num_rounds=5, noise=0.01, per_node=0.5, ratio=2.0)

    assert "Neither chain nor tree" in profile_page(heads_trace(costs=costs))


def test_untimed_trees_are_not_advised():
    """Without times of trees the page says why it does not tell, and the tree page has no speed."""
    untimed = heads_trace(costs=make_costs({NAME: 0.02}, num_rounds=3, noise=0.01))
    study = study_trees(untimed, NAME, QUESTION, INTERVALS)
    content = trees_content(untimed, study, heads="/srv/heads")

    assert "Chain or tree is not told: the costs of a machine" in profile_page(untimed, study)
    assert content.headline.startswith("no tree was timed: a tree of 64 nodes has τ ")
    assert any("Speed is not predicted" in line for line in content.evidence)
    assert {"not measured¹"} == {row[-1] for row in content.sizes.rows}
    assert "" == content.run


def test_sampled_profiles_have_accuracies_and_no_trees():
    """The reason stands in place of the advice."""
    trace = heads_trace(sampling=Sampling(temperature=0.7))
    page = profile_page(trace, Unmeasured(reason="no greedy answer longer than one token"))

    assert "Chain or tree is not told: no greedy answer" in page
    assert "| 1    | 2 " in page


def test_few_prompts_say_so_everywhere():
    """No interval, no NaN: cells point to a footnote, and no figure is drawn."""
    few = heads_trace(4)
    study = study_trees(few, NAME, QUESTION, INTERVALS)
    (profile,) = profile_heads(few, INTERVALS)
    pages = profile_page(few, study) + tree_page(few, study)

    assert "not enough prompts: an interval needs 6, this has 4" in pages
    assert "nan" not in pages.lower()
    assert accuracy_figure(profile) is None
    assert trees_figure(study) is None


def test_other_tokens_are_told(trace, study):
    """Answers that cannot be compared, and those that took other passes, are named."""
    made = agreement(num_other_answers=2, unequal=("p1, turn 1: 12 passes, 11 predicted",))
    page = tree_page(trace, study, [made])

    assert "2 greedy answers came out with other tokens" in page
    assert "p1, turn 1: 12 passes, 11 predicted" in page


def test_predicted_stands_beside_measured(trace, study):
    """Passes, exact counts and the prediction error, a row each arm."""
    row = trees_content(trace, study, [agreement()], heads="h").agreements.rows[0]

    assert ("medusa tree 16", "1,011", "1,011", "60 of 60 answers") == row[:4]
    assert "+2.9 %" == row[-1]


def test_search_at_its_edge_is_told(trace, study):
    """The largest size is the fastest: ask for larger ones; untimed sizes are said."""
    edge = replace(study, best_size=64, timed_nodes=(1, 4, 16))
    notes = trees_content(trace, edge, heads="h").notes

    assert any("ask for larger ones with --nodes" in line for line in notes)
    assert any("more than 16 nodes were not timed" in line for line in notes)


def test_one_size_has_no_edge(trace, study):
    """Where a single size was looked at, nothing speaks for a larger one."""
    one = replace(study, sizes=study.sizes[-1:], best_size=study.sizes[-1].num_nodes)

    assert not any("--nodes" in line for line in trees_content(trace, one, heads="h").notes)


def test_choices_that_are_luck_are_told(trace, study):
    """Cross-fitted as fast as the chain: the page says so; halves that differ are named."""
    lucky = replace(
        study,
        lead_over_chain=examples.interval(1.04, 0.96, 1.12, num_prompts=60),
        chosen_by_half=(8, 32),
        indistinguishable=(16,),
    )
    notes = trees_content(trace, lucky, heads="h").notes

    assert "not told from the best chain: 1.04× [0.96, 1.12] its speed" in notes[0]
    assert "16 nodes are told apart from every other size." in notes
    assert "Halves of the prompts choose 8 and 32 nodes." in notes


@pytest.mark.parametrize("draw", ["accuracy", "trees"])
def test_figures_are_the_same_bytes_every_time(trace, study, draw):
    """Two drawings of the same records, with the labels that the reader looks for."""
    (profile,) = profile_heads(trace, INTERVALS)
    first, second = (
        accuracy_figure(profile) if draw == "accuracy" else trees_figure(study, [agreement()])
        for _ in range(2)
    )
    texts = {found.text for found in ET.fromstring(first.svg).iter(TEXT)}  # noqa: S314 - our own

    assert first.svg == second.svg
    assert {
        "accuracy": {"head 1", "head 4"},
        "trees": {"best tree", "chain", "paper's default", "cross-fitted", "measured", "Nodes"},
    }[draw] <= texts


def test_terminals_show_the_short_form(trace, study):
    """Headline, advice and tables; footnotes only of what is shown."""
    profile = printed(heads_summary(profiled(trace, study)), width=110)
    trees = printed(trees_summary(trees_content(trace, study, [agreement()], heads="h")), width=110)

    assert "Draft trees: a tree of 16 nodes" in profile
    assert "How often heads are right" in profile
    assert "Not measured¹" not in profile
    assert "Trees of drafts: a tree of 16 nodes" in trees
    assert "Predicted against measured" in trees
