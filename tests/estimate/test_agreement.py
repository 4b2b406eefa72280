"""A replay beside real runs: what agrees is counted, what does not is named."""

from dataclasses import replace

import pytest

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.agreement import find_agreement
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.prediction import predict
from specmeasure.records.estimates import ArmEstimates, Interval, Unmeasured
from specmeasure.records.plan import Sampling
from tests.estimate.paired_runs import run
from tests.estimate.replays import replay_trace
from tests.fakes import make_block, make_trial

K, BUDGET = 3, 40
INTERVALS = Intervals()
NOTHING = Unmeasured(reason="not looked at")


@pytest.fixture(scope="module")
def replay():
    """A greedy replay of 24 prompts of two turns."""
    return replay_trace(num_prompts=24, num_turns=2, most=4, budget=BUDGET)


@pytest.fixture(scope="module")
def predictions(replay):
    return predict(replay, INTERVALS)


def real_blocks(answer, scores):
    """What the loop does along a greedy answer, written down block by block."""
    blocks, place = [], 1
    while place < answer.num_tokens:
        room = min(K, BUDGET - place - 1)
        ahead = list(scores.accept_chance[place : place + room])
        num_kept = ahead.index(0.0) if 0.0 in ahead else len(ahead)
        is_cut = place + num_kept == answer.num_tokens
        blocks.append(make_block(room, num_kept, truncated=is_cut))
        place += num_kept + (not is_cut)
    return blocks


def real_trials(replay, *, name="small"):
    """A real run of one candidate that says what the replay's target said."""
    trials = []
    for answer, scores in zip(replay.answers, replay.scores[name], strict=True):
        trial = make_trial(
            answer.key.prompt_id,
            *real_blocks(answer, scores),
            prompt_hash=answer.prompt_hash,
            ids_hash=answer.ids_hash,
            sampling=answer.sampling,
        )
        key = replace(answer.key, arm=f"{name} k={K}")
        trials.append(replace(trial, key=key))
    return trials


def with_blocks(trial, blocks):
    emitted = sum(block.num_emitted_tokens for block in blocks)
    return replace(trial, blocks=tuple(blocks), num_emitted_tokens=emitted)


def measured(*, name=f"small k={K}", **changes):
    values = {
        "num_prompts": 24,
        "num_trials": 48,
        "num_failed_trials": 0,
        "num_planned_trials": 48,
        "num_emitted_tokens": 1,
        "ttft_s": NOTHING,
        "tpot_s": NOTHING,
        "memory_bytes": None,
    }
    return ArmEstimates(name=name, num_speculative_tokens=K, **{**values, **changes})


def agreement(replay, predictions, trials, **changes):
    return find_agreement(replay, predictions, run(trials).trace, measured(**changes), INTERVALS)


def test_the_same_loop_agrees_entirely(replay, predictions):
    """Every answer has as many passes, τ differs by exactly nothing, no one is named."""
    found = agreement(replay, predictions, real_trials(replay))

    assert ("small", K) == (found.candidate, found.num_speculative_tokens)
    assert (48, 48, 0) == (
        found.num_same_answers,
        found.num_equal_counts,
        found.num_other_answers,
    )
    assert () == found.unequal
    assert isinstance(found.length_difference, Interval)
    assert (0.0, 0.0, 0.0) == pytest.approx(
        (found.length_difference.low, found.length_difference.value, found.length_difference.high)
    )


def test_another_number_of_passes_is_named(replay, predictions):
    """The same tokens in one pass more: prompt, turn and both numbers."""
    trials = real_trials(replay)
    slower = next(i for i, one in enumerate(trials) if one.key.turn == 1 and len(one.blocks) > 3)
    blocks = trials[slower].blocks
    changed = with_blocks(trials[slower], [*blocks, make_block(1, 0)])
    found = agreement(replay, predictions, [*trials[:slower], changed, *trials[slower + 1 :]])

    assert (48, 47) == (found.num_same_answers, found.num_equal_counts)
    assert (
        f"{changed.key.prompt_id}, turn 2: {len(blocks) + 1} passes, {len(blocks)} predicted",
    ) == found.unequal


def test_not_more_than_ten_are_named(replay, predictions):
    """All are counted."""
    changed = [with_blocks(one, [*one.blocks, make_block(1, 0)]) for one in real_trials(replay)]
    found = agreement(replay, predictions, changed)

    assert (0, 10) == (found.num_equal_counts, len(found.unequal))


def test_other_answers_are_not_compared_pass_by_pass(replay, predictions):
    """A near-tie that went the other way is counted, and its passes are its own."""
    first, *others = real_trials(replay)
    found = agreement(
        replay,
        predictions,
        [replace(with_blocks(first, first.blocks[:1]), ids_hash="another"), *others],
    )

    assert (47, 47, 1) == (
        found.num_same_answers,
        found.num_equal_counts,
        found.num_other_answers,
    )


def test_sampled_answers_are_neither_same_nor_other(replay, predictions):
    """Two draws are not expected to be one."""
    warm = Sampling(temperature=0.7)
    trials = [replace(one, sampling=warm) for one in real_trials(replay)]
    found = agreement(replay, predictions, trials)

    assert (0, 0) == (found.num_same_answers, found.num_other_answers)


def test_the_difference_is_measured_less_predicted(replay, predictions):
    """Where real blocks keep nothing, τ is 1 and the difference is what was predicted too much."""
    trials = [
        with_blocks(one, [make_block(block.num_draft_tokens, 0) for block in one.blocks])
        for one in real_trials(replay)
    ]
    found = agreement(replay, predictions, trials)

    assert isinstance(found.length_difference, Interval)
    assert isinstance(found.predicted_length, Interval)
    assert found.length_difference.value == pytest.approx(
        1 - found.predicted_length.value, abs=1e-6
    )
    assert found.length_difference.high < 0


def test_failed_trials_and_other_arms_are_left_out(replay, predictions):
    """A failure says nothing of a loop; an arm is compared with its own trials."""
    first, second, *others = real_trials(replay)
    failed = replace(first, error="OutOfMemory: …", blocks=())
    other = replace(second, key=replace(second.key, arm="small k=2"))
    found = agreement(replay, predictions, [failed, other, *others])

    assert 46 == found.num_same_answers


def test_a_prompt_is_told_by_what_it_asks(replay, predictions):
    """The same id over another text is another prompt."""
    first, *others = real_trials(replay)
    found = agreement(replay, predictions, [replace(first, prompt_hash="another text"), *others])

    assert 47 == found.num_same_answers


def test_the_speedup_error_is_relative(replay, predictions):
    """Predicted over measured; unknown where one of them is."""
    trials = real_trials(replay)
    predicted = agreement(replay, predictions, trials).predicted_speedup
    assert isinstance(predicted, Interval)
    twice = replace(predicted, value=2 * predicted.value, high=3 * predicted.value)
    found = agreement(replay, predictions, trials, decode_speedup=twice)

    assert -0.5 == pytest.approx(found.speedup_error)
    assert agreement(replay, predictions, trials).speedup_error is None


def test_an_arm_without_a_candidate_is_refused(replay, predictions):
    """Nothing was predicted for it, and its name is said."""
    with pytest.raises(InsufficientEvidence, match="no candidate for the arm 'medusa k=3'"):
        agreement(replay, predictions, real_trials(replay), name="medusa k=3")


def test_runs_that_share_no_turn_are_refused(replay, predictions):
    """Nothing can be paired."""
    strangers = [replace(one, prompt_hash="another text") for one in real_trials(replay)]

    with pytest.raises(InsufficientEvidence, match="share no answered turn"):
        agreement(replay, predictions, strangers)
