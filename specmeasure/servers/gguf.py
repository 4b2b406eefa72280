"""Llama folders as GGUF files in float32, for llama.cpp.

Only what can be carried over exactly: plain Llama layers, plain rotary positions and byte-level BPE
with GPT-2's splitting. All else is refused, with the way to convert it.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmeasure.demo import embedded_folder
from specmeasure.errors import ModelNotFound, ServerNotStarted
from specmeasure.servers.llama_folder import TEMPLATE, Config, LlamaFolder, as_ids, inconvertible

_TENSORS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_LAYER_TENSORS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
# llama.cpp ends an answer at any token with one of these texts, whatever the model's own end is
_ENDS_BY_TEXT = frozenset(
    (
        *("</s>", "<eos>", "[EOS]", "<EOT>", "_<EOT>", "[EOT]", "< EOT >", "<EOM>"),
        *("<|eot_id|>", "<|eom_id|>", "<|end|>", "<|im_end|>", "<|endoftext|>", "<|end_of_text|>"),
        *("<|return|>", "<|call|>", "<|calls|>", "<|flush|>", "<|tool_response>", "<turn|>"),
        *("<end_of_turn>", "<end_of_utterance>", "<｜end▁of▁sentence｜>"),
    )
)
_UNSEEN = "\u200b"  # put behind such a text, so that it is an ordinary token again


def gguf_file(model: str, cache: Path) -> Path:
    """The model as a GGUF file: itself if it is one, else converted into the cache folder.

    Args:
        model: a .gguf file, a Llama folder or the name of an embedded model.
        cache: where converted files are kept, by the contents they were made from.

    Raises:
        ModelNotFound: neither a file nor a folder.
        ModelError: a folder that this converter cannot carry over exactly.
        ServerNotStarted: the converter's package is not installed.
    """
    if model.endswith(".gguf"):
        if not Path(model).is_file():
            raise ModelNotFound(f"{model}: no such file.")
        return Path(model).resolve()
    folder = embedded_folder(model) or Path(model)
    if not (folder / "config.json").is_file():
        raise ModelNotFound(
            f"{model}: llama.cpp needs a local Llama folder with config.json, or a .gguf file."
        )
    found = LlamaFolder.read(model, folder)
    path = cache / f"{folder.name}-{found.fingerprint()}.gguf"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.part")
        _write(found, unfinished)
        unfinished.replace(path)
    return path


def _write(found: LlamaFolder, path: Path) -> None:
    try:
        import gguf
    except ImportError:
        raise ServerNotStarted(
            f"{found.name}: converting it for llama.cpp needs the package gguf; "
            "pip install 'specmeasure[llamacpp]'."
        ) from None
    writer = gguf.GGUFWriter(path, "llama")
    _write_shape(found, writer)
    _write_tokenizer(found, writer)
    for name, tensor in _tensors(found):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_shape(found: LlamaFolder, writer: Any) -> None:
    import gguf

    config = found.config
    writer.add_name(found.folder.name)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(found.num_key_heads)
    writer.add_key_length(found.head_size)
    writer.add_value_length(found.head_size)
    writer.add_rope_dimension_count(found.head_size)
    writer.add_rope_freq_base(found.rope_theta)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _write_tokenizer(found: LlamaFolder, writer: Any) -> None:
    import gguf

    ends = as_ids(found.config.get("eos_token_id"))
    added = {token["id"]: token for token in found.tokenizer["added_tokens"]}
    texts = {token_id: text for text, token_id in found.tokenizer["model"]["vocab"].items()}
    texts |= {token_id: _plain(token, ends) for token_id, token in added.items()}
    kinds = []
    for token_id in range(found.config["vocab_size"]):
        if token_id in added:
            is_special = added[token_id]["special"]
            kinds.append(gguf.TokenType.CONTROL if is_special else gguf.TokenType.USER_DEFINED)
        else:
            kinds.append(gguf.TokenType.NORMAL if token_id in texts else gguf.TokenType.UNUSED)
    merges = found.tokenizer["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([texts.get(i, f"[UNUSED{i}]") for i in range(len(kinds))])
    writer.add_token_types(kinds)
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    _write_special_tokens(found, writer, ends)


def _write_special_tokens(found: LlamaFolder, writer: Any, ends: tuple[int, ...]) -> None:
    for add, token_ids in (
        (writer.add_bos_token_id, as_ids(found.config.get("bos_token_id"))),
        (writer.add_eos_token_id, ends[:1]),
        (writer.add_eot_token_id, ends[1:]),
        (writer.add_pad_token_id, as_ids(found.config.get("pad_token_id"))),
    ):
        for token_id in token_ids:
            add(token_id)
    before, after = _surroundings(found.tokenizer)
    writer.add_add_bos_token(before)
    writer.add_add_eos_token(after)
    template = found.folder / TEMPLATE
    if template.is_file():
        writer.add_chat_template(template.read_text(encoding="utf-8"))


def _plain(token: Config, ends: tuple[int, ...]) -> str:
    text: str = token["content"]
    return text + _UNSEEN if text in _ENDS_BY_TEXT and token["id"] not in ends else text


def _surroundings(tokenizer: Config) -> tuple[bool, bool]:
    """Whether a special token is put before a text, and after it."""
    pieces = (tokenizer.get("post_processor") or {}).get("single", [{"Sequence": {}}])
    place = next(index for index, piece in enumerate(pieces) if "Sequence" in piece)
    return place > 0, place < len(pieces) - 1


def _tensors(found: LlamaFolder) -> Iterator[tuple[str, NDArray[np.float32]]]:
    from safetensors import deserialize

    for path in found.weights:
        for name, stored in deserialize(path.read_bytes()):  # type: ignore[no-untyped-call]
            if name.endswith("rotary_emb.inv_freq"):
                continue
            if name == "lm_head.weight" and found.config.get("tie_word_embeddings"):
                continue
            tensor = _as_float32(found, name, stored)
            yield _gguf_name(found, name), _interleaved(found, name, tensor)


def _gguf_name(found: LlamaFolder, name: str) -> str:
    if name in _TENSORS:
        return _TENSORS[name]
    parts = name.removeprefix("model.layers.").split(".")
    place, rest = parts[0], ".".join(parts[1:-1])
    if parts[-1] != "weight" or rest not in _LAYER_TENSORS:
        raise inconvertible(found.name, f"it has a tensor {name}")
    return f"blk.{place}.{_LAYER_TENSORS[rest]}.weight"


def _as_float32(found: LlamaFolder, name: str, stored: Config) -> NDArray[np.float32]:
    """Every value of the three kinds is a float32 value, too."""
    data, shape = stored["data"], stored["shape"]
    match stored["dtype"]:
        case "F32":
            values = np.frombuffer(data, np.float32)
        case "F16":
            values = np.frombuffer(data, np.float16).astype(np.float32)
        case "BF16":  # a float32's upper half
            values = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
        case other:
            raise inconvertible(found.name, f"tensor {name} is {other}")
    return values.reshape(shape)


def _interleaved(found: LlamaFolder, name: str, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rotary pairs side by side, as in llama.cpp; transformers keeps a head's halves apart."""
    heads = {
        "self_attn.q_proj.weight": int(found.config["num_attention_heads"]),
        "self_attn.k_proj.weight": found.num_key_heads,
    }
    for ending, num_heads in heads.items():
        if name.endswith(ending):
            halves = tensor.reshape(num_heads, 2, found.head_size // 2, -1)
            return np.ascontiguousarray(halves.transpose(0, 2, 1, 3).reshape(tensor.shape))
    return tensor
