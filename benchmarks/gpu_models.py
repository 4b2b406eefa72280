"""Models of Llama's layout with random weights, whose answers are known and never near a tie."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from specmeasure.decode.cache import CachedCausalLM

QUIET = 0.1  # of the usual initialisation, of what layers add to a token's own embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Of one model."""

    hidden_size: int
    num_layers: int
    num_heads: int
    num_shared_heads: int  # of keys and values
    intermediate_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A target, and a draft of about a tenth of it."""

    name: str
    target: Shape
    draft: Shape
    vocab_size: int = 32_000
    contexts: tuple[int, ...] = (128, 2000, 8000)  # at which passes are timed: rooms of 2k and 8k
    most_drafts: int = 16  # of a timed verification
    num_prompt_tokens: int = 128
    num_new_tokens: int = 128
    num_speculative_tokens: int = 4  # of the timed answers


def _shape(hidden: int, layers: int, heads: int, shared: int, intermediate: int) -> Shape:
    return Shape(
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_shared_heads=shared,
        intermediate_size=intermediate,
    )


SIZES = {
    one.name: one
    for one in (
        Size(
            name="tiny",
            target=_shape(64, 2, 4, 2, 128),
            draft=_shape(32, 1, 2, 1, 64),
            vocab_size=256,
            contexts=(16, 64),
            most_drafts=4,
            num_prompt_tokens=16,
            num_new_tokens=24,
            num_speculative_tokens=3,
        ),
        Size(
            name="0.5B",
            target=_shape(1024, 28, 16, 4, 4096),
            draft=_shape(512, 4, 8, 4, 2048),
        ),
        Size(
            name="1.5B",
            target=_shape(2048, 28, 16, 8, 6144),
            draft=_shape(1024, 6, 16, 8, 4096),
        ),
        Size(
            name="7B",
            target=_shape(4096, 32, 32, 8, 14_336),
            draft=_shape(1536, 18, 12, 4, 6144),
        ),
    )
}


@torch.inference_mode()
def build(shape: Shape, size: Size, *, device: torch.device, dtype: torch.dtype) -> CachedCausalLM:
    """A model that says t + 1 after t, whatever stood before, by a margin far above rounding.

    Its passes cost what any model's of this shape cost. A token's own embedding outweighs what
    random layers add to it, and the output head knows it as the embedding of the token before.
    """
    config = LlamaConfig(
        vocab_size=size.vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_shared_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=2 * max(size.contexts),
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    with torch.device(device):  # made there, not copied
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    for layer in model.model.layers:
        for last in (layer.self_attn.o_proj, layer.mlp.down_proj):
            last.weight.mul_(QUIET)
    embedding = torch.nn.init.normal_(model.model.embed_tokens.weight)
    model.lm_head.weight.copy_(embedding.roll(1, 0)).mul_(shape.hidden_size**-0.5)
    model.generation_config.pad_token_id = 0  # nothing is padded, and nothing ends an answer
    return CachedCausalLM(model.eval(), vocab_size=size.vocab_size)


def num_parameters(model: Any) -> int:
    """All of them."""
    return sum(weight.numel() for weight in model.parameters())


def bytes_of_a_step(model: Any) -> int:
    """Of weights that a pass over one token reads: all but the embeddings of other tokens."""
    whole = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    embedding = model.get_input_embeddings().weight
    return int(whole - embedding[1:].numel() * embedding.element_size())
