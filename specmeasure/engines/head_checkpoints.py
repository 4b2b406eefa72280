"""Heads half trained, on disk: weights and optimiser in one safetensors file, no pickle.

A checkpoint is replaced whole or not at all. Going on from one gives the weights that an
uninterrupted training gives, bit by bit on a CPU with as many threads.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from specmeasure.engines.heads_training import HeadTrainer
from specmeasure.errors import UsageError

MOMENTS = ("exp_avg", "exp_avg_sq")


def save_checkpoint(path: Path, trainer: HeadTrainer, notes: Mapping[str, str]) -> None:
    """Write where a training stands, with what its caller wants to find beside it."""
    partial = path.with_suffix(".partial")
    tensors = {name: tensor.contiguous() for name, tensor in _tensors(trainer)}
    save_file(tensors, partial, metadata={**notes, "step": str(trainer.step)})
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def load_checkpoint(path: Path, trainer: HeadTrainer) -> dict[str, str]:
    """Set a new trainer to where another stopped; returns what was noted.

    Raises:
        UsageError: the file is damaged, or of other heads.
    """
    weights = dict(trainer.heads.named_parameters())
    state = trainer.optimiser.state
    try:
        with safe_open(path, framework="pt") as stored, torch.no_grad():
            notes = dict(stored.metadata())
            for name, weight in weights.items():
                weight.copy_(stored.get_tensor(name))
                if f"steps.{name}" in stored.keys():  # noqa: SIM118 - no mapping
                    state[weight] = {
                        "step": stored.get_tensor(f"steps.{name}"),
                        **{one: stored.get_tensor(f"{one}.{name}").to(weight) for one in MOMENTS},
                    }
        trainer.step = int(notes.pop("step"))
    except (SafetensorError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise UsageError(
            f"{path}: not a checkpoint of these heads ({error}). Delete it to train again from "
            "the answers that are kept."
        ) from error
    return notes


def _tensors(trainer: HeadTrainer) -> Iterator[tuple[str, Tensor]]:
    """Weights by their own names, then the optimiser's state of each that has been updated."""
    for name, weight in trainer.heads.named_parameters():
        yield name, weight.detach()
        state = trainer.optimiser.state.get(weight)
        if state:
            yield f"steps.{name}", state["step"]
            yield from ((f"{one}.{name}", state[one]) for one in MOMENTS)
