"""Where a model's files are, and one clear message for each way not to have them."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers.utils import cached_file

from specmeasure.demo import embedded_folder
from specmeasure.errors import ModelError, ModelNotFound, OutOfMemory, UnsafeWeights

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


def location(name: str) -> str:
    """The folder of an embedded or local model, or the hub id as it is."""
    embedded = embedded_folder(name)
    if embedded is None:
        return str(Path(name).expanduser()) if Path(name).expanduser().exists() else name
    if not embedded.is_dir():
        raise ModelNotFound(
            f"{name}: no such embedded model. There are embedded:target, embedded:draft and "
            "embedded:draft-large, and the heads embedded:medusa."
        )
    return str(embedded)


def file_of(name: str, file_name: str, role: str, *, local_only: bool = False) -> Path | None:
    """A file of a model, from its folder, the hub's cache or the hub; None: it has no such file.

    Raises:
        ModelNotFound: there is no such model, or the hub was not reached.
    """
    with explained(name, role):
        found = cached_file(
            location(name),
            file_name,
            local_files_only=local_only,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=not local_only,
        )
    return None if found is None else Path(found)


def digest_of(folder: str) -> str:
    """A digest of a folder's configs and weights, of which 64 samples of each file are read."""
    digest = hashlib.sha256()
    kinds = ("*.json", "*.safetensors", "*.bin", "*.pt")
    for path in sorted(path for kind in kinds for path in Path(folder).glob(kind)):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            for part in range(64):
                file.seek(part * size // 64)
                digest.update(file.read(min(65536, size // 64 + 1)))
    return digest.hexdigest()


@contextmanager
def explained(name: str, role: str) -> Iterator[None]:
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
