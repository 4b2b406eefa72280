"""The target's own first layers as a draft: same embeddings, same norm and head, no new weights.

Elhoushi et al. 2024 (LayerSkip, arXiv:2404.16710). As a model of their own the layers keep a cache
of their own, and what they computed is computed again in verification; ``shared_exit`` is the way
without that. On models that were not trained for it few drafts are accepted.
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
    cut = cut_layers(target.model, first=0, end=num_layers)
    return CachedCausalLM(cut, vocab_size=target.vocab_size)


class ExitReader:
    """Logits after the first layers from the target's own pass: [B, C, V].

    The hidden state goes through a model without layers, so that norm, head and whatever scales the
    logits are the model's own.
    """

    def __init__(self, target: CachedCausalLM, num_layers: int) -> None:
        self._num_layers = num_layers
        self._vocab_size = target.vocab_size
        self._head = cut_layers(target.model, first=0, end=0)

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
    cut = cut_layers(target.model, first=0, end=num_layers)
    expected = cut(input_ids=ids, use_cache=False).logits
    try:
        reader = ExitReader(target, num_layers)
        output = target.model(input_ids=ids, use_cache=False, output_hidden_states=True)
        found = reader(Read(logits=output.logits, hidden_states=tuple(output.hidden_states)))
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return None  # a model without layers is more than some can be
    difference = (found - expected[..., : target.vocab_size]).abs().max()
    return reader if difference <= TOLERANCE * expected.float().std() else None


def cut_layers(model: Any, *, first: int, end: int | None) -> Any:
    """A shallow copy with the layers from ``first`` up to ``end``, None: all that are left.

    Embeddings, norm and head stay; weights are shared, and the original is left as it is.

    Raises:
        UnsupportedModel: no such layer, a model whose layers are not found, or one whose forward
            was replaced.
    """
    backbone = getattr(model, model.base_model_prefix, None)
    if any("forward" in vars(one) for one in (model, backbone) if one is not None):
        raise UnsupportedModel(
            "early exit: the target is spread over devices or quantised; what then stands around "
            "its forward runs all of its layers. Leave --device-map or --early-exit out."
        )
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
    cut_at = first if end is None else end
    if not 0 <= cut_at < depth:
        raise UnsupportedModel(
            f"early exit after layer {cut_at}: the target has {depth} layers; name 1 to "
            f"{depth - 1}."
        )
    layers = getattr(backbone, lists[0])[first:end]
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[first:end]
    cut, inner = shallow(model), shallow(backbone)
    cut.config = inner.config = config
    setattr(inner, lists[0], layers)
    setattr(cut, model.base_model_prefix, inner)
    return cut


def shallow(module: Any) -> Any:
    """A copy that shares weights and children, and whose hooks and children can be changed."""
    twin = copy.copy(module)
    for name in ("_modules", "_parameters", "_buffers", "_forward_hooks"):
        twin.__dict__[name] = type(module.__dict__[name])(module.__dict__[name])
    return twin
