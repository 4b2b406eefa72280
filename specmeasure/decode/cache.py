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
from torch.nn import functional
from transformers import Cache, DynamicCache, PreTrainedModel

from specmeasure.errors import UnsupportedModel
from specmeasure.speculate.tree import lineage, path_to

TAKE_ANY_MASK = ("eager", "sdpa")  # of transformers' attention implementations


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
        self.last_row_only = {"logits_to_keep": 1} if "logits_to_keep" in self.arguments else {}
        self._rolls_back = False
        self._cache = self._new_cache()
        self._snapshot: Cache | None = None
        self._since_snapshot: list[Tensor] = []
        self._inputs: HeadInputs | None = None  # of the output head, if watched
        self._states: Tensor | None = None  # [N, D] of the last forward
        self._last_kept = -1  # of its rows
        self._num_last = 0  # tokens that the last forward read

    def watch_states(self) -> None:
        """From now on remember what goes into the output head; see ``last_state``.

        A model that does not call its head is refused (``UnsupportedModel``) by the next read.
        """
        if self._inputs is None:
            self._inputs = HeadInputs(self.model)

    @property
    def last_state(self) -> Tensor:
        """What went into the output head for the last token that is remembered: [D].

        Raises:
            RuntimeError: states are not watched, or nothing was read since.
        """
        if self._states is None:
            raise RuntimeError("no state was watched")
        return self._states[self._last_kept]

    @property
    def device(self) -> torch.device:
        """Where ids go and logits come from."""
        return torch.device(self.model.device)

    @property
    def cache(self) -> Cache:
        """Keys and values of what is remembered now; another object after every reset."""
        return self._cache

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
        logits = self._read(torch.tensor(ids, device=self.device), **self.last_row_only)
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
        return self._read(
            ids,
            attention_mask=functional.pad(shape.mask, (num_read, 0))[None, None],  # all see these
            position_ids=(num_read + shape.depths)[None],
        )

    def keep_path(self, rows: Sequence[int]) -> None:
        """Remember these rows of the tree that was read, forget the others."""
        num_dropped = self._num_last - len(rows)
        first_place = self._cache.get_seq_length() - self._num_last
        num_staying = sum(1 for place, row in enumerate(rows) if row == place)  # rows only rise
        if num_staying < len(rows):
            moving = torch.tensor(rows[num_staying:], device=self.device)
            self._move(first_place + moving, first_place + num_staying)
        self._cache.crop(-num_dropped)
        self._last_kept = rows[-1]

    def _move(self, places: Tensor, start: int) -> None:
        """Put the keys and values of these places where ``start`` and the places behind it are."""
        for layer in self._cache.layers:
            if layer.is_initialized:  # one that borrows from another layer never is
                for whole in (layer.keys, layer.values):  # each [1, heads, S, D]
                    moved = whole.index_select(-2, places.to(whole.device))  # a copy
                    whole[..., start : start + len(places), :] = moved

    def _read(self, ids: Tensor, **extra: Any) -> Tensor:
        self._num_last, self._last_kept = len(ids), -1
        if self._inputs is not None:
            self._inputs.look()
        output = self.model(
            input_ids=ids[None], past_key_values=self._cache, use_cache=True, **extra
        )
        if self._inputs is not None:
            self._states = self._inputs.taken()
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


