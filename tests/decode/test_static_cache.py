"""Room that is set aside for keys and values."""

import pytest
import torch

from specmeasure.decode.static_cache import Shape, StaticCache, first_pass, room_for, rooms_between
from tests.decode import tiny_models

CPU = torch.device("cpu")
WIDE, NARROW = Shape(2, 8, torch.float32), Shape(1, 4, torch.float32)


def filled(cache: StaticCache, num_tokens: int) -> None:
    """A prefill of every layer, the number of the token everywhere."""
    for layer, (keys, values) in zip(
        cache.layers, zip(cache.shapes[::2], cache.shapes[1::2], strict=True), strict=True
    ):
        rows = [
            torch.arange(float(num_tokens))[None, None, :, None].expand(
                1, one.num_heads, -1, one.width
            )
            for one in (keys, values)
        ]
        layer.update(*rows)
    cache.num_read = num_tokens


def cache_of(*shapes: Shape, num_tokens: int = 8) -> StaticCache:
    cache = StaticCache(shapes, CPU)
    cache.grow(num_tokens)
    return cache


@pytest.mark.parametrize("shortest", [16, 256])
def test_rooms_hold_what_they_are_for_and_half_more_at_most(shortest: int):
    """Every length from the shortest room on; lengths are whole in eights, as kernels like them."""
    for number in range(1, 20 * shortest):
        room = room_for(number, shortest)

        assert number <= room
        assert 0 == room % 8
        assert room == shortest or 2 * room <= 3 * (number - 1) + 2


def test_rooms_between_are_those_that_a_growing_text_needs():
    """Each once, and none beside."""
    for first, last in ((1, 1), (100, 257), (256, 1000), (1000, 5000)):
        expected = sorted({room_for(number) for number in range(first, last + 1)})
        assert expected == rooms_between(first, last)


@torch.inference_mode()
def test_a_prefill_is_read_as_it_is():
    """What was just computed is attended to; and it stands at the beginning."""
    cache = cache_of(WIDE, WIDE)
    keys = torch.rand(1, 2, 3, 8)
    read, _ = cache.layers[0].update(keys, keys + 1)

    assert keys is read
    assert torch.equal(keys, cache.layers[0].keys[..., :3, :])
    assert (3, 0) == cache.layers[0].get_mask_sizes(3)


@torch.inference_mode()
def test_a_pass_writes_its_places_and_reads_the_length():
    """Two rows at places four and five; six keys are read."""
    cache = cache_of(WIDE, WIDE)
    filled(cache, 4)
    cache.places, cache.length = torch.tensor([4, 5]), 6
    keys, values = cache.layers[0].update(torch.full((1, 2, 2, 8), 7.0), torch.ones(1, 2, 2, 8))

    assert [0.0, 1, 2, 3, 7, 7] == keys[0, 1, :, 0].tolist()
    assert [0.0, 1, 2, 3, 1, 1] == values[0, 0, :, 3].tolist()
    assert (6, 0) == cache.layers[0].get_mask_sizes(2)


@torch.inference_mode()
def test_layers_of_unlike_shapes_have_their_own():
    """Keys wider than values, and layers that differ; what one writes no other reads."""
    cache = cache_of(WIDE, NARROW, NARROW, WIDE)
    filled(cache, 3)
    cache.layers[0].values.fill_(9)

    assert [(2, 8), (1, 4)] == [(one.keys.shape[1], one.keys.shape[3]) for one in cache.layers]
    assert [0.0, 1, 2] == cache.layers[1].keys[0, 0, :3, 0].tolist()
    assert 2 * (2 * 8 + 1 * 4) * 4 == cache.bytes_per_token


@torch.inference_mode()
def test_more_room_takes_over_what_is_remembered():
    """Of five tokens that were read three are remembered: those, and zeros behind them."""
    cache = cache_of(WIDE, NARROW)
    filled(cache, 5)
    cache.num_read = 3
    cache.grow(12)

    for whole in (cache.layers[0].keys, cache.layers[0].values):
        assert [0.0, 1, 2, *[0.0] * 9] == whole[0, 0, :, 0].tolist()
    assert 12 == cache.layers[0].get_max_length()


def test_room_that_cannot_be_had_is_asked_for_again(monkeypatch: pytest.MonkeyPatch):
    """An allocation that fails leaves no room, and not a cache that says it has some."""
    cache = cache_of(WIDE, NARROW)

    def run_out(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "zeros", run_out)
        with pytest.raises(torch.OutOfMemoryError):
            cache.grow(12)

    assert 0 == cache.num_tokens
    cache.grow(12)
    assert 12 == cache.layers[0].keys.shape[-2] == cache.num_tokens


@torch.inference_mode()
def test_places_move_to_the_front():
    """Those that a path kept, in its order; overlapping places are read before they are written."""
    cache = cache_of(WIDE, NARROW)
    filled(cache, 8)
    cache.move(torch.tensor([4, 5, 7]), 3)

    assert [0.0, 1, 2, 4, 5, 7, 6, 7] == cache.layers[0].values[0, 0, :, 0].tolist()


def test_shapes_are_those_of_a_cache_that_grows():
    """Two heads of eight floats for keys and values of both layers."""
    assert (WIDE,) * 4 == first_pass(tiny_models.llama()).shapes
