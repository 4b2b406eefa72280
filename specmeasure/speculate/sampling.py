"""From logits to the distribution that is sampled, and one draw from it.

Temperature, then top-k, then top-p, as transformers and vLLM order them.
"""

import torch
from torch import Tensor

from specmeasure.records.plan import Sampling

NOT_A_TOKEN = -1  # on the device: a row of logits held NaN


def sampling_probs(logits: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities after temperature, top-k and top-p.

    Args:
        logits: [N, V], any float type; computed in float32.
        sampling: not greedy. Ties at the k-th logit are all kept; the smallest set that
            reaches ``top_p`` is kept, never fewer than one token.

    Returns:
        [N, V] float32, rows sum to 1.
    """
    scaled = logits.float() / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < scaled.shape[-1]:
        smallest_kept = scaled.topk(sampling.top_k, dim=-1).values[..., -1:]
        scaled = scaled.masked_fill(scaled < smallest_kept, -torch.inf)
    if sampling.top_p is not None and sampling.top_p < 1:
        ordered, places = scaled.softmax(-1).sort(dim=-1, descending=True)
        outside = ordered.cumsum(-1) - ordered >= sampling.top_p
        scaled = scaled.masked_fill(outside.scatter(-1, places, outside), -torch.inf)
    return scaled.softmax(-1)


def draw(weights: Tensor, *, generator: torch.Generator) -> Tensor:
    """One index per row with chance proportional to its weight, without a host sync.

    An exponential race: the first arrival among clocks of rate w is i with chance w_i / Σ w.

    Args:
        weights: [N, V] non-negative, each row with a positive entry.
        generator: on the device of ``weights``.

    Returns:
        [N] int64.
    """
    arrivals = torch.empty_like(weights).exponential_(1, generator=generator)
    return (weights / arrivals).argmax(-1)


def greedy_tokens(logits: Tensor) -> Tensor:
    """The argmax of each row of [N, V], or ``NOT_A_TOKEN`` where a row holds NaN: [N] int64."""
    top = logits.max(-1)
    return top.indices.masked_fill_(top.values.isnan(), NOT_A_TOKEN)
