"""Grouped attention is attention."""

import pytest
import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from specmeasure.decode import grouped_attention as module_of_it
from specmeasure.decode.grouped_attention import NAME, grouped, grouped_attention, sdpa_configs
from specmeasure.engines.live_bytes import counting
from tests.decode import tiny_models

NUM_KEYS, WIDTH = 40, 16


class Layer(nn.Module):
    """What an attention function is told of its layer."""

    is_causal = True

    def __init__(self, num_key_value_groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = num_key_value_groups


def inputs(
    num_heads: int, num_shared: int, num_rows: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query, key and value with a mask under which each row sees other keys."""
    generator = torch.Generator().manual_seed(num_rows)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    room = normal(1, num_shared, 3 * NUM_KEYS, WIDTH)
    hides = torch.rand(num_rows, NUM_KEYS, generator=generator) < 0.5
    hides[:, 0] = False
    mask = torch.zeros(num_rows, NUM_KEYS, dtype=dtype).masked_fill(hides, torch.finfo(dtype).min)
    return (
        normal(1, num_heads, num_rows, WIDTH),
        room[:, :, :NUM_KEYS],  # a part of more room, as in a static cache
        normal(1, num_shared, NUM_KEYS, WIDTH),
        mask[None, None],
    )


@torch.inference_mode()
@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (8, 1)], ids=str)
@pytest.mark.parametrize("num_rows", [1, 5])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_it_is_sdpa_to_rounding(heads: tuple[int, int], num_rows: int, scaling: float | None):
    """Every grouping of heads, one row and several, in float32."""
    given = inputs(*heads, num_rows, torch.float32)
    layer = Layer(heads[0] // heads[1])
    expected, _ = sdpa_attention_forward(layer, *given, scaling=scaling)
    found, _ = grouped_attention(layer, *given, scaling=scaling)

    assert expected.shape == found.shape
    assert torch.allclose(expected, found, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_it_rounds_no_more_than_sdpa(dtype: torch.dtype):
    """Squared distances from float64, over many draws: half more than torch's own at most.

    Weights are rounded, as by torch's kernels on a GPU; scores, which ``eager`` rounds, are not.
    """
    ours = theirs = 0.0
    layer = Layer(3)
    for num_rows in range(1, 9):
        given = inputs(6, 2, num_rows, dtype)
        wanted, _ = sdpa_attention_forward(layer, *(one.double() for one in given))
        ours += off(grouped_attention(layer, *given)[0], wanted)
        theirs += off(sdpa_attention_forward(layer, *given)[0], wanted)

    assert 0 < ours < 1.5 * theirs


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).square().sum())


@torch.inference_mode()
def test_without_a_mask_it_is_transformers_own():
    """A prefill goes through the causal kernel."""
    query, key, value, _ = inputs(6, 2, NUM_KEYS, torch.float32)
    expected, _ = sdpa_attention_forward(Layer(3), query, key, value, None)

    assert torch.equal(expected, grouped_attention(Layer(3), query, key, value, None)[0])


@torch.inference_mode()
def test_a_model_attends_so_only_meanwhile(monkeypatch: pytest.MonkeyPatch):
    """Each layer once, under a mask; before and after it attends as it did."""
    model, asked = tiny_models.llama(), []
    products = module_of_it._products
    monkeypatch.setattr(
        module_of_it, "_products", lambda *args: asked.append(len(args)) or products(*args)
    )
    given = {"input_ids": torch.tensor([[1, 2]]), "attention_mask": torch.zeros(1, 1, 2, 2)}
    plain = model(**given).logits
    with grouped(sdpa_configs(model)):
        meanwhile = model(**given).logits
    after = model(**given).logits

    assert [2, 2] == asked
    assert torch.allclose(plain, meanwhile, atol=1e-5)
    assert torch.equal(plain, after)
    assert "sdpa" == model.config._attn_implementation != NAME


def test_without_weights_it_holds_what_a_gpu_does():
    """Sums of a product in half precision are kept wide by the product itself: no wide copies."""
    rows, keys = (torch.empty(2, n, 8, dtype=torch.bfloat16, device="meta") for n in (3, 1000))
    with counting([rows, keys]) as live:
        before = live.now
        found = module_of_it._products(rows, keys)

    assert torch.float32 is found.dtype
    assert 2 * 3 * 1000 * 4 == live.peak - before


def test_eager_models_are_left_alone():
    """Their own function may do more than attend, such as cap its scores."""
    model = tiny_models.llama()
    model.set_attn_implementation("eager")

    assert [] == sdpa_configs(model)
