"""How many CPU threads a model decodes fastest with, found by trying."""

import statistics
import time

import torch

from specmeasure.decode.cache import CachedCausalLM

NUM_STEPS = 8
WORTH_IT = 0.9  # another thread must save a tenth: threads that wait for each other spin


@torch.inference_mode()
def pick_num_threads(model: CachedCausalLM, most: int) -> int:
    """The fewest of 1, 2, 4 … ``most`` threads that no larger number beats by a tenth.

    Timed on one-row steps, the shape that decoding is made of; sets torch to the choice. A small
    model gains nothing from a second thread and loses a lot where a core is not free.
    """
    candidates = [1]
    while candidates[-1] * 2 < most:
        candidates.append(candidates[-1] * 2)
    candidates = sorted({*candidates, most})
    best, best_s = 1, float("inf")
    for num_threads in candidates:
        torch.set_num_threads(num_threads)
        step_s = _step_seconds(model)
        if step_s < WORTH_IT * best_s:
            best, best_s = num_threads, step_s
    torch.set_num_threads(best)
    return best


def _step_seconds(model: CachedCausalLM) -> float:
    model.reset(rolls_back=False)
    model.prefill([1, 2, 3, 4])
    token = torch.tensor([5], device=model.device)
    seconds = []
    for _ in range(NUM_STEPS):
        started = time.perf_counter()
        model.forward(token)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
