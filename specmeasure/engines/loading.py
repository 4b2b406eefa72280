"""Models and tokenizers from folders or the hub, with one clear message for each way to fail.

Safetensors only, no remote code, explicit dtype; missing weights are an error, not a random
initialisation. Sizes are known from the config before anything is read.
"""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from specmeasure.engines.bare_models import bare_model
from specmeasure.engines.foreign_drafts import refuse_foreign
from specmeasure.engines.locating import digest_of, explained, location
from specmeasure.engines.room import explained_shortage, refuse_weights, ways_for_weights
from specmeasure.errors import ModelError, UnsupportedModel
from specmeasure.records.amounts import byte_size
from specmeasure.records.plan import ModelOptions

transformers_logging.disable_progress_bar()  # the CLI owns the terminal
transformers_logging.set_verbosity_error()


def pick_device(wish: str) -> torch.device:
    """``auto`` takes the first GPU, if there is one.

    Raises:
        ModelError: a GPU was asked for that torch cannot use.
    """
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wish)
    except RuntimeError:
        raise ModelError(f"--device {wish}: use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"--device {wish}: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA "
            "devices. Use --device cpu, or install a CUDA build of torch."
        )
    return device


def load_tokenizer(name: str, options: ModelOptions) -> Any:
    """The tokenizer of a model."""
    with explained(name, "tokenizer"):
        return AutoTokenizer.from_pretrained(
            location(name), trust_remote_code=options.trust_remote_code
        )


def load_config(name: str, options: ModelOptions, *, role: str = "draft") -> Any:
    """The configuration of a causal LM, without its weights.

    Raises:
        ModelError: with what to do; see ``errors``.
    """
    with explained(name, role):
        config = AutoConfig.from_pretrained(
            location(name), trust_remote_code=options.trust_remote_code
        )
    if config.is_encoder_decoder:
        raise UnsupportedModel(f"{role} {name}: an encoder-decoder is no causal LM.")
    return config


def load_model(name: str, options: ModelOptions, *, device: torch.device, role: str) -> Any:
    """A causal LM in eval mode, all of its weights found.

    Raises:
        ModelError: with what to do; see ``errors``.
    """
    if role == "draft":
        refuse_foreign(name, role)
    config = load_config(name, options, role=role)
    weight_bytes = None if options.device_map else _weight_bytes(name, config, options, device)
    if weight_bytes is not None:
        refuse_weights(f"{role} {name}", weight_bytes, options, device)
    placement: dict[str, Any] = {}
    if options.device_map and role == "target":
        placement = {"device_map": options.device_map}
    elif device.type == "cuda":
        placement = {"device_map": {"": device}}  # straight there, not through host memory

    def say(there_is: str) -> str:
        size = "its weights" if weight_bytes is None else f"{byte_size(weight_bytes)} of weights"
        ways = "; ".join([*ways_for_weights(options, device), "or take a smaller model"])
        return f"{role} {name}: {size} did not fit; {there_is}. {ways}."

    with explained(name, role), explained_shortage(say, device):
        model, loading = AutoModelForCausalLM.from_pretrained(
            location(name),
            config=config,
            dtype=wanted_dtype(options, device) or "auto",
            attn_implementation=options.attn,
            use_safetensors=None if options.allow_pickle else True,
            trust_remote_code=options.trust_remote_code,
            output_loading_info=True,
            **placement,
        )
    absent = sorted(loading["missing_keys"]) + sorted(map(str, loading["mismatched_keys"]))
    if absent:
        raise ModelError(
            f"{role} {name}: {len(absent)} weights are missing or of another shape, e.g. "
            f"{absent[0]}. transformers would fill them with random numbers; check that config "
            "and weights belong together."
        )
    return model.eval()


def refuse_cut_head(name: str, num_rows: int, vocab_size: int) -> None:
    """Raise UnsupportedModel where a draft's head knows fewer tokens than the target."""
    if num_rows < vocab_size:
        raise UnsupportedModel(
            f"draft {name}: its head has {num_rows} rows, the target knows {vocab_size} tokens. A "
            "draft with a cut vocabulary is not supported."
        )


def fingerprint(name: str, model: Any) -> str:
    """The hub's commit, or a digest of config and weights."""
    return str(getattr(model.config, "_commit_hash", None) or digest_of(location(name)))


def wanted_dtype(options: ModelOptions, device: torch.device) -> torch.dtype | None:
    """What weights are loaded in; None: the checkpoint's own.

    Raises:
        ModelError: no dtype of that name.
    """
    wish = options.dtype
    if wish == "auto":
        return torch.float32 if device.type == "cpu" else None
    dtype = getattr(torch, wish, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ModelError(f"--dtype {wish}: use auto, float32, bfloat16 or float16")
    return dtype


def _weight_bytes(
    name: str, config: Any, options: ModelOptions, device: torch.device
) -> int | None:
    """Of one model; None where its config does not tell."""
    bare = bare_model(name, config, options, dtype=wanted_dtype(options, device))
    return None if bare is None else bare.weight_bytes
