"""Models and tokenizers from folders or the hub, with one clear message for each way to fail.

Safetensors only, no remote code, explicit dtype; missing weights are an error, not a random
initialisation. Sizes are known from the config before anything is read.
"""

from typing import Any

import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from specmeasure.engines.foreign_drafts import refuse_foreign
from specmeasure.engines.locating import digest_of, explained, location
from specmeasure.errors import (
    ModelError,
    OutOfMemory,
    UnsupportedModel,
)
from specmeasure.records.plan import ModelOptions

transformers_logging.disable_progress_bar()  # the CLI owns the terminal
transformers_logging.set_verbosity_error()
GIB = 2**30


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


def load_config(name: str, options: ModelOptions) -> Any:
    """The configuration of a model, without its weights."""
    with explained(name, "draft"):
        return AutoConfig.from_pretrained(
            location(name), trust_remote_code=options.trust_remote_code
        )


def load_model(name: str, options: ModelOptions, *, device: torch.device, role: str) -> Any:
    """A causal LM in eval mode, all of its weights found.

    Raises:
        ModelError: with what to do; see ``errors``.
    """
    dtype = _dtype(options.dtype, device)
    if role == "draft":
        refuse_foreign(name, role)
    with explained(name, role):
        config = AutoConfig.from_pretrained(
            location(name), trust_remote_code=options.trust_remote_code
        )
        if config.is_encoder_decoder:
            raise UnsupportedModel(f"{role} {name}: an encoder-decoder is no causal LM.")
        _refuse_what_cannot_fit(name, config, dtype, options, device)
        placement: dict[str, Any] = {}
        if options.device_map and role == "target":
            placement = {"device_map": options.device_map}
        elif device.type == "cuda":
            placement = {"device_map": {"": device}}  # straight there, not through host memory
        model, loading = AutoModelForCausalLM.from_pretrained(
            location(name),
            config=config,
            dtype=dtype,
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


def _dtype(wish: str, device: torch.device) -> Any:
    if wish == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    dtype = getattr(torch, wish, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ModelError(f"--dtype {wish}: use auto, float32, bfloat16 or float16")
    return dtype


def _refuse_what_cannot_fit(
    name: str, config: Any, dtype: Any, options: ModelOptions, device: torch.device
) -> None:
    """Count parameters on the meta device and compare with the memory that is free."""
    if options.device_map or options.trust_remote_code:
        return  # spread by accelerate, or code that need not build on the meta device
    if getattr(config, "quantization_config", None):
        return  # its weights are smaller than the dtype says
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    num_parameters = sum(weight.numel() for weight in model.parameters())
    width = (dtype if isinstance(dtype, torch.dtype) else model.dtype).itemsize
    needed = num_parameters * width
    free = (
        torch.cuda.mem_get_info(device)[0]
        if device.type == "cuda"
        else psutil.virtual_memory().available
    )
    if needed > free:
        raise OutOfMemory(
            f"{name}: {num_parameters / 1e9:.2f} billion parameters need {needed / GIB:.1f} GiB at "
            f"{width} bytes each; {free / GIB:.1f} GiB are free on {device}. Use a smaller dtype, "
            "--device-map auto, or a smaller model."
        )
