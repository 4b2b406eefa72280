from dataclasses import replace

import numpy as np
import pytest

from specmeasure.estimate.steadiness import steadiness
from specmeasure.records.estimates import Steadiness, Unmeasured
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN
from tests.fakes import DRAFT_4, NGRAM_4, make_block, make_trial
from tests.simulated_load import Server, serving_trace

ARMS = (BASELINE, DRAFT_4, NGRAM_4, BASELINE_AGAIN)
STEP_S = 0.01
PASS_S = {0: 1.0, 4: 1.7}  # steps that a pass with so many drafts takes


def recorded(num_cycles, *, noise=0.01, pace=None, context_s=0.0, contexts=None):
    """Trials in order: lengths, acceptance and look-ups vary; the machine does as told.

    Args:
        num_cycles: prompts.
        noise: of a trial's own tempo.
        pace: by cycle; above 1 is slower.
        context_s: what a token of context adds to a pass.
        contexts: prompt tokens by cycle.
    """
    rng = np.random.default_rng(0)
    contexts = rng.integers(10, 400, num_cycles) if contexts is None else contexts
    pace = np.ones(num_cycles) if pace is None else pace
    trials = []
    for cycle in range(num_cycles):
        for arm in ARMS:
            blocks = [drawn_block(arm, rng) for _ in range(rng.integers(5, 40))]
            spent = sum(STEP_S * PASS_S[b.num_draft_tokens] for b in blocks)
            spent += context_s * contexts[cycle] * len(blocks)
            trials.append(
                make_trial(
                    f"p{cycle}",
                    *blocks,
                    arm=arm.name,
                    num_prompt_tokens=int(contexts[cycle]),
                    decode_s=float(spent * pace[cycle] * np.exp(noise * rng.normal())),
                )
            )
    return trials


def drawn_block(arm, rng):
    if arm in {BASELINE, BASELINE_AGAIN} or (arm is NGRAM_4 and rng.random() < 0.6):
        return make_block(0, 0, verify_s=STEP_S)
    return make_block(4, int(rng.integers(0, 5)), verify_s=STEP_S * PASS_S[4])


def slowed(trials, place, factor):
    """The same trials, one of them slower."""
    changed = replace(trials[place], decode_s=trials[place].decode_s * factor)
    return [*trials[:place], changed, *trials[place + 1 :]]


def judged(trials) -> Steadiness:
    found = steadiness(trials)
    assert isinstance(found, Steadiness)
    return found


def test_a_steady_machine_has_a_flat_pace():
    """Length, acceptance and fruitless look-ups are no change of pace."""
    found = judged(recorded(60))

    assert pytest.approx(np.ones(60), abs=0.03) == np.array(found.pace)
    assert (0, ()) == (found.num_outliers, found.steps)


def test_a_step_is_dated_and_sized():
    """A machine 15 % slower from cycle 60 on."""
    found = judged(recorded(100, noise=0.03, pace=np.repeat([1.0, 1.15], [60, 40])))

    assert 1 == len(found.steps)
    assert abs(found.steps[0].cycle - 60) <= 2
    assert pytest.approx(1.15, abs=0.03) == found.steps[0].ratio


def test_longer_contexts_are_no_step():
    """A corpus with its long prompts last costs more a pass; the machine is as fast as before."""
    contexts = np.repeat([50, 1000], 50) + np.random.default_rng(1).integers(0, 40, 100)
    found = judged(recorded(100, context_s=STEP_S / 2000, contexts=contexts))

    assert () == found.steps


def test_a_step_hides_behind_no_context():
    """What contexts cost is learnt from neighbours in time, so a true step stays one."""
    pace = np.repeat([1.0, 1.2], 50)
    found = judged(recorded(100, context_s=STEP_S / 2000, pace=pace))

    assert [50] == [one.cycle for one in found.steps]


def test_a_stalled_trial_is_named():
    """Three times slower than its arm and its cycle: listed by place, and nothing else is."""
    found = judged(slowed(recorded(60), 41, 3.0))

    assert 1 == found.num_outliers
    assert "p10, turn 1, draft k=4" == found.outliers[0].place
    assert pytest.approx(3.0, rel=0.05) == found.outliers[0].ratio


