"""A run with a tree arm: its blocks add up, and what is estimated from them."""

import pytest

from specmeasure.brief.show import trial_text
from specmeasure.brief.tokens import show_trials
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.summary import estimate
from specmeasure.records.drafted import drafted_tree, kept_nodes, turned_down
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN
from specmeasure.records.trace import Trace
from tests.brief.terminal import printed
from tests.fakes import TREE_8, FakeEngine, make_plan, make_prompts, recorded_trace

QUICK = Intervals(num_resamples=200)


@pytest.fixture(scope="module")
def run() -> Trace:
    plan = make_plan(BASELINE, TREE_8, BASELINE_AGAIN, include_text=True)
    return recorded_trace(FakeEngine(plan=plan), make_prompts(30))


def trials_of(run: Trace):
    return [trial for trial in run.trials if trial.key.arm == TREE_8.name]


def test_a_fake_tree_is_one_that_a_target_could_have_judged(run: Trace):
    """Kept nodes are a path, the target's own token is none of the siblings that it turned down."""
    num_kept = 0
    for block in (one for trial in trials_of(run) for one in trial.blocks):
        drafted = drafted_tree(block, TREE_8.tree)
        if drafted is not None:
            num_kept += len(kept_nodes(block, drafted))
            siblings = turned_down(block, TREE_8.tree)
            assert len(set(siblings)) == len(siblings)
            assert block.emitted_ids[-1] not in siblings

    assert num_kept == sum(b.num_accepted_tokens for t in trials_of(run) for b in t.blocks)
    assert num_kept > 100


def test_a_tree_arm_is_estimated_by_depth(run: Trace):
    """Positions are depths, τ counts kept drafts, the rate is of nodes; the survivals add up."""
    (arm,) = estimate(run, QUICK).arms
    blocks = [one for trial in trials_of(run) for one in trial.blocks if one.num_draft_tokens]
    num_kept = sum(block.num_accepted_tokens for block in blocks)
    num_nodes = sum(block.num_draft_tokens for block in blocks)

    assert 3 == len(arm.acceptance_survival)
    assert 1 + num_kept / len(blocks) == pytest.approx(arm.mean_acceptance_length.value)
    assert num_kept / num_nodes == pytest.approx(arm.draft_acceptance_rate.value)


def test_trees_can_be_shown(run: Trace):
    """Every answer of the arm, on a terminal and in a page."""
    for trial in trials_of(run)[:5]:
        assert "depth 3)" in printed(trial_text(trial, None, TREE_8.tree))
    shown = show_trials(run, None)

    assert shown
    assert any(block.tree for trial in shown.trials for block in trial.blocks)
