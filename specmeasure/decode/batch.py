"""Many sequences at once through one model: batched answers, and reading ahead in chunks.

Answers are padded on the left, with a mask and explicit positions; finished sequences are read on
the right, where causal attention never sees the padding. Logits exist for one chunk at a time.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from specmeasure.decode.cache import CachedCausalLM, hidden_states_error
from specmeasure.decode.stopping import Stopping
from specmeasure.errors import BrokenLogits
from specmeasure.records.plan import Sampling
from specmeasure.records.trace import FinishReason
from specmeasure.speculate.sampling import NOT_A_TOKEN, draw, greedy_tokens, sampling_probs

PREFILL_ROWS = 16_384  # tokens of all sequences that one pass reads where no logits are wanted
WORTH_DROPPING = 0.75  # finished sequences leave the batch once this share or less goes on
SPARE_TOKENS = 64  # room that a cache grows by
PADDING = 0  # any id: what is padded is masked, or never looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One answer to generate."""

    context_ids: Sequence[int]
    stopping: Stopping
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One answer, end-of-sequence token included."""

    token_ids: tuple[int, ...]
    finish_reason: FinishReason


def generate_batched(
    model: CachedCausalLM, requests: Sequence[Request], sampling: Sampling, *, batch_size: int
) -> Iterator[tuple[int, Generated]]:
    """The model's own answers with the places of their requests, as they finish.

    Where an answer ends, another request takes its place (continuous batching); caches that cannot
    be joined are emptied first, and those that no sequence can leave hold one sequence. Every
    answer has a generator of its own, so that it does not depend on its neighbours, apart from what
    batched kernels round differently.

    Raises:
        BrokenLogits: the model's logits held NaN.
    """
    shortest_first = sorted(range(len(requests)), key=lambda i: len(requests[i].context_ids))
    waiting = deque(shortest_first)
    batch = _GrowingBatch(model)
    batch_size = batch_size if batch.shrinks else 1
    rows: list[_Row] = []
    while rows or waiting:
        rows = _refilled(batch, rows, requests, waiting, batch_size)
        finished: list[_Row] = []
        with torch.inference_mode():  # a generator must not hold it while its caller works
            picked = _pick(batch.logits, sampling, [row.generator for row in rows]).tolist()
            if NOT_A_TOKEN in picked:
                raise BrokenLogits("the target's logits hold NaN. Try --dtype float32.")
            for row, token in zip(rows, picked, strict=True):
                if not row.is_over and row.say(token):
                    finished.append(row)
            going_on = [place for place, row in enumerate(rows) if not row.is_over]
            if len(going_on) <= WORTH_DROPPING * batch_size or not waiting:
                batch.keep(going_on)
                rows = [rows[place] for place in going_on]
                picked = [picked[place] for place in going_on]
            if rows:
                batch.append(picked)
        yield from ((row.place, row.generated()) for row in finished)


@dataclass(slots=True)
class _Row:
    """One answer in the making."""

    place: int  # of its request
    stopping: Stopping
    generator: torch.Generator
    answer: list[int] = field(default_factory=list)
    reason: FinishReason | None = None

    @property
    def is_over(self) -> bool:
        return self.reason is not None

    def say(self, token: int) -> bool:
        """Add one token; whether it was the last."""
        self.reason = self.stopping.cut(self.answer, (token,)).reason
        self.answer.append(token)
        return self.is_over

    def generated(self) -> Generated:
        if self.reason is None:
            raise ValueError("the answer goes on")
        return Generated(token_ids=tuple(self.answer), finish_reason=self.reason)


@torch.inference_mode()
def _refilled(
    batch: "_GrowingBatch",
    rows: list[_Row],
    requests: Sequence[Request],
    waiting: deque[int],
    batch_size: int,
) -> list[_Row]:
    """The batch's rows once waiting requests have taken its free places."""
    num_free = batch_size - len(rows) if batch.joins or not rows else 0
    new = [waiting.popleft() for _ in range(min(num_free, len(waiting)))]
    if new:
        batch.join([requests[place].context_ids for place in new])
    device = batch.device
    return rows + [
        _Row(
            place,
            requests[place].stopping,
            torch.Generator(device).manual_seed(requests[place].seed),
        )
        for place in new
    ]


