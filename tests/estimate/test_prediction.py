"""The whole prediction: one record that agrees with itself."""

from dataclasses import replace

import numpy as np
import pytest

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.prediction import predict
from specmeasure.records.estimates import Interval, Unmeasured
from specmeasure.records.plan import Sampling
from tests.estimate.replays import draft_scores, make_answer, make_costs, replay_trace

INTERVALS = Intervals()


@pytest.fixture(scope="module")
def predictions():
    return predict(replay_trace(seed=1), INTERVALS)


def test_candidates_stand_fastest_first(predictions):
    """By the speedup at each one's best K."""
    speedups = [one.best.decode_speedup.value for one in predictions.candidates]

    assert {"small", "large", "ngram"} == {one.name for one in predictions.candidates}
    assert sorted(speedups, reverse=True) == speedups


def test_every_length_is_there(predictions):
    """K = 1 to the candidate's most, with a position each."""
    for one in predictions.candidates:
        assert list(range(1, 9)) == [length.num_speculative_tokens for length in one.lengths]
        assert [length.num_speculative_tokens for length in one.lengths] == [
            len(length.acceptance_survival) for length in one.lengths
        ]


def test_the_record_agrees_with_itself(predictions):
    """Speedup = tokens per pass / those needed, and is above 1 just where τ and acceptance are."""
    for length in (length for one in predictions.candidates for length in one.lengths):
        is_faster = length.speedup > 1

        assert length.decode_speedup.value == pytest.approx(length.speedup)
        assert is_faster == (length.mean_acceptance_length.value > length.break_even_length)
        assert is_faster == (length.draft_acceptance_rate.value > length.break_even_acceptance)


def test_the_best_is_the_fastest(predictions):
    """The chosen K has the largest predicted speedup, and is as good as itself."""
    for one in predictions.candidates:
        assert max(length.speedup for length in one.lengths) == one.best.speedup
        assert one.choice.best in one.choice.indistinguishable


def test_slices_cut_the_same_traffic(predictions):
    """Every axis that cuts; prompts of its parts add up where a prompt is in one part only."""
    for one in predictions.candidates:
        sizes = {}
        for part in one.slices:
            sizes[part.axis] = sizes.get(part.axis, 0) + part.num_prompts

        assert {"category": 30, "length": 30} == sizes
        assert ["chat", "code", "translation"] == [
            part.name for part in one.slices if part.axis == "category"
        ]


def test_slices_together_are_the_whole(predictions):
    """The categories' seconds add up: the speedup of all lies among theirs."""
    for one in predictions.candidates:
        parts = [part.decode_speedup.value for part in one.slices if part.axis == "category"]

        assert min(parts) < one.best.speedup < max(parts)


def test_slices_share_one_error_rate(predictions):
    """Holm: no slice is looked at with less than the level, the first with most."""
    levels = [
        part.decode_speedup.level
        for one in predictions.candidates
        for part in one.slices
        if isinstance(part.decode_speedup, Interval)
    ]

    assert max(levels) == pytest.approx(1 - 0.05 / len(levels))
    assert min(levels) >= 0.95


def test_costs_are_told_in_steps(predictions):
    """v(0) is about 1, verifying more costs more, and c is what the table was drawn around."""
    assert [32, 128, 512] == [line.context_length for line in predictions.costs]
    for line in predictions.costs:
        assert 1 == pytest.approx(line.verify_ratios[0], abs=0.05)
        assert 9 == len(line.verify_ratios)
    assert {"small": 0.05, "large": 0.2, "ngram": 0.001} == pytest.approx(
        predictions.draft_ratios, rel=0.1
    )


def test_another_machines_costs():
    """They replace the trace's own: dearer drafts leave the same acceptance and less speed."""
    trace = replay_trace(seed=2)
    dear = make_costs({"small": 0.8, "large": 0.8, "ngram": 0.8})

    own, other = (
        {one.name: one.lengths[3] for one in predict(trace, INTERVALS, costs=costs).candidates}
        for costs in (None, dear)
    )

    assert 1 == predict(trace, INTERVALS, costs=dear).num_cost_rounds
    for name, length in own.items():
        assert length.acceptance_survival == other[name].acceptance_survival
        assert length.speedup > other[name].speedup