def test_a_stalled_cycle_is_no_outlier():
    """Where all arms were slow alike, pairs are sound; the pace shows it."""
    pace = np.ones(60)
    pace[10] = 3.0
    found = judged(recorded(60, pace=pace))

    assert 0 == found.num_outliers
    assert pytest.approx(3.0, rel=0.05) == found.pace[10]
    assert () == found.steps


def test_a_slow_end_is_counted():
    """Too short to be a lasting step, and no trial is out of line with its cycle."""
    found = judged(recorded(40, pace=np.where(np.arange(40) < 33, 1.0, 3.0)))

    assert ((), 0, 7) == (found.steps, found.num_outliers, found.num_slow_cycles)


def test_noise_has_no_outlier():
    """Where trials differ by half as a rule, half is not out of line."""
    assert 0 == judged(recorded(60, noise=0.3)).num_outliers


@pytest.mark.parametrize(
    ("seconds", "reason"), [(0.0, "its clock stood still"), (-1.0, "its clock went back")]
)
def test_broken_clocks_are_named(seconds, reason):
    """A trial that took no time, or less, is an outlier whatever the others did."""
    trials = recorded(30)
    trials[5] = replace(trials[5], decode_s=seconds)
    found = judged(trials)

    assert 1 == found.num_outliers
    assert f"p1, turn 1, draft k=4: {reason}" == found.outliers[0].place
    assert 0 == found.outliers[0].ratio


def test_repeats_are_cycles_of_their_own():
    """Place and pace tell repeats apart."""
    trials = [
        replace(t, key=replace(t.key, prompt_id="p", repeat=int(t.key.prompt_id[1:])))
        for t in slowed(recorded(30), 1, 3.0)
    ]
    again = [replace(t, key=replace(t.key, repeat=t.key.repeat + 1)) for t in trials]

    assert 30 == len(judged(trials).pace)
    assert "p, turn 1, repeat 2, draft k=4" == judged(again).outliers[0].place


def test_few_cycles_have_no_pace():
    """Failed trials and answers of one token make no cycle."""
    trials = recorded(25)
    failed = [replace(t, error="no") for t in trials[: 6 * len(ARMS)]]
    found = steadiness([*failed, *trials[6 * len(ARMS) :]])

    assert isinstance(found, Unmeasured)
    assert "this run has 19" in found.reason


def test_times_without_blocks_are_taken_by_token():
    """A trace without blocks still has a pace."""
    trials = [
        make_trial(f"p{n}", blocks=(), arm=arm.name, num_emitted_tokens=11, decode_s=0.1)
        for n in range(20)
        for arm in ARMS
    ]

    assert (1.0,) * 20 == judged(trials).pace


def test_outliers_are_listed_up_to_ten():
    """All are counted."""
    trials = recorded(100)
    for place in range(0, 15 * len(ARMS), len(ARMS)):
        trials = slowed(trials, place, 2 + place)
    found = judged(trials)

    assert (15, 10) == (found.num_outliers, len(found.outliers))
    ratios = [one.ratio for one in found.outliers]
    assert ratios == sorted(ratios, reverse=True)


def test_no_trials_have_no_pace():
    """An empty trace is unmeasured."""
    assert isinstance(steadiness([]), Unmeasured)


def test_under_load_a_cycle_is_a_window():
    """A lasting change of the machine shows in the windows of all arms, at a pace of their own."""
    trace = serving_trace(Server(speedups={4: 1.3}, num_windows=30, window_noise=0.01))
    slower = [
        replace(trial, decode_s=1.3 * trial.decode_s) if trial.group >= 18 else trial
        for trial in trace.trials
    ]
    steady, found = steadiness(trace.trials), steadiness(slower)

    assert (30, (), 0) == (len(steady.pace), steady.steps, steady.num_outliers)
    assert [18] == [step.cycle for step in found.steps]
    assert found.steps[0].ratio == pytest.approx(1.3, rel=0.05)


def test_loads_have_a_pace_of_their_own():
    """Sixteen at once are slower than one; that is no change of the machine."""
    trace = serving_trace(Server(speedups={1: 1.5, 16: 0.8}, num_windows=15, window_noise=0.01))

    assert () == steadiness(trace.trials).steps


def test_few_windows_tell_no_pace():
    """Ten are too few, however many requests each had."""
    found = steadiness(serving_trace(Server(speedups={4: 1.3})).trials)

    assert (
        Unmeasured(reason="the machine's pace needs 20 windows or more, this run has 10") == found
    )
