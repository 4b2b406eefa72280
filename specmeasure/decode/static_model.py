"""A causal LM over a static cache, whose passes are graphs where they were captured.

A pass of N rows reads tensors that stay where they are: ids, where it starts, and what rows see of
each other. One graph of N rows so serves chains and trees at any place of an answer, up to the
length that it attends over. Only for models that ``static_check.static_twin`` accepts.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from specmeasure.decode.cache import CachedCausalLM, HeadInputs, Rollback
from specmeasure.decode.graphs import Graphs, Pass
from specmeasure.decode.grouped_attention import grouped, sdpa_configs
from specmeasure.decode.static_cache import (
    SHORTEST,
    StaticCache,
    first_pass,
    room_for,
    rooms_between,
)
from specmeasure.speculate.tree import lineage

GROUPED_FROM = 1024  # tokens; below, torch's own kernel has little to go through one by one


class StaticCausalLM:
    """``CachedModel`` over a transformers model, batch 1, with a static cache.

    The logits of ``forward`` and ``forward_tree``, and ``last_state``, stand until the next pass of
    as many rows.

    Args:
        like: the same model with a cache that grows.
        graphs: None: every pass is launched from Python.
        shortest: tokens of the smallest room.
        grouped_from: over this many tokens and more ``grouped_attention`` is used.
    """

    rollback_kind = Rollback.CROP

    def __init__(
        self,
        like: CachedCausalLM,
        graphs: Graphs | None = None,
        *,
        shortest: int = SHORTEST,
        grouped_from: int = GROUPED_FROM,
    ) -> None:
        self.model = like.model
        self.vocab_size = like.vocab_size
        self._last_row_only = like.last_row_only
        self._graphs = graphs
        self._shortest = shortest
        self._grouped_from = grouped_from
        self._sdpa = sdpa_configs(self.model)
        first = first_pass(self.model)
        self._logits_dtype = first.logits_dtype
        self._cache = StaticCache(first.shapes, self.device)
        self._start = torch.zeros(1, dtype=torch.int64, device=self.device)
        self._rows: dict[int, _Rows] = {}
        self._replays: dict[tuple[int, int], Pass] = {}  # by rows and length
        self._inputs: HeadInputs | None = None  # of the output head, if watched
        self._states: Tensor | None = None  # [N, D] of the last pass
        self._last_kept = -1  # of its rows
        self._num_last = 0  # rows of the last pass
        self._is_clean = True  # nothing was written since zeros stood there

    @property
    def device(self) -> torch.device:
        """Where ids go and logits come from."""
        return torch.device(self.model.device)

    @property
    def logits_dtype(self) -> torch.dtype:
        """Of the model's logits, which some models widen."""
        return self._logits_dtype

    @property
    def cache_bytes(self) -> int:
        """Bytes of the keys and values that are remembered now; the room behind is not counted.

        So it is what a cache that grows would hold, and arms compare whichever they have.
        """
        return self._cache.num_read * self._cache.bytes_per_token

    @property
    def room_bytes(self) -> int:
        """Bytes that are set aside for keys and values."""
        return self._cache.num_tokens * self._cache.bytes_per_token

    def watch_states(self) -> None:
        """From now on remember what goes into the output head; see ``last_state``."""
        if self._inputs is None:
            self._inputs = HeadInputs(self.model)
            self._drop_graphs()

    @property
    def last_state(self) -> Tensor:
        """What went into the output head for the last token that is remembered: [D].

        Raises:
            RuntimeError: states are not watched, or nothing was read since.
        """
        if self._states is None:
            raise RuntimeError("no state was watched")
        return self._states[self._last_kept]

    @torch.inference_mode()
    def prepare(self, rows: Iterable[int], *, first: int, last: int) -> int:
        """Before an answer: set its room aside and capture its passes. The number of captures.

        Where the room grows, what was captured before is captured again. Forgets everything.

        Args:
            rows: of its passes.
            first: tokens that are read after its first pass.
            last: and after its last one, at most.

        Raises:
            RuntimeError: a pass cannot be captured.
        """
        self._cache.num_read = 0
        known = set(self._replays)
        self._take_room(last)
        lengths = rooms_between(first, last, self._shortest)
        wanted = known | {(number, length) for number in rows for length in lengths}
        missing = wanted - set(self._replays) if self._graphs else set()
        for num_rows, length in sorted(missing, reverse=True):  # others fit into the largest's
            self._capture(num_rows, length)
        self._clean()
        return len(missing)

    def release(self) -> None:
        """Give back graphs and room."""
        self._drop_graphs()
        self._rows.clear()
        self._states = None
        self._cache = StaticCache(self._cache.shapes, self.device)
        self._is_clean = True

    @torch.inference_mode()
    def reset(self, *, rolls_back: bool) -> None:  # noqa: ARG002 - the protocol's argument
        """Start an empty sequence."""
        self._cache.num_read = 0
        self._clean()

    def prefill(self, ids: Sequence[int]) -> Tensor:
        """Read a prompt, right after ``reset``; logits [1, V] after its last token."""
        self._take_room(len(ids))
        rows = torch.tensor(ids, device=self.device)
        self._is_clean = False
        logits = self._run(input_ids=rows[None], **self._last_row_only)
        self._states = None if self._inputs is None else self._inputs.taken()
        self._remember(len(ids))
        return logits[-1:]

    def forward(self, ids: Tensor) -> Tensor:
        """Read ids [N]; logits [N, V]."""
        return self._read(ids, None)

    def rollback(self, num_tokens: int) -> None:
        """Forget the last ``num_tokens`` of what was read since the last rollback."""
        self._cache.num_read -= num_tokens
        self._last_kept = -1 - num_tokens

    def forward_tree(self, ids: Tensor, parents: Sequence[int]) -> Tensor:
        """Read ids [N], each after its parent among them, -1: after what was read before.

        Returns:
            logits [N, V]
        """
        return self._read(ids, tuple(parents))

    def keep_path(self, rows: Sequence[int]) -> None:
        """Remember these rows of the tree that was read, forget the others."""
        first = self._cache.num_read - self._num_last
        num_staying = sum(1 for place, row in enumerate(rows) if row == place)  # rows only rise
        if num_staying < len(rows):
            moving = first + _on_device(tuple(rows[num_staying:]), self.device)
            self._cache.move(moving, first + num_staying)
        self._cache.num_read = first + len(rows)
        self._last_kept = rows[-1]

    def _read(self, ids: Tensor, parents: tuple[int, ...] | None) -> Tensor:
        start, num_rows = self._cache.num_read, len(ids)
        self._take_room(start + num_rows)
        self._start.fill_(start)
        rows = self._rows_of(num_rows)
        rows.take(ids, parents)
        length = room_for(start + num_rows, self._shortest)
        self._is_clean = False
        replay = self._replays.get((num_rows, length))
        if replay is None:
            with self._attention(length):
                self._step(rows, length)
        else:
            replay()
        self._states = None if self._inputs is None else rows.states
        self._remember(num_rows)
        return rows.logits

    def _remember(self, num_rows: int) -> None:
        self._cache.num_read += num_rows
        self._num_last, self._last_kept = num_rows, -1

    def _step(self, rows: "_Rows", length: int) -> None:
        """The pass itself: nothing in it knows where it starts but by reading ``_start``."""
        cache, num_rows = self._cache, len(rows.order)
        cache.length, cache.places = length, self._start + rows.order
        ahead = cache.all_places[:length] - self._start  # below 0: read before
        mask = rows.sees.index_select(1, (ahead + 1).clamp(0, num_rows + 1))  # [N, L]
        try:
            logits = self._run(
                input_ids=rows.ids[None],
                position_ids=(self._start + rows.depths)[None],
                attention_mask=mask[None, None],
            )
        finally:
            cache.places = None  # else the next prefill would write there
        rows.logits.copy_(logits)
        if self._inputs is not None:
            rows.states.copy_(self._inputs.taken())

    def _run(self, **inputs: Any) -> Tensor:
        """Logits [N, V]."""
        if self._inputs is not None:
            self._inputs.look()
        output = self.model(past_key_values=self._cache, use_cache=True, **inputs)
        logits: Tensor = output.logits[0, :, : self.vocab_size]
        return logits

    def _capture(self, num_rows: int, length: int) -> None:
        if self._graphs is None:
            return
        self._start.zero_()
        step = partial(self._step, self._rows_of(num_rows), length)
        self._is_clean = False
        with self._attention(length):
            self._replays[num_rows, length] = self._graphs.capture(step)

    def _attention(self, length: int) -> AbstractContextManager[None]:
        return grouped(self._sdpa if length >= self._grouped_from else ())

    def _rows_of(self, num_rows: int) -> "_Rows":
        if num_rows not in self._rows:
            logits = torch.zeros(
                (num_rows, self.vocab_size), dtype=self._logits_dtype, device=self.device
            )
            self._rows[num_rows] = _Rows(self.model, logits)
        return self._rows[num_rows]

    def _take_room(self, num_tokens: int) -> None:
        """Have room for so many tokens. Where there was less, graphs would write what is gone."""
        if num_tokens > self._cache.num_tokens:
            self._drop_graphs()
            self._cache.grow(room_for(num_tokens, self._shortest))

    def _drop_graphs(self) -> None:
        if self._replays and self._graphs is not None:
            self._graphs.renew()
        self._replays.clear()

    def _clean(self) -> None:
        if not self._is_clean:
            self._cache.wipe()
            self._is_clean = True


