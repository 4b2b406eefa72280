"""Attention of a few rows to many keys, under any mask, without copies of keys and values.

With a mask and more than one row, transformers' sdpa repeats the keys and values that heads share,
once for every head of a group, and torch's kernel goes through the keys of a head one after the
other. Here the rows of a group are read against its keys as they lie, in two batched products that
spread over the keys, too. Scores are kept in float32 up to the weights, as torch's own kernels do;
``eager`` rounds them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "specmeasure_grouped"  # among transformers' attention implementations


def grouped_attention(
    module: torch.nn.Module,
    query: Tensor,  # [B, H, N, D]
    key: Tensor,  # [B, H / G, L, D]
    value: Tensor,  # [B, H / G, L, E]
    attention_mask: Tensor | None,  # [B or 1, 1, N, L], added
    **extra: Any,
) -> tuple[Tensor, None]:
    """Attention [B, N, H, E], in transformers' own way without a mask or with a position bias."""
    if attention_mask is None or extra.get("position_bias") is not None:
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **extra
        )
        return found
    batch, num_heads, num_rows, width = query.shape
    num_shared, num_keys = key.shape[1], key.shape[2]
    of_group = num_heads // num_shared * num_rows
    scale = extra.get("scaling")
    scores = _products(
        query.reshape(batch * num_shared, of_group, width), key.flatten(0, 1)
    )  # [B · H / G, G · N, L]
    scores = torch.add(
        attention_mask[:, :, None],
        scores.view(batch, num_shared, -1, num_rows, num_keys),
        alpha=width**-0.5 if scale is None else scale,
    )
    weights = scores.softmax(-1).to(value.dtype).view(batch * num_shared, of_group, num_keys)
    read = torch.bmm(weights, value.flatten(0, 1)).view(batch, num_heads, num_rows, -1)
    return read.transpose(1, 2).contiguous(), None


def sdpa_configs(model: PreTrainedModel) -> list[Any]:
    """The configurations that say sdpa to a part of the model, each once."""
    found = {id(one): one for part in model.modules() if (one := getattr(part, "config", None))}
    return [one for one in found.values() if getattr(one, "_attn_implementation", None) == "sdpa"]


@contextmanager
def grouped(configs: Sequence[Any]) -> Iterator[None]:
    """Whatever reads these configurations attends so meanwhile."""
    for config in configs:
        config._attn_implementation = NAME  # noqa: SLF001 - transformers has no public name for it
    try:
        yield
    finally:
        for config in configs:
            config._attn_implementation = "sdpa"  # noqa: SLF001 - likewise


def _products(rows: Tensor, keys: Tensor) -> Tensor:
    """Each row with each key: [B, M, L] float32 of [B, M, D] and [B, L, D]."""
    across = keys.transpose(1, 2)
    if rows.dtype is torch.float32:
        return torch.bmm(rows, across)
    if rows.device.type != "cpu" and _widens():
        return torch.bmm(rows, across, out_dtype=torch.float32)
    return torch.bmm(rows.float(), across.float())


@lru_cache(maxsize=1)
def _widens() -> bool:
    """Whether this torch can keep the sums of a product in half precision as they are."""
    overloads: list[str] = torch.ops.aten.bmm.overloads()  # type: ignore[no-untyped-call]
    return "dtype" in overloads


AttentionInterface.register(NAME, grouped_attention)
