"""A Hugging Face causal LM that can forget: its KV cache is rolled back after each block.

Three ways, chosen by what the cache holds (reference behaviour of transformers >= 5.16):

- full attention: ``crop(-n)``;
- sliding windows and convolutions: past states are recorded during a block, then cropped;
- recurrent state: a copy is taken at each block's start, and what was kept is read again.

``check_rollback`` proves the choice on the loaded model before anything is measured, ``check_tree``
that a tree of drafts is read as its paths would be.
"""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel

from specmeasure.errors import UnsupportedModel


class Rollback(StrEnum):
    """How a cache forgets."""

    CROP = "crop"
    RECORD = "record and crop"
    SNAPSHOT = "snapshot and replay"


class CachedCausalLM:
    """``CachedModel`` over a transformers model, batch 1.

    Args:
        model: a causal LM in eval mode.
        vocab_size: logits beyond it (vocabulary padding) are dropped.
    """

    def __init__(self, model: PreTrainedModel, *, vocab_size: int) -> None:
        self.model = model
        self.vocab_size = vocab_size
        self.rollback_kind = rollback_kind(model)
        self.arguments = frozenset(inspect.signature(model.forward).parameters)  # of its forward
        self._last_row_only = {"logits_to_keep": 1} if "logits_to_keep" in self.arguments else {}
        self._rolls_back = False
        self._cache = self._new_cache()
        self._snapshot: Cache | None = None
        self._since_snapshot: list[Tensor] = []
        self._states: Tensor | None = None  # [N, D] of the last forward
        self._last_kept = -1  # of its rows
        self._num_last = 0  # tokens that the last forward read

    def watch_states(self) -> None:
        """From now on remember what goes into the output head; see ``last_state``."""
        if self._states is None:
            self._states = torch.empty(0)
            head = self.model.get_output_embeddings()
            head.register_forward_pre_hook(self._remember_states)

    @property
    def last_state(self) -> Tensor:
        """What went into the output head for the last token that is remembered: [D].

        Raises:
            RuntimeError: states are not watched, or nothing was read since.
        """
        if self._states is None or not len(self._states):
            raise RuntimeError("no state was watched")
        return self._states[self._last_kept]

    @property
    def device(self) -> torch.device:
        """Where ids go and logits come from."""
        return torch.device(self.model.device)

    @property
    def cache_bytes(self) -> int:
        """Bytes of the tensors in the cache now."""
        return sum(
            tensor.numel() * tensor.element_size()
            for layer in self._cache.layers
            for tensor in _tensors_of(layer)
        )

    def reset(self, *, rolls_back: bool) -> None:
        """Start an empty sequence."""
        self._cache = self._new_cache()
        self._rolls_back = rolls_back
        if rolls_back and self.rollback_kind is Rollback.RECORD:
            self._cache.activate_past_recording()

    def prefill(self, ids: Sequence[int]) -> Tensor:
        """Read a prompt; logits [1, V] after its last token."""
        logits = self._read(torch.tensor(ids, device=self.device), **self._last_row_only)
        self._settle()
        return logits[-1:]

    def forward(self, ids: Tensor) -> Tensor:
        """Read ids [N]; logits [N, V]."""
        if self._snapshot is not None:
            self._since_snapshot.append(ids)
        return self._read(ids)

    def rollback(self, num_tokens: int) -> None:
        """Forget the last ``num_tokens`` of what was read since the last rollback."""
        self._last_kept = -1 - num_tokens
        if self.rollback_kind is Rollback.SNAPSHOT:
            if num_tokens and self._snapshot is not None:
                kept = torch.cat(self._since_snapshot)[:-num_tokens]
                self._cache = self._snapshot
                if len(kept):
                    self._read(kept)
                    self._last_kept = -1
            self._settle()
        elif num_tokens or self.rollback_kind is Rollback.RECORD:
            self._crop(num_tokens)

    def forward_tree(self, ids: Tensor, parents: Sequence[int]) -> Tensor:
        """Read ids [N], each after its parent among them, -1: after what was read before.

        Returns:
            logits [N, V]

        Raises:
            UnsupportedModel: the cache cannot drop tokens from its middle.
        """
        if self.rollback_kind is not Rollback.CROP:
            raise UnsupportedModel(
                f"trees of drafts need a cache of full attention; this one forgets by "
                f"{self.rollback_kind}. Draft chains."
            )
        shape = _tree_shape(tuple(parents), self.model.dtype, self.device)
        num_read = self._cache.get_seq_length()
        before = shape.mask.new_zeros(len(ids), num_read)
        return self._read(
            ids,
            attention_mask=torch.cat([before, shape.mask], dim=-1)[None, None],
            position_ids=(num_read + shape.depths)[None],
        )

    def keep_path(self, rows: Sequence[int]) -> None:
        """Remember these rows of the tree that was read, forget the others."""
        self._last_kept = rows[-1]
        num_read = self._cache.get_seq_length()
        places = torch.tensor(rows, device=self.device)
        num_before = num_read - self._num_last
        for layer in self._cache.layers:
            for name in ("keys", "values"):  # each [1, heads, S, D]
                whole = getattr(layer, name)
                kept = whole.index_select(-2, num_before + places.to(whole.device))
                whole[..., num_before : num_before + len(rows), :] = kept
                setattr(layer, name, whole[..., : num_before + len(rows), :])

    def _remember_states(self, _: object, inputs: tuple[Tensor, ...]) -> None:
        self._states = inputs[0][0]

    def _read(self, ids: Tensor, **extra: Any) -> Tensor:
        self._num_last, self._last_kept = len(ids), -1
        output = self.model(
            input_ids=ids[None], past_key_values=self._cache, use_cache=True, **extra
        )
        logits: Tensor = output.logits[0, :, : self.vocab_size]
        return logits

    def _settle(self) -> None:
        """Make the present the state that the next block starts from."""
        if not self._rolls_back:
            return
        if self.rollback_kind is Rollback.RECORD:
            self._crop(0)
        elif self.rollback_kind is Rollback.SNAPSHOT:
            self._snapshot = copy.deepcopy(self._cache)
            self._since_snapshot = []

    def _crop(self, num_tokens: int) -> None:
        if self._rolls_back:
            self._cache.crop(-num_tokens)

    def _new_cache(self) -> DynamicCache:
        self._snapshot, self._since_snapshot = None, []
        return DynamicCache(config=self.model.config)


