from dataclasses import replace

import numpy as np
import pytest

from calibration.truth import at_speedup, expect, true_values
from calibration.workloads import BUDGET, Category, Machine, Population, Simulator, draft
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.summary import estimate
from specmeasure.records.trace import FinishReason

POPULATION, MACHINE, DRAFT = Population(), Machine(), draft(draft_ratio=0.1)
SIMULATOR = Simulator(drafts=(DRAFT,))
PLAIN = (
    "decode_speedup",
    "end_to_end_speedup",
    "mean_acceptance_length",
    "tokens_per_target_pass",
    "draft_acceptance_rate",
)


def certain(acceptance, median_tokens):
    """Every answer alike: so many tokens, drafts accepted always or never."""
    one = Category(name="only", share=1.0, median_tokens=median_tokens, acceptance=acceptance)
    return Population(categories=(one,), tail=1e-6, difficulty=0.0, stretch=0.0)


@pytest.fixture(scope="module")
def many():
    """The estimates of 2,500 prompts."""
    trace = SIMULATOR.trace(2500, np.random.default_rng(0))
    return estimate(trace, Intervals(level=0.999, num_resamples=20)).arms[0]


@pytest.mark.parametrize("name", PLAIN)
def test_many_prompts_come_to_the_truth(many, name):
    """The exact expectation and the simulator agree to the interval of 2,500 prompts."""
    found, known = getattr(many, name), getattr(true_values(POPULATION, MACHINE, DRAFT), name)

    assert found.low <= known <= found.high
    assert found.high - found.low < 0.12 * known


def test_positions_come_to_the_truth(many):
    """Position by position, blocks cut by EOS and by the budget among them."""
    known = true_values(POPULATION, MACHINE, DRAFT)
    found = (*many.acceptance_survival, *many.conditional_acceptance)
    expected = (*known.acceptance_survival, *known.conditional_acceptance)

    assert 8 == len(found)
    assert all(one.low <= value <= one.high for one, value in zip(found, expected, strict=True))


def test_slices_come_to_the_truth(many):
    """Every category has a speedup of its own."""
    known = true_values(POPULATION, MACHINE, DRAFT).slice_speedups
    found = {one.name: one.decode_speedup_corrected for one in many.slices}

    assert set(known) == set(found)
    assert all(one.low <= known[name] <= one.high for name, one in found.items())


def test_sure_drafts_by_hand():
    """11 tokens, drafts always kept: the prefill's one, then two passes of 5; 5 + 5 = 10."""
    found = expect(certain(acceptance=50, median_tokens=11), 4).whole(np.ones(1))

    assert (11, 2, 2, 8) == pytest.approx(
        [
            one.item()
            for one in (
                found.num_tokens,
                found.num_passes,
                found.num_drafted_blocks,
                found.num_drafts,
            )
        ]
    )
    assert [[2.0] * 4] == found.num_kept.tolist() == found.num_reached.tolist()


def test_hopeless_drafts_by_hand():
    """11 tokens, drafts never kept: ten passes, each judging its first draft alone."""
    found = expect(certain(acceptance=-50, median_tokens=11), 4).whole(np.ones(1))

    assert [10.0, 0, 0, 0] == pytest.approx(found.num_reached[0])
    assert [0.0] * 4 == pytest.approx(found.num_kept[0])


def test_an_answer_cut_by_eos_by_hand():
    """9 tokens, drafts always kept: a pass of 5, then EOS is the third of four drafts."""
    found = expect(certain(acceptance=50, median_tokens=9), 4).whole(np.ones(1))

    assert [2.0, 2, 2, 1] == pytest.approx(found.num_reached[0])
    assert [2.0, 2, 2, 1] == pytest.approx(found.num_kept[0])


@pytest.mark.parametrize("speedup", [1.0, 1.089, 1.5])
def test_a_speedup_is_hit(speedup):
    """The draft's cost is the knob."""
    found = at_speedup(speedup, DRAFT, POPULATION, MACHINE)

    assert speedup == pytest.approx(true_values(POPULATION, MACHINE, found).decode_speedup)


def test_a_speedup_out_of_reach_is_refused():
    """Not even free drafts make this arm ten times faster."""
    with pytest.raises(ValueError, match="free drafts"):
        at_speedup(10, DRAFT, POPULATION, MACHINE)


def test_a_seed_is_a_workload():
    """The same seed gives the same trace, another one another."""
    first, again, other = (
        SIMULATOR.trace(8, np.random.default_rng(seed)).trials for seed in (1, 1, 2)
    )

    assert first == again
    assert first != other


def test_arms_are_rotated_and_answer_alike():
    """All arms of a prompt back to back, their order turning; every arm emits the same tokens."""
    trials = SIMULATOR.trace(6, np.random.default_rng(3)).trials
    cycles = [trials[start : start + 3] for start in range(0, len(trials), 3)]

    assert 3 == len({cycle[0].key.arm for cycle in cycles})
    for cycle in cycles:
        assert 1 == len({trial.key.prompt_id for trial in cycle})
        assert 1 == len({trial.num_emitted_tokens for trial in cycle})
        assert all(
            trial.num_emitted_tokens == sum(b.num_emitted_tokens for b in trial.blocks)
            for trial in cycle
        )


def test_long_answers_are_cut_by_the_budget():
    """The last blocks of a cut answer draft fewer, and its last token is the target's own."""
    long = certain(acceptance=50, median_tokens=4 * BUDGET)
    simulator = replace(SIMULATOR, population=long)

    trials = simulator.trace(1, np.random.default_rng(0)).trials

    assert {FinishReason.BUDGET} == {trial.finish_reason for trial in trials}
    assert {BUDGET} == {trial.num_emitted_tokens for trial in trials}
    assert not any(block.truncated for trial in trials for block in trial.blocks)


def test_the_machine_changes_its_speed():
    """Changes of 15 % stay for a while; between them it wanders by some percent."""
    still = Machine(jitter=0.0, drift=0.0, change_chance=0.05)
    paces = still.paces(2000, np.random.default_rng(0))

    assert {1.0, 1.15} == set(paces.round(9).tolist())
    assert 50 < np.count_nonzero(np.diff(paces)) < 150
