"""Models without their weights, on the meta device: what weighs how much, before it is read."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from specmeasure.decode.cache import CachedCausalLM
from specmeasure.engines.weights import weight_file_bytes
from specmeasure.records.plan import ModelOptions

WRITES_SCORES = "eager"  # of attention implementations; all others are fused kernels


@dataclass(frozen=True, slots=True, kw_only=True)
class BareModel:
    """A model as it will be in memory, but for what its weights say."""

    name: str
    cached: CachedCausalLM  # its cache can be filled
    weight_bytes: int  # tied ones count once

    @property
    def tensors(self) -> list[Tensor]:
        return _tensors(self.cached.model)


def bare_model(
    name: str,
    config: Any,
    options: ModelOptions,
    *,
    dtype: torch.dtype | None,
    num_tokens: int | None = None,
) -> BareModel | None:
    """The model that a config describes.

    None where a config does not tell: code of its own, no dtype, weights that are quantised and not
    on this machine, or an architecture that cannot be built without weights. Of quantised weights
    the files' sizes count; what their kernels unpack meanwhile is not known.

    Args:
        name: folder or hub id.
        config: of a causal LM.
        options: how it will be loaded.
        dtype: it will be loaded in; None: the config's own.
        num_tokens: that the tokenizer knows, where logits beyond them are dropped.
    """
    dtype = dtype or getattr(config, "dtype", None)
    is_quantised = getattr(config, "quantization_config", None) is not None
    stored = weight_file_bytes(name) if is_quantised else None
    if options.trust_remote_code or dtype is None or (is_quantised and stored is None):
        return None
    fused = None if options.attn != WRITES_SCORES else WRITES_SCORES
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                copy.deepcopy(config), dtype=dtype, attn_implementation=fused
            ).eval()
            width = config.get_text_config().vocab_size
            cached = CachedCausalLM(model, vocab_size=min(num_tokens or width, width))
    except (AttributeError, ImportError, KeyError, RuntimeError, TypeError, ValueError):
        return None  # some build parts of themselves out of values that they do not have here
    return BareModel(
        name=name,
        cached=cached,
        weight_bytes=_num_bytes(_tensors(model)) if stored is None else stored,
    )


def _tensors(model: Any) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _num_bytes(tensors: Iterable[Tensor]) -> int:
    storages = {id(one.untyped_storage()): one.untyped_storage() for one in tensors}
    return sum(storage.nbytes() for storage in storages.values())
