"""Llama folders, as far as they can be carried over to llama.cpp exactly."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specmeasure.errors import ModelError

Config = Mapping[str, Any]

TEMPLATE = "chat_template.jinja"
_FORMAT = b"1"  # raised when what is written changes, so that kept files are written anew


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaFolder:
    """A folder whose configuration and tokenizer can be carried over."""

    name: str
    folder: Path
    config: Config
    tokenizer: Config
    weights: tuple[Path, ...]

    @classmethod
    def read(cls, name: str, folder: Path) -> "LlamaFolder":
        found = cls(
            name=name,
            folder=folder,
            config=_json(folder / "config.json"),
            tokenizer=_json(folder / "tokenizer.json"),
            weights=tuple(sorted(folder.glob("*.safetensors"))),
        )
        obstacle = _obstacle(found.config) or _tokenizer_obstacle(found.tokenizer)
        if not found.weights:
            obstacle = "there are no safetensors files"
        if obstacle:
            raise inconvertible(name, obstacle)
        return found

    def fingerprint(self) -> str:
        """Over everything that is read."""
        digest = hashlib.sha256(_FORMAT)
        texts = [self.folder / name for name in ("config.json", "tokenizer.json", TEMPLATE)]
        for path in (*texts, *self.weights):
            if path.is_file():
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]

    @property
    def rope_theta(self) -> float:
        return float((self.config.get("rope_parameters") or self.config).get("rope_theta", 10000.0))

    @property
    def head_size(self) -> int:
        heads = int(self.config["num_attention_heads"])
        return int(self.config.get("head_dim") or self.config["hidden_size"] // heads)

    @property
    def num_key_heads(self) -> int:
        return int(self.config.get("num_key_value_heads") or self.config["num_attention_heads"])


def _obstacle(config: Config) -> str | None:
    """What keeps the model from being carried over; None: nothing."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    wanted = (
        ("model_type", config.get("model_type"), "llama"),
        ("hidden_act", config.get("hidden_act", "silu"), "silu"),
        ("attention_bias", config.get("attention_bias", False), False),
        ("mlp_bias", config.get("mlp_bias", False), False),
        ("rope_type", rope_type, "default"),
        ("quantization_config", config.get("quantization_config"), None),
    )
    for name, value, plain in wanted:
        if value != plain:
            return f"its {name} is {value!r}" if not isinstance(value, dict) else f"it has {name}"
    too_many = len(as_ids(config.get("eos_token_id"))) > 2
    return "it has more than two end tokens" if too_many else None


def _tokenizer_obstacle(tokenizer: Config) -> str | None:
    model, splitting = tokenizer.get("model", {}), tokenizer.get("pre_tokenizer") or {}
    is_plain = (
        model.get("type") == "BPE"
        and not (model.get("byte_fallback") or model.get("ignore_merges") or model.get("dropout"))
        and tokenizer.get("normalizer") is None
        and splitting.get("type") == "ByteLevel"
        and splitting.get("use_regex", True)
        and not splitting.get("add_prefix_space")
    )
    return None if is_plain else "its tokenizer is not byte-level BPE with GPT-2's splitting"


def as_ids(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (value,)


def _json(path: Path) -> Config:
    try:
        document: Config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as JSON: {error}.") from None
    return document


def inconvertible(name: str, obstacle: str) -> ModelError:
    return ModelError(
        f"{name}: {obstacle}, which specmeasure does not convert for llama.cpp. Convert it with "
        "llama.cpp's own convert_hf_to_gguf.py and name the .gguf file instead."
    )