def test_the_same_seed_predicts_the_same():
    """Halves and resampled rounds are drawn from the seed alone."""
    trace = replay_trace(12, seed=3)

    assert predict(trace, INTERVALS, seed=7) == predict(trace, INTERVALS, seed=7)
    assert 7 == predict(trace, INTERVALS, seed=7).seed


def test_a_candidate_that_costs_do_not_time():
    """It is named, before anything is predicted of the others."""
    trace = replay_trace(8, costs=make_costs({"small": 0.1, "large": 0.1}))

    with pytest.raises(InsufficientEvidence, match="'ngram', only of: small, large"):
        predict(trace, INTERVALS)


def test_no_answers_are_refused():
    """A replay in which every prompt failed predicts nothing."""
    empty = replace(replay_trace(4), answers=(), target=(), scores={"small": ()})

    with pytest.raises(InsufficientEvidence, match="holds no answer"):
        predict(empty, INTERVALS)


def test_few_prompts_have_values_without_intervals():
    """Three prompts: a best K with its speedup, and no claim of how sure it is."""
    found = predict(replay_trace(3), INTERVALS)

    for one in found.candidates:
        assert isinstance(one.best.decode_speedup, Unmeasured)
        assert isinstance(one.choice.cross_fitted_speedup, Unmeasured)
        assert one.best.speedup > 0


def test_a_conversation_is_one_prompt():
    """Two turns each: twice the answers, no more prompts, and a slice by turn."""
    found = predict(replay_trace(10, num_turns=2), INTERVALS)

    assert (10, 20) == (found.num_prompts, found.num_answers)
    for one in found.candidates:
        assert 10 == one.best.decode_speedup.num_clusters
        assert [10, 10] == [part.num_prompts for part in one.slices if part.axis == "turn"]


def test_memory_is_weights_and_the_longest_cache():
    """By hand: the longest prompt with its answer."""
    trace = replay_trace(6)
    longest = max(one.num_prompt_tokens + one.num_tokens for one in trace.answers)

    found = {one.name: one.extra_memory_bytes for one in predict(trace, INTERVALS).candidates}

    assert 120_000_000 + 12_288 * longest == found["small"]
    assert 0 == found["ngram"]


@pytest.mark.parametrize(("chance", "tau"), [(1.0, 3.0), (0.0, 1.0)])
def test_certain_drafts(chance, tau):
    """Always or never right: rates of all or nothing keep an honest bound, τ is exact."""
    answers = [make_answer(f"p{i}", num_tokens=31, budget=31) for i in range(6)]
    trace = replay_trace(6, most=2, budget=31)
    scores = tuple(draft_scores([chance] * 31) for _ in answers)
    targets = tuple(replay_trace(1, seed=i, budget=31).target[0] for i in range(6))
    targets = tuple(
        replace(one, entropy=one.entropy[:1] * 31, token_class=one.token_class[:1] * 31)
        for one in targets
    )
    certain = replace(
        trace,
        answers=tuple(answers),
        target=targets,
        scores=dict.fromkeys(trace.scores, scores),
    )

    length = next(one for one in predict(certain, INTERVALS).candidates).lengths[1]

    assert tau == pytest.approx(length.mean_acceptance_length.value, abs=1e-9)
    assert tau == pytest.approx(length.geometric_length)
    survival = length.acceptance_survival[0]
    assert 0.3 < survival.high - survival.low < 0.7


def test_sampled_chances_are_predicted_too():
    """At temperature 1 chances are fractions, and so are counts."""
    found = predict(replay_trace(12, sampling=Sampling(temperature=1.0)), INTERVALS)

    rates = [one.best.draft_acceptance_rate.value for one in found.candidates]
    assert all(0 < rate < 1 for rate in rates)
    assert np.isfinite([one.best.speedup for one in found.candidates]).all()
