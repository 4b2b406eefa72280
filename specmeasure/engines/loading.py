"""Models and tokenizers from folders or the hub, with one clear message for each way to fail.

Safetensors only, no remote code, explicit dtype; missing weights are an error, not a random
initialisation. Sizes are known from the config before anything is read.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from specmeasure.demo import embedded_folder
from specmeasure.errors import (
    ModelError,
    ModelNotFound,
    OutOfMemory,
    TokenizerMismatch,
    UnsafeWeights,
    UnsupportedModel,
)
from specmeasure.records.plan import ModelOptions

transformers_logging.disable_progress_bar()  # the CLI owns the terminal
transformers_logging.set_verbosity_error()
GIB = 2**30
HUB_CAUSES = {
    "GatedRepoError": "the repository is gated: accept its licence on the hub and log in",
    "RepositoryNotFoundError": "no such repository, or it is private and no token is set",
    "RevisionNotFoundError": "the repository has no such revision",
    "LocalEntryNotFoundError": (
        "it is not in the local cache and the hub was not reached: download it first, or check the "
        "network and HF_HUB_OFFLINE"
    ),
    "OfflineModeIsEnabled": "offline mode is on (HF_HUB_OFFLINE) and it is not in the local cache",
    "HFValidationError": "there is no such folder, and it is not a valid hub id",
}


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
    with _explained(name, "tokenizer"):
        return AutoTokenizer.from_pretrained(
            location(name), trust_remote_code=options.trust_remote_code
        )


def load_config(name: str, options: ModelOptions) -> Any:
    """The configuration of a model, without its weights."""
    with _explained(name, "draft"):
        return AutoConfig.from_pretrained(
            location(name), trust_remote_code=options.trust_remote_code
        )


def load_model(name: str, options: ModelOptions, *, device: torch.device, role: str) -> Any:
    """A causal LM in eval mode, all of its weights found.

    Raises:
        ModelError: with what to do; see ``errors``.
    """
    dtype = _dtype(options.dtype, device)
    with _explained(name, role):
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


def refuse_other_vocabulary(target_tokenizer: Any, draft_tokenizer: Any, draft: str) -> None:
    """Raise TokenizerMismatch with the first differences unless token → id agrees throughout."""
    ours, theirs = target_tokenizer.get_vocab(), draft_tokenizer.get_vocab()
    if ours == theirs:
        return
    tokens = sorted(set(ours) | set(theirs), key=lambda token: (ours.get(token, 1 << 60), token))
    differing = [token for token in tokens if ours.get(token) != theirs.get(token)]
    shown = "; ".join(
        f"{token!r}: target {ours.get(token, 'absent')}, draft {theirs.get(token, 'absent')}"
        for token in differing[:3]
    )
    raise TokenizerMismatch(
        f"draft {draft}: its tokenizer differs from the target's in {len(differing)} of "
        f"{len(tokens)} tokens ({shown}). Draft ids would mean other text to the target; use a "
        "draft trained with the target's tokenizer."
    )


def refuse_cut_head(name: str, num_rows: int, vocab_size: int) -> None:
    """Raise UnsupportedModel where a draft's head knows fewer tokens than the target."""
    if num_rows < vocab_size:
        raise UnsupportedModel(
            f"draft {name}: its head has {num_rows} rows, the target knows {vocab_size} tokens. A "
            "draft with a cut vocabulary is not supported."
        )


def fingerprint(name: str, model: Any) -> str:
    """The hub's commit, or a digest of config and weights (64 samples of each weight file)."""
    commit = getattr(model.config, "_commit_hash", None)
    if commit:
        return str(commit)
    folder, digest = Path(location(name)), hashlib.sha256()
    for path in sorted(
        [*folder.glob("*.json"), *folder.glob("*.safetensors"), *folder.glob("*.bin")]
    ):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            for part in range(64):
                file.seek(part * size // 64)
                digest.update(file.read(min(65536, size // 64 + 1)))
    return digest.hexdigest()


def location(name: str) -> str:
    """The folder of an embedded or local model, or the hub id as it is."""
    embedded = embedded_folder(name)
    if embedded is None:
        return str(Path(name).expanduser()) if Path(name).expanduser().exists() else name
    if not embedded.is_dir():
        raise ModelNotFound(
            f"{name}: no such embedded model. There are embedded:target, embedded:draft and "
            "embedded:draft-large."
        )
    return str(embedded)


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


@contextmanager
def _explained(name: str, role: str) -> Iterator[None]:
    """Turn what transformers raises into one message of ours."""
    try:
        yield
    except ModelError:
        raise
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"{role} {name}: {str(error).splitlines()[0]}") from error
    except Exception as error:  # loaders of hubs, configs and weights share no base class
        raise _explanation(name, role, error) from error


def _explanation(name: str, role: str, error: Exception) -> ModelError:
    for cause in _causes(error):
        said = HUB_CAUSES.get(type(cause).__name__)
        if said:
            return ModelNotFound(f"{role} {name}: {said}.")
    text = " ".join(str(error).split())
    folder = Path(location(name))
    if folder.is_dir() and not (folder / "config.json").exists():
        return ModelNotFound(f"{role} {name}: the folder has no config.json; it is no model.")
    if "model.safetensors" in text or "pytorch_model.bin" in text:
        return UnsafeWeights(
            f"{role} {name}: no safetensors weights were found. Pickled weights can run code when "
            "read; convert them, or pass --allow-pickle if you trust their source."
        )
    if any(type(cause).__name__ == "SafetensorError" for cause in _causes(error)):
        return ModelError(f"{role} {name}: damaged weights ({text}). Download it again.")
    if "trust_remote_code" in text:
        return UnsafeWeights(
            f"{role} {name}: the model brings its own code. Pass --trust-remote-code if you trust "
            "it."
        )
    kind = OutOfMemory if "allocate memory" in text else ModelError
    return kind(f"{role} {name}: {text[:400]}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__
