"""Whether a model can decode in passes that are captured, proved on the loaded model."""

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from specmeasure.decode.cache import (
    TAKE_ANY_MASK,
    CachedCausalLM,
    Rollback,
    attention_of,
    difference,
)
from specmeasure.decode.device_failures import is_of_device
from specmeasure.decode.graphs import Graphs
from specmeasure.decode.grouped_attention import sdpa_configs
from specmeasure.decode.static_cache import SHORTEST
from specmeasure.decode.static_model import GROUPED_FROM, StaticCausalLM
from specmeasure.errors import UnsupportedModel

NUM_PROMPT = 16  # tokens of the trial
PARENTS = (-1, 0, 0, 0, 1, 2, 2, 3, 6)  # of its tree
KEPT = (0, 2, 6, 8)  # none of them stands where it would in a chain, but for the first
NUM_ROWS = (1, 2, 4, len(PARENTS))  # of its passes
_BROKEN = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


def static_twin(
    model: CachedCausalLM, graphs: Graphs, *, shortest: int = SHORTEST
) -> StaticCausalLM:
    """The same model with a static cache and captured passes, empty.

    It has read blocks with everything, something and nothing kept, and a tree, all of them as the
    model with its own cache read them, within the tolerance of ``check_rollback``: once attending
    as it does over short lengths, once as over long ones.

    Raises:
        UnsupportedModel: why it cannot, in words that follow a colon.
        RuntimeError: memory ran out meanwhile, or the device broke; of the model it tells nothing.
    """
    reason = unfit(model)
    if reason is not None:
        raise UnsupportedModel(reason)
    for grouped_from in (0, GROUPED_FROM) if sdpa_configs(model.model) else (GROUPED_FROM,):
        twin = _tried(model, graphs, shortest=shortest, grouped_from=grouped_from)
    return twin


def _tried(
    model: CachedCausalLM, graphs: Graphs, *, shortest: int, grouped_from: int
) -> StaticCausalLM:
    """A twin that read what the model itself read, empty."""
    try:
        twin = StaticCausalLM(model, graphs, shortest=shortest, grouped_from=grouped_from)
        try:
            found = _trial(twin)
        finally:
            twin.release()  # its graphs first, then their pool
    except _BROKEN as error:  # whatever an architecture makes of a cache that it does not know
        if is_of_device(error):
            raise
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise UnsupportedModel(f"its passes cannot be captured ({said})") from error
    expected = _trial(model)
    model.reset(rolls_back=False)
    differs = difference(found, expected, model)
    if differs is not None:
        raise UnsupportedModel(f"captured passes differ from its own {differs}")
    return twin


def unfit(model: CachedCausalLM) -> str | None:
    """What speaks against a model without a trial, also of one without weights; None: nothing."""
    if model.rollback_kind is not Rollback.CROP:
        return f"its cache forgets by {model.rollback_kind}, and one of full attention is needed"
    if attention_of(model) not in TAKE_ANY_MASK:
        return f"{attention_of(model)!r} attention takes no mask of its own; sdpa and eager do"
    lacking = {"attention_mask", "position_ids"} - model.arguments
    if lacking:
        return f"model type {model.model.config.model_type!r} is not told {' and '.join(lacking)}"
    if len({str(weight.device) for weight in model.model.parameters()}) > 1:
        return "it is spread over devices"
    layers = DynamicCache(config=model.model.config).layers
    if any(type(layer) is not DynamicLayer for layer in layers):
        return "its cache holds more than keys and values"
    return None


@torch.inference_mode()
def _trial(model: CachedCausalLM | StaticCausalLM) -> Tensor:
    """Logits [N, V] of a prompt, of blocks of which something is forgotten, and of a tree."""
    if isinstance(model, StaticCausalLM):
        model.prepare(NUM_ROWS, first=NUM_PROMPT + 1, last=2 * NUM_PROMPT)
    device, vocab_size = model.device, model.vocab_size
    ids = [(7 * place + 3) % vocab_size for place in range(2 * NUM_PROMPT)]
    blocks = torch.tensor(ids[NUM_PROMPT:], device=device)
    nodes = blocks[-len(PARENTS) :]
    model.reset(rolls_back=True)
    seen = [model.prefill(ids[:NUM_PROMPT])]
    for num_rows, num_forgotten in ((4, 3), (1, 0), (2, 1), (4, 4)):
        seen.append(model.forward(blocks[:num_rows]).clone())
        model.rollback(num_forgotten)
    seen.append(model.forward_tree(nodes, PARENTS).clone())
    model.keep_path(KEPT)
    seen.append(model.forward(blocks[2:4]).clone())
    model.rollback(1)
    seen.append(model.forward(blocks[4:5]).clone())
    return torch.cat(seen)
