"""The distributions that tokens of an answer were picked from."""

from torch import Tensor

from specmeasure.errors import BrokenLogits
from specmeasure.records.plan import Sampling
from specmeasure.speculate.sampling import sampling_probs


def probs_of(logits: Tensor, sampling: Sampling, name: str) -> Tensor:
    """What is sampled from; of a greedy answer, the softmax of the logits. [N, V] float32.

    Raises:
        BrokenLogits: they hold NaN; ``name`` says whose they are.
    """
    probs = logits.softmax(-1) if sampling.is_greedy else sampling_probs(logits, sampling)
    if probs.sum(-1).isnan().any():
        raise BrokenLogits(f"the {name}'s logits hold NaN. Try --dtype float32.")
    return probs
