"""Studies of trees: what is chosen and what it is worth, beside chains and products."""

from dataclasses import replace

import numpy as np
import pytest

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.head_trees import MAX_RANK, best_tree, read_places, walk_tree
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.prediction import predict
from specmeasure.estimate.traffic import traffic_of
from specmeasure.estimate.tree_choice import TreeQuestion, cut_tree, study_trees
from specmeasure.estimate.tree_costs import tree_costs
from specmeasure.estimate.walk_costs import spend_walk
from specmeasure.records.estimates import Interval, Unmeasured
from specmeasure.records.plan import Sampling
from specmeasure.records.tree import TokenTree
from tests.estimate import heads
from tests.estimate.heads import NAME, NUM_HEADS, heads_trace
from tests.estimate.replays import make_costs

INTERVALS = Intervals()
PAPER = TokenTree.of([[0], [1], [2], [0, 0], [0, 1], [0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0, 0]])


def study(trace, **asked):
    return study_trees(trace, NAME, TreeQuestion(paper=PAPER, **asked), INTERVALS)


@pytest.fixture(scope="module")
def trace():
    return heads_trace()


@pytest.fixture(scope="module")
def found(trace):
    return study(trace)


def test_larger_trees_keep_more(found):
    """Each size holds the one before: its τ is no less, and its passes are no more."""
    lengths = [one.best.mean_acceptance_length.value for one in found.sizes]
    passes = [one.best.num_passes for one in found.sizes]

    assert [8, 16, 32, 64] == [one.num_nodes for one in found.sizes]
    assert sorted(lengths) == lengths
    assert sorted(passes, reverse=True) == passes


def test_chains_are_what_a_replay_predicts(trace, found):
    """A chain's passes, τ and speedup are the replay's own at that K, with their intervals."""
    candidate = predict(trace, INTERVALS).candidates[0]

    assert NUM_HEADS == len(found.chains) == len(candidate.lengths)
    for chain, length in zip(found.chains, candidate.lengths, strict=True):
        assert length.mean_acceptance_length.value == pytest.approx(
            chain.mean_acceptance_length.value
        )
        assert length.tokens_per_target_pass.low == pytest.approx(chain.tokens_per_target_pass.low)
        assert length.decode_speedup.value == pytest.approx(chain.decode_speedup.value)
        assert length.decode_speedup.low == pytest.approx(chain.decode_speedup.low)
        assert length.decode_speedup.high == pytest.approx(chain.decode_speedup.high)


def test_a_trees_speedup_is_its_blocks_at_the_tables_costs(trace, found):
    """Σ plain steps / Σ blocks, block by block by hand."""
    traffic = traffic_of(trace.answers)
    places = read_places(trace.answers, trace.scores[NAME], traffic.prompts)
    costs = tree_costs(trace.costs, NAME, range(65), seed=0)
    tree = found.sizes[1].best.tree
    walk = walk_tree(places, tree)
    blocks_s = sum(
        float(costs.seconds(np.array([places.contexts[place]]))[0, nodes])
        for place, nodes in zip(walk.starts, walk.num_nodes, strict=True)
    )
    steps_s = float(costs.step_seconds(places.contexts[places.is_decoded]).sum())
    spent = spend_walk(places, walk, costs)

    assert steps_s / blocks_s == pytest.approx(found.sizes[1].best.speedup)
    assert spent.baseline_s.sum() == pytest.approx(spent.total_baseline_s[0])
    assert spent.speculative_s.sum() == pytest.approx(spent.total_speculative_s[0])


def test_the_best_size_is_the_fastest(found):
    """By predicted speedup, never by length: here a pass of 64 nodes costs more than it keeps."""
    speeds = {one.num_nodes: one.best.speedup for one in found.sizes}

    assert max(speeds, key=speeds.get) == found.best_size == found.best.num_nodes
    assert found.best_size in found.indistinguishable
    assert found.best_size < 64


def test_cheap_nodes_make_large_trees():
    """Where nodes cost nothing the largest tree is the best."""
    costs = heads.tree_costs(num_rounds=5, noise=0.001, per_node=0.0)

    assert 64 == study(heads_trace(costs=costs)).best_size


def test_cross_fitting_takes_flattery_away():
    """Ranks without any structure: in-sample τ of large trees is above the cross-fitted one."""
    flattered = []
    for seed in range(4):
        trace = heads_trace(12, seed=seed)
        rng = np.random.default_rng(seed)
        scores = tuple(
            heads.rank_scores(rng.integers(0, MAX_RANK, size=(one.num_tokens, NUM_HEADS)))
            for one in trace.answers
        )
        one = study(replace(trace, scores={NAME: scores})).sizes[-1]
        flattered.append(one.best.mean_acceptance_length.value - one.cross_fitted_length.value)

    assert min(flattered) > 0


