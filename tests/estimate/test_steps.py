import math

import numpy as np
import pytest

from specmeasure.estimate.steps import find_steps

SMALLEST = math.log(1.05)


def wandering(rng, num_values, correlation, deviation, spikes=0.0):
    """AR(1) noise; a share of the values are hit by spikes of one sign."""
    shocks = rng.normal(size=num_values + 50) * math.sqrt(1 - correlation**2)
    values = np.zeros(num_values + 50)
    for i in range(1, len(values)):
        values[i] = correlation * values[i - 1] + shocks[i]
    hit = rng.random(num_values) < spikes
    return deviation * values[50:] + np.where(hit, rng.exponential(0.5, num_values), 0.0)


@pytest.mark.parametrize("num_values", [30, 100, 1000])
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
def test_a_steady_series_has_no_step(num_values, correlation):
    """Noise that follows itself is taken for a step of any size in at most 5 % of runs."""
    rng = np.random.default_rng(3)
    runs = [wandering(rng, num_values, correlation, 0.03, spikes=0.03) for _ in range(200)]
    num_false = sum(bool(find_steps(values, 0.0)) for values in runs)

    assert num_false <= 10 + 3  # a standard error of the count


@pytest.mark.parametrize("place", [20, 50, 80])
def test_a_step_of_15_percent_in_100_is_found(place):
    """In noise of 3 % that follows itself, with spikes, wherever it is."""
    rng = np.random.default_rng(4)
    found = []
    for _ in range(100):
        values = wandering(rng, 100, 0.6, 0.03, spikes=0.03)
        values[place:] += math.log(1.15)
        found.append(find_steps(values, SMALLEST))

    assert sum(map(bool, found)) > 90
    assert abs(np.median([places[0] for places in found if places]) - place) <= 2


def test_each_of_several_steps_is_found():
    """Up and down again: two steps, at their places."""
    rng = np.random.default_rng(5)
    values = wandering(rng, 300, 0.3, 0.02)
    values[100:200] += math.log(1.2)

    assert pytest.approx([100, 200], abs=3) == find_steps(values, SMALLEST)


def test_small_steps_are_mended():
    """What is certain and too small is not told."""
    values = np.repeat([0.0, 0.03], 50)

    assert [] == find_steps(values, SMALLEST)
    assert [50] == find_steps(values, 0.01)


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros(5), np.zeros(100)])
def test_nothing_happens_in_nothing(values):
    """Few or equal values have no step."""
    assert [] == find_steps(values, SMALLEST)
