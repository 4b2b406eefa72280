"""Trees beside the runs of them: the same answers, pass for pass."""

from dataclasses import replace

import numpy as np
import pytest

from specmeasure import api
from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.tree_agreement import find_tree_agreement
from specmeasure.estimate.tree_choice import value_arms
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN, Arm, Method, Sampling
from specmeasure.records.trace import Trace
from specmeasure.records.tree import TokenTree
from tests.estimate.heads import NAME, NUM_HEADS, heads_trace
from tests.fakes import make_block, make_manifest, make_plan, make_trial

TREE = TokenTree.of([[0], [1], [2], [0, 0], [0, 1], [1, 0], [0, 0, 0]])
ARM = Arm(
    name="medusa tree 7",
    method=Method.MEDUSA,
    num_speculative_tokens=7,
    heads="/srv/heads",
    tree=TREE,
)


@pytest.fixture(scope="module")
def profile():
    return heads_trace(12)


def blocks_of(answer, scores):
    """What the loop records of a tree, followed token by token."""
    ranks = np.array(scores.rank).reshape(-1, NUM_HEADS)
    place, blocks = 1, []
    while place < answer.num_tokens:
        room = min(TREE.depth, answer.max_new_tokens - place - 1)
        tree = TREE.down_to(room) if room else None
        kept = 0
        while tree and tuple(ranks[place, : kept + 1]) in tree.paths:
            kept += 1
        num_emitted = min(kept + 1, answer.num_tokens - place)
        kept = min(kept, num_emitted)
        blocks.append(
            make_block(
                tree.num_nodes if tree else 0,
                kept,
                truncated=kept == num_emitted,
                draft_depth=tree.depth if tree else None,
            )
        )
        place += num_emitted
    return blocks


def run_of(profile, *, spoiled=()):
    """A run of the baseline and the tree over the profile's prompts."""
    trials = []
    for place, (answer, scores) in enumerate(
        zip(profile.answers, profile.scores[NAME], strict=True)
    ):
        plain = [make_block(0, 0)] * (answer.num_tokens - 1)
        for arm, blocks in ((BASELINE.name, plain), (ARM.name, blocks_of(answer, scores))):
            trial = make_trial(
                answer.key.prompt_id,
                *blocks,
                arm=arm,
                prompt_hash=answer.prompt_hash,
                ids_hash="other" if place in spoiled else answer.ids_hash,
                num_prompt_tokens=answer.num_prompt_tokens,
                decode_s=0.01 * (1 + len(blocks)),
            )
            trials.append(trial)
    plan = make_plan(BASELINE, ARM, BASELINE_AGAIN)
    return Trace(manifest=make_manifest(plan, []), trials=tuple(trials), sealed=True)


def agree(profile, run):
    (measured,) = api.conclude(run).estimates.arms
    (value,) = value_arms(profile, NAME, [ARM], Intervals())
    return find_tree_agreement(profile, NAME, value, run, measured)


def test_the_same_answers_take_the_predicted_passes(profile):
    """Every answer exactly; τ measured is τ predicted."""
    found = agree(profile, run_of(profile))

    assert (12, 12, 0) == (
        found.num_same_answers,
        found.num_equal_counts,
        found.num_other_answers,
    )
    assert found.num_predicted_passes == found.num_measured_passes > 12
    assert found.predicted_length.value == pytest.approx(found.measured_length.value)
    assert () == found.unequal
    assert found.speedup_error == pytest.approx(
        found.predicted_speedup.value / found.measured_speedup.value - 1
    )


def test_other_answers_are_counted_and_not_compared(profile):
    """Answers with other tokens say nothing of passes."""
    found = agree(profile, run_of(profile, spoiled={3, 4}))

    assert (10, 2, 10) == (
        found.num_same_answers,
        found.num_other_answers,
        found.num_equal_counts,
    )


def test_other_passes_are_named(profile):
    """A trial with a pass too many is found, with its place and both counts."""
    run = run_of(profile)
    place, split = next(
        (place, block)
        for place, one in enumerate(run.trials)
        for block, found in enumerate(one.blocks)
        if one.key.arm == ARM.name and found.num_accepted_tokens and not found.truncated
    )
    trial = run.trials[place]
    kept = trial.blocks[split].num_accepted_tokens
    halves = (make_block(7, 0, draft_depth=3), make_block(7, kept - 1, draft_depth=3))
    longer = replace(trial, blocks=(*trial.blocks[:split], *halves, *trial.blocks[split + 1 :]))
    trials = (*run.trials[:place], longer, *run.trials[place + 1 :])
    found = agree(profile, replace(run, trials=trials))

    assert 11 == found.num_equal_counts
    number = len(trial.blocks)
    told = f"{trial.key.prompt_id}, turn 1: {number + 1} passes, {number} predicted"
    assert (told,) == found.unequal


def test_chains_are_valued_at_chains_costs(profile):
    """An arm without a tree is a chain of its K."""
    chain = replace(ARM, name="medusa k=2", num_speculative_tokens=2, tree=None)
    tree, value = value_arms(profile, NAME, [ARM, chain], Intervals())

    assert (7, 2) == (tree.tree.num_nodes, value.tree.num_nodes)
    assert TokenTree.chain(2) == value.tree
    assert tree.num_passes < value.num_passes


def test_nothing_shared_is_refused(profile):
    """A run of other prompts, or a sampled one, cannot be laid beside a profile."""
    run = run_of(profile)
    hot = tuple(replace(one, sampling=Sampling(temperature=1.0)) for one in run.trials)
    (measured,) = api.conclude(run).estimates.arms
    (value,) = value_arms(profile, NAME, [ARM], Intervals())

    with pytest.raises(InsufficientEvidence, match="share no greedy turn"):
        find_tree_agreement(profile, NAME, value, replace(run, trials=hot), measured)