class HeadInputs:
    """What goes into a model's output head, of a pass that is made between two calls."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._looks = False
        self._seen: Tensor | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._remember)

    def look(self) -> None:
        """From now on."""
        self._looks, self._seen = True, None

    def taken(self) -> Tensor:
        """States [N, D] of the pass since then, handed over.

        Raises:
            UnsupportedModel: the model does not call its head.
        """
        seen, self._looks, self._seen = self._seen, False, None
        if seen is None:
            raise hidden_states_error(self._model)
        return seen

    def _remember(self, _: object, inputs: tuple[Tensor, ...]) -> None:
        if self._looks:
            self._seen = inputs[0][0]


def hidden_states_error(model: PreTrainedModel) -> UnsupportedModel:
    """What to say where heads are wanted, and what goes into the output head is not seen."""
    return UnsupportedModel(
        f"heads on the target: model type {model.config.model_type!r} does not call its output "
        "head as a module, so that what goes into it is not seen. Leave the heads out."
    )


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

    expected = [_after(model, prompt + kept[:num_kept]) for num_kept in (2, 3)]
    differs = difference(torch.stack(found), torch.stack(expected), model)
    if differs is not None:
        raise UnsupportedModel(
            f"{name}: after a rollback its cache ({model.rollback_kind}) differs from a fresh "
            f"prefill {differs}. Speculation with this model would be measured wrongly, so it is "
            f"refused; model type {model.model.config.model_type!r}."
        )


@torch.inference_mode()
def check_tree(model: CachedCausalLM, name: str) -> None:
    """Read a tree, keep one of its paths and read on; compare with readings of those paths alone.

    The tolerance is that of ``check_rollback``.

    Raises:
        UnsupportedModel: the model reads no trees, or reads them otherwise than their paths.
    """
    _refuse_other_attention(model, name)
    parents = (-1, 0, 0, 0, 1, 2, 2, 3, 6)
    kept = (0, 2, 6, 8)  # none of them stands where it would in a chain, but for the first
    ids = [(7 * place + 3) % model.vocab_size for place in range(8 + len(parents) + 2)]
    prompt, nodes, then = ids[:8], ids[8 : 8 + len(parents)], ids[8 + len(parents) :]
    paths = [path_to(node, parents) for node in range(len(parents))]

    model.reset(rolls_back=True)
    model.prefill(prompt)
    found = model.forward_tree(torch.tensor(nodes, device=model.device), parents)
    model.keep_path(kept)
    read_on = model.forward(torch.tensor(then, device=model.device))

    expected = [_after(model, [*prompt, *(nodes[node] for node in path)]) for path in paths]
    going_on = [*prompt, *(nodes[node] for node in kept)]
    expected += [_after(model, [*going_on, *then[: 1 + place]]) for place in range(len(then))]
    misread = difference(torch.cat([found, read_on]), torch.stack(expected), model)
    if misread is not None:
        raise UnsupportedModel(
            f"{name}: it reads a tree of drafts otherwise than the tree's paths, {misread}. Trees "
            "would be measured wrongly with this model, so they are refused; draft chains. Model "
            f"type {model.model.config.model_type!r}."
        )


def attention_of(model: CachedCausalLM) -> str:
    """The name of its attention implementation."""
    return str(model.model.config._attn_implementation)  # noqa: SLF001 - no public name


def _refuse_other_attention(model: CachedCausalLM, name: str) -> None:
    """Raise UnsupportedModel where a mask or positions would be ignored, or refused in mid-run."""
    attention = attention_of(model)
    if attention not in TAKE_ANY_MASK:
        raise UnsupportedModel(
            f"{name}: trees of drafts need attention that takes any mask, and {attention!r} does "
            "not. Load it with --attn sdpa, or draft chains."
        )
    lacking = {"attention_mask", "position_ids"} - model.arguments
    if lacking:
        raise UnsupportedModel(
            f"{name}: trees of drafts need a model that is told {' and '.join(sorted(lacking))}; "
            f"model type {model.model.config.model_type!r} is not. Draft chains."
        )


def _after(model: CachedCausalLM, ids: Sequence[int]) -> Tensor:
    """Logits [V] after a fresh prefill."""
    model.reset(rolls_back=False)
    return model.prefill(ids)[-1]


def difference(found: Tensor, expected: Tensor, model: CachedCausalLM) -> str | None:
    """What to say of logits [N, V] that are further apart than rounding; None: they are not."""
    largest = float((found - expected).abs().max())
    spread = float(expected[-1].float().std())
    tolerance = 1e-3 if model.model.dtype is torch.float32 else 0.1
    if largest <= tolerance * spread:
        return None
    return f"by {largest:.3g} (logit spread {spread:.3g})"  # also where NaN


@dataclass(frozen=True, slots=True, kw_only=True)
class _TreeShape:
    mask: Tensor  # [N, N] added to attention: 0 from a row to itself and its ancestors
    depths: Tensor  # [N] from 0


@lru_cache(maxsize=64)
def _tree_shape(parents: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> _TreeShape:
    sees = lineage(parents, device)
    mask = torch.zeros(sees.shape, dtype=dtype, device=device)
    return _TreeShape(
        mask=mask.masked_fill(~sees, torch.finfo(dtype).min),  # bool would mislead eager attention
        depths=sees.sum(-1) - 1,
    )


def _tensors_of(layer: object) -> list[Tensor]:
    found: list[Tensor] = []
    for value in vars(layer).values():
        held = value.values() if isinstance(value, dict) else [value]
        found += [one for one in held if isinstance(one, Tensor)]
    return found