def test_cross_fitting_has_intervals_over_all_prompts(found):
    """Cross-fitted τ and speedup stand beside those in-sample, of the same prompts."""
    for one in found.sizes:
        assert isinstance(one.cross_fitted_length, Interval)
        assert isinstance(one.cross_fitted_speedup, Interval)
        assert 0 < one.num_shared_nodes <= one.num_nodes
    assert 30 == found.num_prompts == found.cross_fitted_speedup.num_clusters


def test_the_lead_over_the_chain_is_the_ratio_of_speedups(found):
    """Cross-fitted speedup over the best chain's, on the same prompts; narrower than either."""
    lead, fitted = found.lead_over_chain, found.cross_fitted_speedup
    chain = found.best_chain.decode_speedup

    assert fitted.value / chain.value == pytest.approx(lead.value)
    assert lead.high / lead.low < fitted.high / fitted.low * chain.high / chain.low
    assert lead.low > 1


def test_products_flatter_or_miss(found):
    """The tree that products choose keeps no more drafts per place than the grown one."""
    for one in found.sizes:
        assert one.by_products.tree.num_nodes == one.num_nodes
        assert one.best.product_length <= one.by_products.product_length + 1e-12


def test_the_papers_tree_is_cut_to_the_heads(found):
    """No deeper than there are heads; its passes stand beside the others."""
    assert NUM_HEADS == found.paper.tree.depth
    assert PAPER.num_nodes - 1 == found.paper.tree.num_nodes


@pytest.mark.parametrize(("depth", "max_rank", "num_nodes"), [(1, 10, 3), (5, 1, 5), (9, 9, 8)])
def test_cut_tree(depth, max_rank, num_nodes):
    """What is too deep or too unlikely goes; the rest stands without gaps."""
    assert num_nodes == cut_tree(PAPER, depth=depth, max_rank=max_rank).num_nodes


def test_sampled_answers_are_left_out(trace):
    """Ranks say nothing exact of what is drawn: those answers are counted and not valued."""
    hot = replace(trace.answers[0], sampling=Sampling(temperature=0.7))
    found = study(replace(trace, answers=(hot, *trace.answers[1:])))

    assert 1 == found.num_sampled_answers
    assert len(trace.answers) - 1 == found.num_answers


def test_a_sampled_profile_is_refused():
    """Nothing greedy: no tree, and the message names the option."""
    with pytest.raises(InsufficientEvidence, match="--temperature 0"):
        study(heads_trace(sampling=Sampling(temperature=0.7)))


def test_untimed_trees_have_lengths_and_no_speed():
    """A table without trees: v(n) is not assumed, and the reason says so."""
    found = study(heads_trace(costs=make_costs({NAME: 0.02}, num_rounds=3, noise=0.01)))

    assert found.best_size is None
    assert found.best is None
    assert () == found.indistinguishable
    assert "no times of trees" in found.cross_fitted_speedup.reason
    assert "no times of trees" in found.lead_over_chain.reason
    assert "no times of trees" in found.sizes[0].best.decode_speedup.reason
    assert found.sizes[0].best.speedup is None
    assert isinstance(found.sizes[0].best.mean_acceptance_length, Interval)
    assert isinstance(found.best_chain.decode_speedup, Interval)


def test_few_prompts_have_no_intervals():
    """Below six prompts numbers stand without intervals, and say why."""
    found = study(heads_trace(4))

    assert isinstance(found.sizes[0].best.mean_acceptance_length, Unmeasured)
    assert "not enough prompts" in found.cross_fitted_speedup.reason
    assert found.sizes[0].best.speedup > 0
    assert found.sizes[0].best.num_passes > 4


def test_one_prompt_is_no_half():
    """A half without prompts chooses by nothing, and nothing breaks."""
    assert isinstance(study(heads_trace(1)).cross_fitted_speedup, Unmeasured)


def test_few_heads_have_small_trees():
    """One head of ten choices: sizes above ten are one size of ten."""
    found = study(heads_trace(num_heads=1))

    assert [8, 10] == [one.num_nodes for one in found.sizes]


@pytest.mark.parametrize("sizes", [(), (0, 8), (16, 8), (8, 8)])
def test_sizes_rise(sizes):
    """Sizes that do not rise are no question."""
    with pytest.raises(ValueError, match="rising whole numbers"):
        TreeQuestion(sizes=sizes)


def test_the_order_is_the_answer_to_every_size(trace, found):
    """The study's tree of a size is the best tree of these places."""
    places = read_places(trace.answers, trace.scores[NAME], traffic_of(trace.answers).prompts)

    assert best_tree(places.ranks[places.is_decoded], 16) == found.sizes[1].best.tree