def rollback_kind(model: PreTrainedModel) -> Rollback:
    """The way that this model's cache forgets."""
    if model._is_stateful:  # noqa: SLF001 - transformers has no public name for it
        return Rollback.SNAPSHOT
    cache = DynamicCache(config=model.config)
    if any(cache.is_sliding) or any(cache.is_linear):
        return Rollback.RECORD
    return Rollback.CROP


@torch.inference_mode()
def check_rollback(model: CachedCausalLM, name: str) -> None:
    """Read, forget and read again; compare with a model that never read the forgotten tokens.

    The tolerance is a thousandth of the logits' spread in float32 and a tenth in half precision:
    rounding is far below it, a stale or advanced state far above. Sliding windows up to 256 tokens
    are crossed; larger ones are not.

    Raises:
        UnsupportedModel: forgetting left a trace.
    """
    window = getattr(model.model.config, "sliding_window", None) or 0
    length = window + 8 if 0 < window <= 256 else 16
    ids = [(7 * place + 3) % model.vocab_size for place in range(length + 6)]
    prompt, kept, wrong = ids[:length], ids[length : length + 3], ids[length + 3 :]

    def tensor(tokens: list[int]) -> Tensor:
        return torch.tensor(tokens, device=model.device)

    model.reset(rolls_back=True)
    model.prefill(prompt)
    model.forward(tensor([kept[0], *wrong]))  # keep one of four
    model.rollback(len(wrong))
    found = [model.forward(tensor(kept[1:2]))[-1]]  # keep all
    model.rollback(0)
    model.forward(tensor(wrong))  # keep none, in two reads
    model.forward(tensor(wrong[:1]))
    model.rollback(len(wrong) + 1)
    found.append(model.forward(tensor(kept[2:]))[-1])
    model.rollback(0)

    expected = []
    for num_kept in (2, 3):
        model.reset(rolls_back=False)
        expected.append(model.prefill(prompt + kept[:num_kept])[-1])
    difference = float((torch.stack(found) - torch.stack(expected)).abs().max())
    spread = float(expected[-1].float().std())
    tolerance = 1e-3 if model.model.dtype is torch.float32 else 0.1
    if not difference <= tolerance * spread:  # also where NaN
        raise UnsupportedModel(
            f"{name}: after a rollback its cache ({model.rollback_kind}) differs from a fresh "
            f"prefill by {difference:.3g} (logit spread {spread:.3g}). Speculation with this model "
            f"would be measured wrongly, so it is refused; model type "
            f"{model.model.config.model_type!r}."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _TreeShape:
    mask: Tensor  # [N, N] added to attention: 0 from a row to itself and its ancestors
    depths: Tensor  # [N] from 0


@lru_cache(maxsize=64)
def _tree_shape(parents: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> _TreeShape:
    sees = torch.zeros(len(parents), len(parents), dtype=torch.bool)
    for row, parent in enumerate(parents):
        if parent >= 0:
            sees[row] = sees[parent]
        sees[row, row] = True
    mask = torch.zeros(sees.shape, dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min)
    return _TreeShape(mask=mask.to(device), depths=(sees.sum(-1) - 1).to(device))


def _tensors_of(layer: object) -> list[Tensor]:
    found: list[Tensor] = []
    for value in vars(layer).values():
        held = value.values() if isinstance(value, dict) else [value]
        found += [one for one in held if isinstance(one, Tensor)]
    return found