class _Rows:
    """What a pass of N rows reads and leaves."""

    def __init__(self, model: PreTrainedModel, logits: Tensor) -> None:
        device, dtype, num_rows = torch.device(model.device), model.dtype, len(logits)
        hidden_size = model.get_output_embeddings().weight.shape[-1]
        self.ids = torch.zeros(num_rows, dtype=torch.int64, device=device)
        self.order = torch.arange(num_rows, device=device)
        self.depths = self.order.clone()  # [N]
        self.sees = _chain(num_rows, dtype, device).sees.clone()  # [N, N + 2]
        self.logits = logits  # [N, V]
        self.states = torch.zeros((num_rows, hidden_size), dtype=dtype, device=device)
        self._parents: tuple[int, ...] | None = None  # whose shape it has; None: a chain's

    def take(self, ids: Tensor, parents: tuple[int, ...] | None) -> None:
        """What the next pass reads."""
        self.ids.copy_(ids)
        if parents != self._parents:
            dtype, device = self.sees.dtype, self.sees.device
            shape = (
                _chain(len(ids), dtype, device)
                if parents is None
                else _tree(parents, dtype, device)
            )
            self.sees.copy_(shape.sees)
            self.depths.copy_(shape.depths)
            self._parents = parents


@dataclass(frozen=True, slots=True)
class _RowShape:
    sees: Tensor  # [N, N + 2] added to attention: what was read before, the rows, what lies behind
    depths: Tensor  # [N] from 0


@lru_cache(maxsize=64)
def _tree(parents: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> _RowShape:
    own = lineage(parents, device)
    sees = functional.pad(functional.pad(own, (1, 0), value=True), (0, 1), value=False)
    mask = torch.zeros(sees.shape, dtype=dtype, device=device)
    return _RowShape(mask.masked_fill(~sees, torch.finfo(dtype).min), own.sum(-1) - 1)


def _chain(num_rows: int, dtype: torch.dtype, device: torch.device) -> _RowShape:
    return _tree(tuple(range(-1, num_rows - 1)), dtype, device)


@lru_cache(maxsize=1024)
def _on_device(rows: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(rows, device=device)
