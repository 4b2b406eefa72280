"""Keys and values in room that is set aside: written in place, at addresses that stay.

Attention goes over a length, not over what was read: lengths come in steps, see ``room_for``. What
lies behind the last place that is remembered is hidden by a mask, so that forgetting costs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

SHORTEST = 256  # tokens of the smallest room


def room_for(num_tokens: int, shortest: int = SHORTEST) -> int:
    """The length over which a pass attends: the shortest, then two lengths an octave.

    Above the shortest, attention reads at most half more than there is, a fifth on average; one
    length an octave would be twice and 1.4 times, and four an octave twice as many graphs for a
    tenth.

    >>> [room_for(number) for number in (1, 256, 257, 385, 513, 1000, 8192)]
    [256, 256, 384, 512, 768, 1024, 8192]
    """
    room = shortest
    while room < num_tokens:
        room = room * 3 // 2 if room * 3 // 2 >= num_tokens else room * 2
    return room


def rooms_between(first: int, last: int, shortest: int = SHORTEST) -> list[int]:
    """All rooms that a text goes through while it grows, by rising length.

    >>> rooms_between(100, 800)
    [256, 384, 512, 768, 1024]
    """
    rooms = [room_for(first, shortest)]
    while rooms[-1] < last:
        rooms.append(room_for(rooms[-1] + 1, shortest))
    return rooms


@dataclass(frozen=True, slots=True)
class Shape:
    """Of one layer's keys or values, the number of tokens left open."""

    num_heads: int
    width: int
    dtype: torch.dtype

    @property
    def bytes_per_token(self) -> int:
        return self.num_heads * self.width * self.dtype.itemsize


class StaticCache(Cache):  # type: ignore[misc] # transformers is not typed
    """transformers' cache over room for all layers.

    Keys and values of one shape lie in one tensor, so that moving and wiping them is one launch.

    Args:
        shapes: of every layer's keys, then its values.
        device: of all layers.
    """

    def __init__(self, shapes: Sequence[Shape], device: torch.device) -> None:
        super().__init__(layers=[StaticLayer(self) for _ in shapes[::2]])
        self.num_tokens = 0  # of room
        self.num_read = 0  # that are remembered
        self.length = 0  # over which the pass that runs attends
        self.places: Tensor | None = None  # [N] that it writes; None: a prefill, from the beginning
        self.all_places = torch.empty(0, dtype=torch.int64, device=device)  # 0, 1, 2, …
        self.bytes_per_token = sum(shape.bytes_per_token for shape in shapes)
        self.shapes = shapes
        self._stacks: dict[Shape, Tensor] = {}  # each [M, H, S, D]

    def grow(self, num_tokens: int) -> None:
        """Set more room aside and take over what is remembered. All addresses change.

        Where it cannot be had, there is none until it is asked for again.
        """
        device = self.all_places.device
        self.num_tokens = 0
        for layer in self.layers:
            layer.keys = layer.values = None
        before = self._stacks if self.num_read else {}  # else it goes before its like is made
        self._stacks = {}
        for shape in dict.fromkeys(self.shapes):
            new = torch.zeros(
                (self.shapes.count(shape), shape.num_heads, num_tokens, shape.width),
                dtype=shape.dtype,
                device=device,
            )
            if shape in before:
                new[:, :, : self.num_read] = before[shape][:, :, : self.num_read]
            self._stacks[shape] = new
        self.all_places = torch.arange(num_tokens, device=device)
        self.num_tokens = num_tokens
        self._give_out()

    def move(self, places: Tensor, start: int) -> None:
        """Put what stands at these places [M] where ``start`` and the places behind it are."""
        for whole in self._stacks.values():
            moved = whole.index_select(-2, places)  # a copy
            whole[..., start : start + len(places), :] = moved

    def wipe(self) -> None:
        """Write zeros: a NaN behind the mask would weigh nothing, which is NaN again."""
        for whole in self._stacks.values():
            whole.zero_()

    def _give_out(self) -> None:
        """Each layer its parts of the stacks: each [1, H, S, D]."""
        parts = {shape: iter(whole.unsqueeze(1)) for shape, whole in self._stacks.items()}
        shapes = iter(self.shapes)
        for layer in self.layers:
            layer.keys, layer.values = next(parts[next(shapes)]), next(parts[next(shapes)])


class StaticLayer(CacheLayerMixin):  # type: ignore[misc] # transformers is not typed
    """One layer's keys and values."""

    is_sliding = False

    def __init__(self, whole: StaticCache) -> None:
        super().__init__()
        self.whole = whole
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: the room is there."""

    def update(
        self,
        key_states: Tensor,  # [1, H, N, D]
        value_states: Tensor,
        *_: Any,
        **__: Any,
    ) -> tuple[Tensor, Tensor]:
        """Write; keys and values [1, H, L, D] that are attended to, of a prefill the new ones."""
        places, length = self.whole.places, self.whole.length
        if places is None:
            num_rows = key_states.shape[-2]
            self.keys[..., :num_rows, :] = key_states
            self.values[..., :num_rows, :] = value_states
            return key_states, value_states
        self.keys.index_copy_(-2, places, key_states)
        self.values.index_copy_(-2, places, value_states)
        return self.keys[..., :length, :], self.values[..., :length, :]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many keys are attended to, and which is the first."""
        return (query_length if self.whole.places is None else self.whole.length), 0

    def get_seq_length(self) -> int:
        """Tokens that are remembered."""
        return self.whole.num_read

    def get_max_length(self) -> int:
        """Tokens that there is room for."""
        return self.whole.num_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstPass:
    """What a model made of one token."""

    shapes: tuple[Shape, ...]  # of every layer's keys, then its values
    logits_dtype: torch.dtype  # which some models widen


@torch.inference_mode()
def first_pass(model: PreTrainedModel) -> FirstPass:
    """With a cache that grows."""
    cache = DynamicCache(config=model.config)
    token = torch.zeros((1, 1), dtype=torch.int64, device=model.device)
    output = model(input_ids=token, past_key_values=cache, use_cache=True)
    shapes = tuple(
        Shape(whole.shape[1], whole.shape[-1], whole.dtype)
        for layer in cache.layers
        for whole in (layer.keys, layer.values)
    )
    return FirstPass(shapes=shapes, logits_dtype=output.logits.dtype)