class _GrowingBatch:
    """Sequences that grow by one token a step, padded on the left."""

    def __init__(self, model: CachedCausalLM) -> None:
        self._model = model
        self.device = model.device
        self._cache = _new_cache(model)
        self.joins = all(type(layer) is _RoomyLayer for layer in self._cache.layers)
        self.shrinks = all(hasattr(one, "batch_select_indices") for one in self._cache.layers)
        self._mask = torch.zeros(0, 0, dtype=torch.int64, device=self.device)  # [B, S]
        self.logits = torch.zeros(0, model.vocab_size, device=self.device)  # [B, V], of the last

    def join(self, contexts: Sequence[Sequence[int]]) -> None:
        """Read whole contexts and set them beside the sequences that are there."""
        longest = max(map(len, contexts))
        ids = torch.full((len(contexts), longest), PADDING)
        mask = torch.zeros(len(contexts), longest, dtype=torch.int64)
        for row, context in enumerate(contexts):
            ids[row, longest - len(context) :] = torch.tensor(context)
            mask[row, longest - len(context) :] = 1
        cache, mask = _new_cache(self._model), mask.to(self.device)
        logits = self._read(ids.to(self.device), (mask.cumsum(-1) - 1).clamp_min(0), mask, cache)
        if len(self._mask):
            length = max(self._mask.shape[1], longest)
            for here, new in zip(self._cache.layers, cache.layers, strict=True):
                for name in ("keys", "values"):  # each [B, heads, S, D]
                    pair = (getattr(here, name), getattr(new, name))
                    setattr(here, name, torch.cat([_padded(one, length, -2) for one in pair]))
            self._mask = torch.cat([_padded(one, length, -1) for one in (self._mask, mask)])
            self.logits = torch.cat([self.logits, logits])
        else:
            self._cache, self._mask, self.logits = cache, mask, logits

    def append(self, tokens: Sequence[int]) -> None:
        """Read one token of every sequence."""
        ids = torch.tensor(tokens, device=self.device)[:, None]
        self._mask = torch.cat([self._mask, torch.ones_like(ids)], dim=-1)
        places = self._mask.sum(-1, keepdim=True) - 1
        self.logits = self._read(ids, places, self._mask, self._cache)

    def keep(self, places: Sequence[int]) -> None:
        """Drop all other sequences."""
        if len(places) == len(self._mask):
            return
        chosen = torch.tensor(places, dtype=torch.int64, device=self.device)
        if len(places):
            self._cache.batch_select_indices(chosen)
        self._mask, self.logits = self._mask[chosen], self.logits[chosen]
        if self.joins and len(places):
            self._trim()

    def _trim(self) -> None:
        """Forget columns that pad every sequence: the batch is as long as its longest one."""
        num_idle = int(self._mask.any(0).int().argmax())
        self._mask = self._mask[:, num_idle:]
        for layer in self._cache.layers:
            layer.keys = layer.keys[..., num_idle:, :]
            layer.values = layer.values[..., num_idle:, :]

    def _read(self, ids: Tensor, position_ids: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
        read = forward_batch(
            self._model, ids, cache, num_kept=1, attention_mask=mask, position_ids=position_ids
        )
        return read.logits[:, -1]


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped here
    """Grows into spare room: a step copies one token of each sequence, not all that came before."""

    def __init__(self) -> None:
        super().__init__()
        self._grown: dict[str, tuple[Tensor, Tensor]] = {}  # name → its room, and the part in use

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Append [B, heads, new, D]; returns all of it."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
        else:
            self.keys = self._append("keys", key_states)
            self.values = self._append("values", value_states)
        return self.keys, self.values

    def _append(self, name: str, new: Tensor) -> Tensor:
        held = getattr(self, name)
        length = held.shape[-2] + new.shape[-2]
        room, used = self._grown.get(name, (held, held))
        if used is not held or room.shape[-2] < length:  # another tensor was put there, or no room
            room = held.new_empty(*held.shape[:-2], length + SPARE_TOKENS, held.shape[-1])
            room[..., : held.shape[-2], :] = held
        room[..., held.shape[-2] : length, :] = new
        whole: Tensor = room[..., :length, :]
        self._grown[name] = (room, whole)
        return whole


def _new_cache(model: CachedCausalLM) -> DynamicCache:
    cache = DynamicCache(config=model.model.config)
    cache.layers = [
        _RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache


def _padded(one: Tensor, length: int, dim: int) -> Tensor:
    """Zeros before the content, along the sequence."""
    missing = length - one.shape[dim]
    return functional.pad(one, (0, 0, missing, 0) if dim == -2 else (missing, 0))


class Inside(Flag):
    """What of a pass is wanted beside its logits."""

    NOTHING = 0
    LAYERS = auto()  # the hidden states of all layers
    HEAD_INPUT = auto()  # what goes into the output head


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What one pass over a chunk gave."""

    logits: Tensor  # [B, C, V]
    hidden_states: tuple[Tensor, ...] = ()  # [B, C, D], by layer; empty unless asked for
    head_input: Tensor | None = None  # [B, C, D]; None unless asked for


def forward_batch(
    model: CachedCausalLM,
    ids: Tensor,  # [B, C]
    cache: DynamicCache,
    *,
    num_kept: int | None = None,  # logits of the last rows alone, where the model can leave others
    inside: Inside = Inside.NOTHING,
    **padding: Tensor,
) -> Read:
    """One pass of all sequences; arguments that a model does not know are left out.

    Raises:
        UnsupportedModel: what goes into the output head is wanted, and the model does not call it.
    """
    known: dict[str, Any] = {name: one for name, one in padding.items() if name in model.arguments}
    if num_kept is not None and "logits_to_keep" in model.arguments:
        known["logits_to_keep"] = num_kept
    with _head_inputs(model, inside) as caught:
        output = model.model(
            input_ids=ids,
            past_key_values=cache,
            use_cache=True,
            output_hidden_states=Inside.LAYERS in inside,
            **known,
        )
    if Inside.HEAD_INPUT in inside and not caught:
        raise hidden_states_error(model.model)
    return Read(
        logits=output.logits[..., : model.vocab_size],
        hidden_states=tuple(output.hidden_states) if Inside.LAYERS in inside else (),
        head_input=caught[-1] if Inside.HEAD_INPUT in inside else None,
    )


@contextmanager
def _head_inputs(model: CachedCausalLM, inside: Inside) -> Iterator[list[Tensor]]:
    """What goes into the model's output head in the meantime; nothing unless it is wanted."""
    caught: list[Tensor] = []
    head = model.model.get_output_embeddings()
    if head is None or Inside.HEAD_INPUT not in inside:
        yield caught
        return
    handle = head.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        yield caught
    finally:
        handle.remove()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Part of finished sequences, read by every model."""

    start: int  # place of its first token in the sequences
    reads: tuple[Read, ...]  # by model; row i predicts the token at start + i + 1


def read_chunks(
    models: Sequence[CachedCausalLM],
    sequences: Tensor,  # [B, S], padded on the right
    *,
    first: int,  # the first place whose logits are wanted
    rows_per_chunk: int,
    inside: Callable[[int], Inside] = lambda _: Inside.NOTHING,  # by the model's place
) -> Iterator[Chunk]:
    """Read the same sequences with several models side by side, chunk by chunk, to the end."""
    caches = [DynamicCache(config=model.model.config) for model in models]
    unwanted = max(1, PREFILL_ROWS // len(sequences))
    for start in range(0, first, unwanted):
        ids = sequences[:, start : min(first, start + unwanted)]
        for model, cache in zip(models, caches, strict=True):
            forward_batch(model, ids, cache, num_kept=1)
    for start in range(first, sequences.shape[1], rows_per_chunk):
        ids = sequences[:, start : start + rows_per_chunk]
        yield Chunk(
            start=start,
            reads=tuple(
                forward_batch(model, ids, cache, inside=inside(place))
                for place, (model, cache) in enumerate(zip(models, caches, strict=True))
            ),
        )


def _pick(logits: Tensor, sampling: Sampling, generators: Sequence[torch.Generator]) -> Tensor:
    """One token of each row of [B, V]; ``NOT_A_TOKEN`` where a row holds NaN."""
    if sampling.is_greedy:
        return greedy_tokens(logits)
    probs = sampling_probs(logits, sampling)
    drawn = [
        draw(row[None], generator=generator)
        for row, generator in zip(probs, generators, strict=True)
    ]
    return torch.cat(drawn).masked_fill(probs.sum(-1).isnan(), NOT_A_TOKEN)
