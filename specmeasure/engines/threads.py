"""How many CPU threads a model decodes fastest with, found by trying."""

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

NUM_ROUNDS = 5  # a spike of other work falls into one or two of them
MIN_STEPS, MOST_STEPS = 2, 32  # of a turn
MIN_TURN_S = 0.05
WORTH_IT = 0.9  # another thread must save a tenth: threads that wait for each other spin
FAR_SLOWER = 3.0  # a turn, than the fastest number of threads
MOST_SLOW_TURNS = 2  # then neither this number nor a larger one is tried again

Clock = Callable[[], float]


class Steppable(Protocol):
    """What decoding asks of a model, row by row."""

    @property
    def device(self) -> torch.device:
        """Where it is."""

    def reset(self, *, rolls_back: bool) -> None:
        """Forget the context."""

    def prefill(self, ids: Sequence[int]) -> object:
        """Read a context."""

    def forward(self, ids: Tensor) -> object:
        """One step."""


@torch.inference_mode()
def pick_num_threads(model: Steppable, most: int, clock: Clock = time.perf_counter) -> int:
    """The fewest of 1, 2, 4 … ``most`` threads that no larger number beats by a tenth.

    Timed on one-row steps, the shape that decoding is made of; sets torch to the choice. A small
    model gains nothing from a second thread and loses a lot where a core is not free.

    Numbers take turns, and each counts by the median over its turns of a turn's mean step. A median
    over steps would not do: where a core is not free, most steps of two threads are faster than
    those of one, and a few last a hundred times as long. A turn ends with the first steps that are
    far slower than the fastest number's, larger numbers then sit out the round, and two such turns
    end it for all of them: on a full machine that costs a few slow steps, not minutes.
    """
    turns = _Turns(means_s={number: [] for number in _candidates(most)})
    for _ in range(NUM_ROUNDS):
        for number in turns.candidates:
            torch.set_num_threads(number)
            mean_s = _mean_step_s(model, turns.too_slow_s, clock)
            if turns.is_far_slower(number, mean_s):
                break
    best = turns.fewest()
    torch.set_num_threads(best)
    return best


@dataclass(slots=True)
class _Turns:
    """Mean steps by number of threads, turn by turn."""

    means_s: dict[int, list[float]]
    num_slow: Counter[int] = field(default_factory=Counter)
    most: float = math.inf

    @property
    def candidates(self) -> list[int]:
        """Numbers that have not been given up."""
        return [number for number in self.means_s if number <= self.most]

    @property
    def too_slow_s(self) -> float:
        """What a mean step of a turn may last."""
        usual = [_usual(one) for one in self.means_s.values() if one]
        return FAR_SLOWER * min(usual, default=math.inf)

    def is_far_slower(self, number: int, mean_s: float) -> bool:
        """Take a turn in; whether larger numbers need not be tried now."""
        is_slow = number > 1 and mean_s > self.too_slow_s
        self.means_s[number].append(mean_s)
        self.num_slow[number] += is_slow
        if self.num_slow[number] >= MOST_SLOW_TURNS:
            self.most = min(self.most, number - 1)
        return is_slow

    def fewest(self) -> int:
        """The fewest threads that no larger number beats by enough."""
        best = 1
        for number in self.candidates[1:]:
            own = self.means_s[number]
            if own and _usual(own) < WORTH_IT * _usual(self.means_s[best]):
                best = number
        return best


def _candidates(most: int) -> list[int]:
    """Doubling, with half of ``most``: where two hardware threads share a core, that of cores."""
    found = {1, max(1, most // 2), most}
    number = 2
    while number < most:
        found.add(number)
        number *= 2
    return sorted(found)


def _usual(means_s: list[float]) -> float:
    return statistics.median(means_s)


def _mean_step_s(model: Steppable, too_slow_s: float, clock: Clock) -> float:
    """Of a turn's steps, after a prefill that makes the threads; one slow step may end it."""
    model.reset(rolls_back=False)
    model.prefill([1, 2, 3, 4])
    token = torch.tensor([5], device=model.device)
    began = clock()
    for num_steps in range(1, MOST_STEPS + 1):
        model.forward(token)
        passed_s = clock() - began
        is_enough = num_steps >= MIN_STEPS or passed_s > too_slow_s
        if is_enough and passed_s >= MIN_TURN_S:
            break
    return passed_s / num_steps
