"""Medusa heads: read, checked against their target, written."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.utils.hub import extract_commit_hash

from specmeasure.decode.cache import CachedCausalLM
from specmeasure.engines.head_files import ROLE, SHARED, HeadsCheckpoint, layer_key, matrix_key
from specmeasure.engines.locating import digest_of, explained, file_of, location
from specmeasure.engines.weights import StoredTensor
from specmeasure.errors import BrokenLogits, ModelError, UnsupportedModel
from specmeasure.proposers.medusa import MedusaHeads
from specmeasure.records.heads import HeadsFacts, HeadsLayout
from specmeasure.records.plan import ModelOptions
from specmeasure.records.trace import ModelFacts


def read_head_count(name: str, options: ModelOptions) -> int:
    """How many heads a checkpoint holds, by the names of its weights.

    Raises:
        ModelError: with what to do.
    """
    return HeadsCheckpoint.open(name, options).num_heads


def load_heads(name: str, options: ModelOptions, target: CachedCausalLM) -> MedusaHeads:
    """Heads for this target, in the dtype and on the device of its output head.

    Without vocabulary matrices of their own they use the target's, which is not copied.

    Raises:
        ModelError: what is missing, damaged or of another target, and in which file.
    """
    checkpoint = HeadsCheckpoint.open(name, options)
    output = target.model.get_output_embeddings().weight.detach()  # [W, D], W >= V
    if not output.is_floating_point():
        raise UnsupportedModel(
            f"{ROLE} {name}: the target's output head is quantised, and heads that read its states "
            "need its dtype. Load the target with an output head in floating point."
        )
    _refuse_other_target(checkpoint, output.shape, target.vocab_size)
    num_rows = checkpoint.shared.shape[0] if checkpoint.shared else output.shape[0]
    with torch.device("meta"):
        matrix = nn.Linear(output.shape[1], num_rows, bias=False)
        heads = MedusaHeads(
            hidden_size=output.shape[1],
            vocab_size=target.vocab_size,
            num_heads=checkpoint.num_heads,
            num_layers=checkpoint.num_layers,
            lm_head=None if checkpoint.has_matrices else matrix,
        )
    weights = dict(_weights(checkpoint, output, target.vocab_size))
    heads.load_state_dict(weights, assign=True)
    heads.borrows_lm_head = not checkpoint.has_matrices and checkpoint.shared is None
    return heads.eval().requires_grad_(requires_grad=False)


def heads_notes(name: str, options: ModelOptions) -> tuple[str, ...]:
    """Where a checkpoint's config says something else than its weights."""
    return HeadsCheckpoint.open(name, options).notes


def heads_bytes(heads: MedusaHeads | None) -> int:
    """Bytes of their weights beside the target's; 0 without heads."""
    weights = [] if heads is None else own_weights(heads)
    return sum(weight.numel() * weight.element_size() for weight in weights)


def own_weights(heads: MedusaHeads) -> list[nn.Parameter]:
    """Those that are not the target's."""
    return [*(heads.blocks if heads.borrows_lm_head else heads).parameters()]


def parameters_of_a_head(heads: MedusaHeads) -> int:
    """Those that a draft passes through, the vocabulary matrix among them, whoever's it is."""
    parts = (heads.blocks[0], heads.lm_heads[0])
    return sum(weight.numel() for part in parts for weight in part.parameters())


def facts_of_heads(name: str, heads: MedusaHeads) -> ModelFacts:
    """What a trace says of heads."""
    matrix = heads.lm_heads[0].get_parameter("weight")
    commit = extract_commit_hash(str(file_of(name, "config.json", ROLE)), None)
    return ModelFacts(
        name=name,
        fingerprint=commit or digest_of(location(name)),
        num_parameters=sum(weight.numel() for weight in own_weights(heads)),
        dtype=str(matrix.dtype).removeprefix("torch."),
        device=str(matrix.device),
        cache="none",
        vocab_size=heads.vocab_size,
    )


def heads_facts(name: str, options: ModelOptions, heads: MedusaHeads) -> HeadsFacts:
    """What heads that were loaded are, and what they weigh beside their target."""
    checkpoint = HeadsCheckpoint.open(name, options)
    return HeadsFacts(
        name=name,
        layout=checkpoint.layout,
        num_heads=heads.num_heads,
        num_layers=heads.num_layers,
        num_parameters=sum(weight.numel() for weight in own_weights(heads)),
        num_bytes=heads_bytes(heads),
        borrows_target_head=heads.borrows_lm_head,
        notes=checkpoint.notes,
    )


