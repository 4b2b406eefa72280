import random

import pytest
import torch

from specmeasure.engines.threads import pick_num_threads


@pytest.fixture(autouse=True)
def same_threads_after():
    """The choice is torch's own setting: other tests keep theirs."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Timed:
    """A model whose steps move a clock, by the number of threads that torch has now.

    Args:
        step_s: seconds of its step number n, from 0, with so many threads.
    """

    device = torch.device("cpu")

    def __init__(self, step_s):
        self._step_s = step_s
        self.now_s = 0.0
        self.steps = []  # number of threads of each

    def reset(self, *, rolls_back):
        assert not rolls_back

    def prefill(self, ids):
        assert ids
        self._pass()

    def forward(self, ids):
        assert (1,) == ids.shape
        self._pass()

    def pick(self, most):
        return pick_num_threads(self, most, clock=lambda: self.now_s)

    def _pass(self):
        threads = torch.get_num_threads()
        self.now_s += self._step_s(threads, self.steps.count(threads))
        self.steps.append(threads)


def scaled(step_s, speedups):
    return lambda threads, _: step_s / speedups[threads]


@pytest.mark.parametrize("step_s", [1e-4, 1e-2, 0.5])
@pytest.mark.parametrize(
    ("speedups", "best"),
    [
        ({1: 1, 2: 1.9, 4: 3.6}, 4),
        ({1: 1, 2: 1.9, 4: 2.0}, 2),  # a twentieth is not worth two threads more
        ({1: 1, 2: 0.9, 4: 1.5}, 4),
        ({1: 1, 2: 1.05, 4: 0.9}, 1),
    ],
)
def test_the_fewest_threads_that_none_beats_by_a_tenth(step_s, speedups, best):
    """Whatever the size of a step; torch is set to the choice."""
    assert best == Timed(scaled(step_s, speedups)).pick(4) == torch.get_num_threads()


def test_half_of_all_cores_is_tried():
    """Where two hardware threads share a core, twelve cores do their best with six threads."""
    speedups = {1: 1, 2: 1.9, 4: 3.6, 6: 5.2, 8: 5.0, 12: 4.8}

    assert 6 == Timed(scaled(0.01, speedups)).pick(12)


def test_one_core_is_one_thread():
    """There is nothing to compare with."""
    assert 1 == Timed(lambda *_: 0.01).pick(1)


def test_threads_that_are_mostly_faster_and_sometimes_stall_are_not_chosen():
    """As seen on a full machine: most steps of two threads are faster, one in ten takes 0.1 s."""
    rng = random.Random(4)

    def step_s(threads, _):
        if threads == 1:
            return 0.001
        return 0.1 if rng.random() < 0.1 else 0.0007

    assert [1] * 20 == [Timed(step_s).pick(2) for _ in range(20)]


@pytest.mark.parametrize("slow", [1, 2])
def test_a_spike_moves_no_choice(slow):
    """Other work that comes once and goes, for a tenth of a second, with either number."""

    def step_s(threads, number):
        spiked = threads == slow and 40 <= number < 45
        return 0.02 if spiked else 0.001 / threads

    assert 2 == Timed(step_s).pick(2)


def test_spinning_threads_cost_a_few_steps_not_minutes():
    """A hundred times slower with more than one thread: given up after two turns of one step."""
    model = Timed(lambda threads, _: 0.05 if threads == 1 else 5.0)

    assert 1 == model.pick(8)
    assert 4 == sum(threads > 1 for threads in model.steps)  # with the prefill of each turn
    assert {1, 2} == set(model.steps)


def test_larger_numbers_are_not_tried_beyond_one_that_is_far_slower():
    """Four threads stall, so eight never get their turn; two are still worth it."""
    model = Timed(lambda threads, _: {1: 0.02, 2: 0.012}.get(threads, 0.4))

    assert 2 == model.pick(8)
    assert 8 not in model.steps
