from dataclasses import replace

import pytest

from specmeasure.brief.pace import (
    machine_notes,
    noise_beyond,
    write_notices,
    write_outliers,
    write_steadiness,
)
from specmeasure.records.decision import Policy
from specmeasure.records.estimates import Outlier, SpeedStep, Steadiness, Unmeasured
from tests.brief import examples

POLICY = Policy()
STEADY = Steadiness(pace=(1.0,) * 40, steps=(), outliers=(), num_outliers=0)


@pytest.mark.parametrize(
    ("low", "high", "is_beyond"),
    [
        (0.99, 1.01, False),
        (1.02, 1.05, False),  # reaches the tolerated 1.02
        (1.021, 1.05, True),
        (0.95, 0.98, False),
        (0.95, 0.979, True),
    ],
)
def test_noise_is_beyond_where_the_interval_excludes_it(low, high, is_beyond):
    """The whole interval has to lie outside 1 ± what the policy tolerates."""
    floor = examples.interval((low + high) / 2, low, high)
    found = noise_beyond(examples.estimates(noise_floor=floor), POLICY)

    assert is_beyond == (found is not None)


def test_unknown_noise_is_not_beyond():
    """What was not measured accuses no machine."""
    floor = Unmeasured(reason="no A/A arm")

    assert noise_beyond(examples.estimates(noise_floor=floor), POLICY) is None


def test_a_quiet_finished_run_needs_no_notice():
    """The page begins with its verdict."""
    assert () == write_notices(examples.estimates(), POLICY)


def test_notices_come_in_the_order_of_their_weight():
    """Noise first, then where a sequential run stopped."""
    _, stopped, _ = examples.sampled()
    _, noisy, _ = examples.noisy()
    both = replace(stopped, noise_floor=noisy.noise_floor)
    first, second = write_notices(both, POLICY)

    assert first.startswith("The machine was too noisy: the target against itself (A/A)")
    assert second.startswith("The run stopped at look 3 of 5, after 160 of at most 400 prompts")


def test_an_unfinished_run_is_told():
    """Half of a run is not passed off as the whole; one that stopped early is no half."""
    found = examples.estimates(num_recorded_trials=640)
    _, stopped, _ = examples.sampled()
    early = replace(stopped, num_recorded_trials=640)

    assert ("The run is not finished: 640 of 1,280 planned trials were recorded.",) == (
        write_notices(found, POLICY)
    )
    assert "not finished" not in " ".join(write_notices(early, POLICY))


def test_steps_and_outliers_are_reported():
    """How many, how large, and that nothing was removed."""
    steadiness = examples.estimates().steadiness

    assert write_steadiness(steadiness) == (
        "Steadiness of the machine: 1 lasting change of pace (1.15× the time from cycle 4 on), "
        "1 trial out of line. Nothing was removed for it."
    )
    assert ("p-031, turn 1, draft k=4: 2.31× the usual time of a pass",) == (
        write_outliers(steadiness)
    )


def test_a_steady_machine_is_said_to_be_steady():
    """Silence would be taken for not having looked."""
    steady = Steadiness(pace=(1.0,), steps=(), outliers=(), num_outliers=0)

    assert "no lasting change of pace, 0 trials out of line" in str(write_steadiness(steady))


def test_steadiness_nobody_looked_at_is_not_claimed():
    """Unmeasured gives its reason; None says nothing."""
    lost = Unmeasured(reason="fewer than 10 cycles.")

    assert "Steadiness of the machine: not measured, fewer than 10 cycles." == (
        write_steadiness(lost)
    )
    assert write_steadiness(None) is None
    assert () == write_outliers(lost) == write_outliers(None)


def notes(**changes):
    _, estimates, _ = examples.go()
    return machine_notes(replace(estimates, **{"steadiness": STEADY, **changes}), Policy())


@pytest.mark.parametrize(("low", "high"), [(0.99, 1.01), (1.015, 1.05), (0.9, 0.985)])
def test_a_quiet_machine_is_not_mentioned(low, high):
    """A/A that reaches 1 ± 2 % and a steady pace say nothing."""
    floor = examples.interval((low + high) / 2, low, high)

    assert [] == notes(noise_floor=floor)


@pytest.mark.parametrize(("low", "high"), [(1.021, 1.05), (0.9, 0.979)])
def test_a_noisy_machine_is_told(low, high):
    """A/A that excludes 1 ± 2 %: what it came to, what it means, what to do."""
    [note] = notes(noise_floor=examples.interval((low + high) / 2, low, high))

    assert "too noisy" in note
    assert "cannot be GO" in note
    assert "nothing else running" in note


def test_an_unmeasured_floor_is_no_noise():
    """A run without a second baseline is not called noisy."""
    assert [] == notes(noise_floor=Unmeasured(reason="no A/A arm"), steadiness=None)


def test_steps_and_outliers_are_told():
    """Where the pace changed and by how much; how many trials stand out, and that they count."""
    pace = replace(
        STEADY,
        steps=(SpeedStep(cycle=11, ratio=1.18), SpeedStep(cycle=30, ratio=0.8)),
        outliers=(Outlier(place="p-3, turn 1, draft k=4", ratio=6.5),),
        num_outliers=2,
    )
    [note] = notes(steadiness=pace)

    assert "1.18× the time from cycle 12 on, 0.80× the time from cycle 31 on" in note
    assert "2 trials out of line" in note
    assert "Nothing was removed" in note


def test_slow_cycles_are_told():
    """They are neither a step nor an outlier, and the times hold them."""
    [note] = notes(steadiness=replace(STEADY, num_slow_cycles=7))

    assert "7 of 40 cycles far slower than usual for all arms alike" in note
