"""Checkpoints of Medusa heads by their headers: FasterDecoding's layout and vLLM's.

Counts of heads and layers come from the weights' names: published configs state other ones.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from specmeasure.engines.foreign_drafts import refuse_foreign
from specmeasure.engines.weights import StoredTensor, read_config, stored_tensors
from specmeasure.errors import ModelError, UnsupportedModel
from specmeasure.records.heads import HeadsLayout
from specmeasure.records.plan import ModelOptions

ROLE = "heads"
INSIDE = re.compile(r"(?:.*\.)?medusa_heads?\.")  # heads inside a full model: Medusa-2
LAYER = {
    HeadsLayout.MEDUSA: re.compile(r"(\d+)\.(\d+)\.linear\.(weight|bias)"),
    HeadsLayout.VLLM: re.compile(r"blocks\.(\d+)\.layers\.(\d+)\.(weight|bias)"),
}
MATRIX = {
    HeadsLayout.MEDUSA: re.compile(r"(\d+)\.\d+\.weight"),
    HeadsLayout.VLLM: re.compile(r"lm_heads\.(\d+)\.weight"),
}
SHARED = "lm_head.weight"  # vLLM: one vocabulary matrix for all heads
COUNTS = {  # what the configs call the numbers of heads and layers
    HeadsLayout.MEDUSA: ("medusa_num_heads", "medusa_num_layers"),
    HeadsLayout.VLLM: ("num_heads", "num_hidden_layers"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsCheckpoint:
    """What a checkpoint holds; no tensor has been read."""

    name: str
    config: Mapping[str, Any]
    layout: HeadsLayout
    tensors: Mapping[str, StoredTensor]  # by the names of ``MedusaHeads``
    shared: StoredTensor | None  # one vocabulary matrix for all heads, in the file

    @classmethod
    def open(cls, name: str, options: ModelOptions) -> Self:
        """Read config and headers, and check the names.

        Raises:
            ModelError: there are no heads, or of no kind that is read here, or one lacks a weight.
        """
        refuse_foreign(name, ROLE)
        config = read_config(name, ROLE)
        held = stored_tensors(name, options, ROLE, lambda key: bool(INSIDE.match(key)))
        inside = {INSIDE.sub("", key): held[key] for key in held if INSIDE.match(key)}
        plain = inside or dict(held)
        shared = None if inside else plain.pop(SHARED, None)
        _refuse_part_of_a_vocabulary(name, config, plain)
        layout = _layout_of(name, config, plain)
        checkpoint = cls(
            name=name,
            config=config,
            layout=layout,
            tensors=_by_our_names(name, layout, plain),
            shared=shared,
        )
        checkpoint._refuse_gaps(plain)
        return checkpoint

    @property
    def num_heads(self) -> int:
        return 1 + max(int(place.split(".")[1]) for place in self.tensors)

    @property
    def num_layers(self) -> int:
        """Residual blocks of each head."""
        layers = [int(place.split(".")[2]) for place in self.tensors if place.startswith("blocks.")]
        return 1 + max(layers, default=-1)

    @property
    def num_parameters(self) -> int:
        """Beside the target's; absent biases are made as zeros, and not counted."""
        shared = [] if self.shared is None else [self.shared]
        return sum(math.prod(one.shape) for one in (*self.tensors.values(), *shared))

    @property
    def has_matrices(self) -> bool:
        """Whether each head has its own vocabulary matrix."""
        return any(place.startswith("lm_heads.") for place in self.tensors)

    @property
    def has_biases(self) -> bool:
        return any(place.endswith(".bias") for place in self.tensors)

    @property
    def notes(self) -> tuple[str, ...]:
        """Where its config says something else than its weights."""
        found = zip(COUNTS[self.layout], (self.num_heads, self.num_layers), strict=True)
        return tuple(
            f"Heads {self.name}: config.json says {field} {self.config[field]}, the weights hold "
            f"{number}. The weights count."
            for field, number in found
            if self.config.get(field, number) != number
        )

    def _refuse_gaps(self, plain: Mapping[str, StoredTensor]) -> None:
        for place, key in self._expected():
            if key not in plain or self.tensors.get(place) is not plain[key]:
                raise ModelError(
                    f"{ROLE} {self.name}: {_file_name(plain)} has no weight {key!r}; with "
                    f"{self.num_heads} heads of {self.num_layers} layers it should. Download or "
                    "convert it again."
                )

    def _expected(self) -> Iterator[tuple[str, str]]:
        """Our names, and the file's."""
        kinds = ("weight", "bias") if self.has_biases else ("weight",)
        for head in range(self.num_heads):
            for layer in range(self.num_layers):
                for kind in kinds:
                    yield f"blocks.{head}.{layer}.{kind}", layer_key(self.layout, head, layer, kind)
            if self.has_matrices:
                yield f"lm_heads.{head}.weight", matrix_key(self.layout, head, self.num_layers)


def layer_key(layout: HeadsLayout, head: int, layer: int, kind: str) -> str:
    """A residual block's weight or bias, as a layout names it."""
    if layout is HeadsLayout.VLLM:
        return f"blocks.{head}.layers.{layer}.{kind}"
    return f"{head}.{layer}.linear.{kind}"


def matrix_key(layout: HeadsLayout, head: int, num_layers: int) -> str:
    """A head's vocabulary matrix, as a layout names it."""
    return (
        f"lm_heads.{head}.weight" if layout is HeadsLayout.VLLM else f"{head}.{num_layers}.weight"
    )


def _by_our_names(
    name: str, layout: HeadsLayout, plain: Mapping[str, StoredTensor]
) -> dict[str, StoredTensor]:
    found = {}
    for key, stored in plain.items():
        layer, matrix = LAYER[layout].fullmatch(key), MATRIX[layout].fullmatch(key)
        if layer:
            found["blocks.{}.{}.{}".format(*layer.groups())] = stored
        elif matrix:
            found[f"lm_heads.{matrix.group(1)}.weight"] = stored
        else:
            raise ModelError(
                f"{ROLE} {name}: {_file_name(plain)} holds {key!r}, which is no weight of a Medusa "
                "head. Only residual blocks and vocabulary matrices are read."
            )
    return found


def _layout_of(name: str, config: Mapping[str, Any], keys: Iterable[str]) -> HeadsLayout:
    for layout in HeadsLayout:
        if any(LAYER[layout].fullmatch(key) or MATRIX[layout].fullmatch(key) for key in keys):
            return layout
    what = ", ".join(config.get("architectures") or []) or "something else"
    raise UnsupportedModel(
        f"{ROLE} {name}: it holds no Medusa heads; config.json says {what}. If it is a language "
        "model that should draft, name it with --draft."
    )


def _refuse_part_of_a_vocabulary(name: str, config: Mapping[str, Any], keys: Iterable[str]) -> None:
    cut = config.get("truncated_vocab_size")
    if "token_map" in keys or (cut is not None and cut != config.get("vocab_size")):
        raise UnsupportedModel(
            f"{ROLE} {name}: these heads know a part of the vocabulary only (token_map, "
            f"truncated_vocab_size {cut}). That is not read here; take heads with full vocabulary "
            "matrices."
        )


def _file_name(plain: Mapping[str, StoredTensor]) -> str:
    return next(iter(plain.values())).path.name
