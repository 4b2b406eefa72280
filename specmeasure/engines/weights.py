"""Weight files by their headers: what they hold, before any of it is read."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from specmeasure.engines.locating import HUB_CAUSES, explained, file_of, location
from specmeasure.errors import ModelError, ModelNotFound, UnsafeWeights
from specmeasure.records.plan import ModelOptions

INDEX = "model.safetensors.index.json"
SAFE_FILES = ("medusa_lm_head.safetensors", "model.safetensors", INDEX)
PICKLES = ("medusa_lm_head.pt", "medusa_head.pt")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """One tensor of a file."""

    path: Path
    key: str
    shape: tuple[int, ...]
    pickled: Tensor | None = None  # mapped into memory already

    def read(self) -> Tensor:
        """The tensor, on the host."""
        if self.pickled is not None:
            return self.pickled
        with safe_open(self.path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(self.key)
        return tensor


def read_config(name: str, role: str) -> dict[str, Any]:
    """A model's config.json as it stands, empty where there is none.

    Raises:
        ModelError: no such model, or the file is no JSON object.
    """
    path = file_of(name, "config.json", role)
    try:
        config = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{role} {name}: config.json is no JSON ({error}).") from error
    if not isinstance(config, dict):
        raise ModelError(f"{role} {name}: config.json holds no object.")
    return config


def stored_tensors(
    name: str, options: ModelOptions, role: str, wanted: Callable[[str], bool] = bool
) -> Mapping[str, StoredTensor]:
    """The tensors of the first weight file that there is, by key; of shards, those wanted.

    Raises:
        ModelNotFound: there is no weight file, or no such model.
        UnsafeWeights: there are pickles alone, and they were not allowed.
        ModelError: a damaged file.
    """
    for file_name in SAFE_FILES:
        path = file_of(name, file_name, role)
        if path is not None:
            with explained(name, role):
                return _of_index(name, path, role, wanted) if path.name == INDEX else _of_file(path)
    for file_name in PICKLES:
        path = file_of(name, file_name, role)
        if path is not None:
            return _of_pickle(name, path, options, role)
    if not Path(location(name)).is_dir() and not read_config(name, role):
        raise ModelNotFound(f"{role} {name}: {HUB_CAUSES['LocalEntryNotFoundError']}.")
    raise ModelNotFound(
        f"{role} {name}: no weights were found; looked for {', '.join((*SAFE_FILES, *PICKLES))}."
    )


def safe_keys(name: str, role: str) -> list[str]:
    """Names of the tensors in a model's safetensors, if they are on this machine; else none.

    Raises:
        ModelError: a damaged file.
    """
    for file_name in ("model.safetensors", INDEX):
        path = file_of(name, file_name, role, local_only=True)
        if path is not None:
            with explained(name, role):
                return list(_weight_map(path) if file_name == INDEX else _of_file(path))
    return []


def weight_file_bytes(name: str) -> int | None:
    """Size of a model's safetensors; None where they are not all on this machine."""
    role = "model"
    whole = file_of(name, "model.safetensors", role, local_only=True)
    index = file_of(name, INDEX, role, local_only=True)
    if whole is not None:
        return whole.stat().st_size
    if index is None:
        return None
    with explained(name, role):
        shards = sorted(set(_weight_map(index).values()))
    files = [file_of(name, shard, role, local_only=True) for shard in shards]
    sizes = [file.stat().st_size for file in files if file is not None]
    return sum(sizes) if len(sizes) == len(files) else None


def _of_file(path: Path) -> dict[str, StoredTensor]:
    with safe_open(path, framework="pt") as file:
        return {
            key: StoredTensor(path=path, key=key, shape=tuple(file.get_slice(key).get_shape()))
            for key in file.keys()  # noqa: SIM118 - it is no mapping
        }


def _weight_map(path: Path) -> dict[str, str]:
    """Of an index, each tensor's file."""
    files: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    return files


def _of_index(
    name: str, path: Path, role: str, wanted: Callable[[str], bool]
) -> dict[str, StoredTensor]:
    files = _weight_map(path)
    found: dict[str, StoredTensor] = {}
    for shard in sorted({file for key, file in files.items() if wanted(key)}):
        place = file_of(name, shard, role)
        if place is None:
            raise ModelNotFound(f"{role} {name}: {path.name} names {shard}, which is not there.")
        found |= _of_file(place)
    return found


def _of_pickle(name: str, path: Path, options: ModelOptions, role: str) -> dict[str, StoredTensor]:
    if not options.allow_pickle:
        raise UnsafeWeights(
            f"{role} {name}: its weights are a pickle ({path.name}). Pickled weights can run code "
            "when read; convert them to safetensors, or pass --allow-pickle if you trust their "
            "source."
        )
    with explained(name, role):
        held = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(held, dict) or not all(isinstance(one, Tensor) for one in held.values()):
        raise ModelError(f"{role} {name}: {path.name} holds no weights by name.")
    return {
        key: StoredTensor(path=path, key=key, shape=tuple(one.shape), pickled=one)
        for key, one in held.items()
    }
