"""The target's own first layers as a draft: same embeddings, same norm and head, no new weights.

Elhoushi et al. 2024 (LayerSkip, arXiv:2404.16710). The layers keep a cache of their own here; what
they computed is computed again in verification. On models that were not trained for it few drafts
are accepted.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from specmeasure.decode.batch import Read
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.errors import UnsupportedModel

NUM_TRIED = 8  # tokens on which the two readings are compared
TOLERANCE = 1e-3  # of the logits' spread


def first_layers(target: CachedCausalLM, num_layers: int) -> CachedCausalLM:
    """The target cut after ``num_layers`` layers; all weights are shared.

    Raises:
        UnsupportedModel: no such layer, or a model whose layers are not found.
    """
    return CachedCausalLM(_cut(target.model, num_layers), vocab_size=target.vocab_size)


class ExitReader:
    """Logits after the first layers from the target's own pass: [B, C, V].

    The hidden state goes through a model without layers, so that norm, head and whatever scales the
    logits are the model's own.
    """

    def __init__(self, target: CachedCausalLM, num_layers: int) -> None:
        self._num_layers = num_layers
        self._vocab_size = target.vocab_size
        self._head = _cut(target.model, 0)

    def __call__(self, read: Read) -> Tensor:
        hidden = read.hidden_states[self._num_layers]
        logits: Tensor = self._head(inputs_embeds=hidden, use_cache=False).logits
        return logits[..., : self._vocab_size]


@torch.inference_mode()
def exit_reader(target: CachedCausalLM, num_layers: int) -> ExitReader | None:
    """A reader that agrees with the cut model, or None: the cut model has to be run by itself.

    Models that do something to embeddings on their way in, such as adding positions, do it again.
    """
    ids = torch.arange(1, NUM_TRIED + 1, device=target.device)[None]
    expected = _cut(target.model, num_layers)(input_ids=ids, use_cache=False).logits
    try:
        reader = ExitReader(target, num_layers)
        output = target.model(input_ids=ids, use_cache=False, output_hidden_states=True)
        found = reader(Read(logits=output.logits, hidden_states=tuple(output.hidden_states)))
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return None  # a model without layers is more than some can be
    difference = (found - expected[..., : target.vocab_size]).abs().max()
    return reader if difference <= TOLERANCE * expected.float().std() else None


def _cut(model: Any, num_layers: int) -> Any:
    """A shallow copy whose list of layers ends early; the original is left as it is."""
    backbone = getattr(model, model.base_model_prefix, None)
    depth = getattr(model.config.get_text_config(), "num_hidden_layers", 0)
    lists = [
        name
        for name, child in (backbone.named_children() if backbone is not None else ())
        if isinstance(child, nn.ModuleList) and len(child) == depth
    ]
    if len(lists) != 1 or model.config.get_text_config() is not model.config:
        raise UnsupportedModel(
            f"early exit: the layers of model type {model.config.model_type!r} were not found. "
            "Leave --early-exit out."
        )
    if not 0 <= num_layers < depth:
        raise UnsupportedModel(
            f"early exit after layer {num_layers}: the target has {depth} layers; name 1 to "
            f"{depth - 1}."
        )
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = num_layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:num_layers]
    cut, inner = _shallow(model, config), _shallow(backbone, config)
    setattr(inner, lists[0], getattr(backbone, lists[0])[:num_layers])
    setattr(cut, model.base_model_prefix, inner)
    return cut


def _shallow(module: Any, config: Any) -> Any:
    twin = copy.copy(module)
    for name in ("_modules", "_parameters", "_buffers"):
        twin.__dict__[name] = dict(module.__dict__[name])
    twin.config = config
    return twin
