"""What a model holds beside its weights while it reads, seen by reading without weights."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.static_model import StaticCausalLM
from specmeasure.engines.live_bytes import LiveBytes, counting

ANY_TOKEN = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """One pass at the end of a context."""

    number: int
    parents: tuple[int, ...] | None = None  # of a tree's rows; None: a chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefilled:
    """After a prompt was read."""

    cache_bytes: int
    peak_bytes: int  # meanwhile, the cache included


@dataclass(frozen=True, slots=True, kw_only=True)
class DryModel:
    """A model without weights, with one of the two kinds of cache.

    Args:
        model: on the meta device.
        weights: its tensors, which are not counted.
        num_tokens: of the longest context that it is to hold.
    """

    model: CachedCausalLM | StaticCausalLM
    weights: Sequence[Tensor]
    num_tokens: int

    def read_prompt(self, num_tokens: int) -> Prefilled:
        """What reading a prompt takes, one row of logits made."""
        with self._counting() as live:
            before = live.now
            self._begin()
            self.model.prefill([ANY_TOKEN] * num_tokens)
            return Prefilled(cache_bytes=self._cache_bytes, peak_bytes=live.peak - before)

    def read_rows(self, passes: Sequence[Rows], then: Callable[[Tensor], object]) -> list[int]:
        """The most that is held in each of these passes, the cache included.

        Args:
            passes: at the end of the longest context; each is forgotten before the next.
            then: what is made of the logits [N, V] while they are there.
        """
        most_rows = max(one.number for one in passes)
        peaks = []
        with self._counting() as live:
            before = live.now
            self._begin()
            self.model.prefill([ANY_TOKEN] * max(1, self.num_tokens - most_rows))
            for one in passes:
                live.forget_peak()
                made = then(self._read(one))
                peaks.append(live.peak - before)
                del made
                self.model.rollback(one.number)
        return peaks

    @contextmanager
    def _counting(self) -> Iterator[LiveBytes]:
        """From an empty cache to an empty cache."""
        with counting(self.weights) as live:
            try:
                yield live
            finally:
                if isinstance(self.model, StaticCausalLM):
                    self.model.release()
                else:
                    self.model.reset(rolls_back=False)

    def _begin(self) -> None:
        if isinstance(self.model, StaticCausalLM):
            self.model.prepare((), first=1, last=self.num_tokens)
        self.model.reset(rolls_back=True)

    @property
    def _cache_bytes(self) -> int:
        if isinstance(self.model, StaticCausalLM):
            return self.model.room_bytes
        return self.model.cache_bytes

    def _read(self, rows: Rows) -> Tensor:
        ids = torch.full((rows.number,), ANY_TOKEN, device=self.model.device)
        if rows.parents is None:
            return self.model.forward(ids)
        return self.model.forward_tree(ids, rows.parents)
