"""Randomly initialised two-to-four layer models of many cache kinds."""

from typing import Any

import torch
import transformers as hf

VOCAB = 64
COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.4,  # wide, so that a wrong state shows in the logits
}


def llama() -> Any:
    return build(hf.LlamaConfig(**COMMON))


def gpt2() -> Any:
    config = hf.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=256, initializer_range=0.4
    )
    return build(config)


def mistral_sliding() -> Any:
    return build(hf.MistralConfig(**COMMON, sliding_window=16))


def gemma3_hybrid() -> Any:
    config = hf.Gemma3TextConfig(
        **{**COMMON, "num_hidden_layers": 4},
        head_dim=8,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention"] * 2,
    )
    return build(config)


def lfm2_convolution() -> Any:
    config = hf.Lfm2Config(**COMMON, layer_types=["conv", "full_attention"], block_ff_dim=48)
    return build(config)


def qwen3_next_recurrent() -> Any:
    config = hf.Qwen3NextConfig(
        **COMMON,
        head_dim=8,
        layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        decoder_sparse_step=1,
    )
    return build(config)


def mamba_recurrent() -> Any:
    config = hf.MambaConfig(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, state_size=8, initializer_range=0.4
    )
    return build(config)


def build(config: Any) -> Any:
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for name, weight in model.named_parameters():
        if weight.dim() > 1 and "norm" not in name:
            torch.nn.init.normal_(weight, std=0.25)
        if name.endswith("A_log"):
            torch.nn.init.constant_(weight, -4.0)  # a recurrent state that remembers
    return model.eval()


ALL = {
    "crop": llama,
    "crop, learnt positions": gpt2,
    "sliding": mistral_sliding,
    "sliding and full": gemma3_hybrid,
    "convolution": lfm2_convolution,
    "recurrent": qwen3_next_recurrent,
}