def save_heads(heads: MedusaHeads, folder: Path, *, base_model: str, layout: HeadsLayout) -> None:
    """Write a folder that ``load_heads`` and the layout's own programs read.

    Args:
        heads: with vocabulary matrices of their own, or one for all.
        folder: made if need be.
        base_model: the target's hub id or name, stated in the config.
        layout: whose names and config.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file_name = "model.safetensors" if layout is HeadsLayout.VLLM else "medusa_lm_head.safetensors"
    weights = {key: weight.detach().cpu().contiguous() for key, weight in _named(heads, layout)}
    save_file(weights, folder / file_name, metadata={"format": "pt"})
    config = json.dumps(_config(heads, base_model, layout), indent=1)
    (folder / "config.json").write_text(config + "\n", encoding="utf-8")


def _named(heads: MedusaHeads, layout: HeadsLayout) -> Iterator[tuple[str, Tensor]]:
    for head, block in enumerate(heads.blocks):
        for layer, linear in enumerate(block.children()):
            for kind, weight in linear.named_parameters():
                yield layer_key(layout, head, layer, kind), weight
    if not heads.shares_lm_head:
        for head, matrix in enumerate(heads.lm_heads):
            yield matrix_key(layout, head, heads.num_layers), matrix.get_parameter("weight")
    elif layout is HeadsLayout.VLLM:
        yield SHARED, heads.lm_heads[0].get_parameter("weight")


def _config(heads: MedusaHeads, base_model: str, layout: HeadsLayout) -> dict[str, object]:
    if layout is HeadsLayout.MEDUSA:
        return {
            "base_model_name_or_path": base_model,
            "medusa_num_heads": heads.num_heads,
            "medusa_num_layers": heads.num_layers,
        }
    weight = heads.lm_heads[0].get_parameter("weight")
    return {
        "architectures": ["MedusaModel"],
        "model_type": "medusa",
        "base_model_name_or_path": base_model,
        "hidden_size": heads.hidden_size,
        "vocab_size": weight.shape[0],
        "num_heads": heads.num_heads,
        "num_hidden_layers": heads.num_layers,
        "medusa_fc_bias": True,
        "original_lm_head": heads.shares_lm_head,
        "dtype": str(weight.dtype).removeprefix("torch."),
    }


def _refuse_other_target(
    checkpoint: HeadsCheckpoint, output_shape: torch.Size, vocab_size: int
) -> None:
    num_rows, hidden_size = output_shape
    matrices = {"the shared matrix": checkpoint.shared} if checkpoint.shared else {}
    for place, stored in {**checkpoint.tensors, **matrices}.items():
        where = f"{ROLE} {checkpoint.name}: {stored.path.name}"
        if stored.shape[-1] != hidden_size:
            raise ModelError(
                f"{where} was trained for a target of hidden size {stored.shape[-1]} "
                f"({stored.key}); this target's is {hidden_size}. Name heads trained on it, "
                "or train some: specmeasure heads train."
            )
        if place.startswith("blocks.") and stored.shape[0] != hidden_size:
            raise ModelError(f"{where} is damaged: {stored.key} has shape {[*stored.shape]}.")
        if not place.startswith("blocks.") and not vocab_size <= stored.shape[0] <= num_rows:
            raise ModelError(
                f"{where} was trained for a vocabulary of {stored.shape[0]} tokens "
                f"({stored.key}); this target's has {vocab_size}. Name heads trained on it, "
                "or train some: specmeasure heads train."
            )


def _weights(
    checkpoint: HeadsCheckpoint, output: Tensor, vocab_size: int
) -> Iterator[tuple[str, Tensor]]:
    """By the names of ``MedusaHeads``."""
    places = range(checkpoint.num_heads)
    with explained(checkpoint.name, ROLE):
        for place, stored in checkpoint.tensors.items():
            weight = _whole(checkpoint.name, stored).to(output)
            yield place, weight if place.startswith("blocks.") else weight[:vocab_size].clone()
        shared = output
        if checkpoint.shared is not None:
            shared = _whole(checkpoint.name, checkpoint.shared).to(output)
    if not checkpoint.has_matrices:
        yield from ((f"lm_heads.{head}.weight", shared) for head in places)
    if not checkpoint.has_biases:
        for head in places:
            for layer in range(checkpoint.num_layers):
                yield f"blocks.{head}.{layer}.bias", output.new_zeros(output.shape[1])


def _whole(name: str, stored: StoredTensor) -> Tensor:
    weight = stored.read()
    if not weight.isfinite().all():
        raise BrokenLogits(
            f"{ROLE} {name}: {stored.path.name} holds NaN or infinity in {stored.key}: the weights "
            "are damaged, or training diverged."
        )
    return weight
