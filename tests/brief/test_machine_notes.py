from dataclasses import replace

import pytest

from specmeasure.brief.machine_notes import machine_notes
from specmeasure.records.decision import Policy
from specmeasure.records.estimates import Outlier, SpeedStep, Steadiness, Unmeasured
from tests.brief import examples

STEADY = Steadiness(pace=(1.0,) * 40, steps=(), outliers=(), num_outliers=0)


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
    assert "Stop other work" in note


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
    steps, outliers = notes(steadiness=pace)

    assert "1.18× slower from turn 12 on; 1.25× faster from turn 31 on" in steps
    assert "2 trials" in outliers
    assert "6.5× (p-3, turn 1, draft k=4)" in outliers
    assert "None was left out" in outliers
