"""Whether models fit into the memory that is free, and what to say where they do not."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psutil
import torch

from specmeasure.decode.device_failures import is_shortage
from specmeasure.errors import OutOfMemory
from specmeasure.records.amounts import byte_size, count
from specmeasure.records.memory import MemoryNeed, MemoryPrediction
from specmeasure.records.plan import ModelOptions

REFUSED_ABOVE = 1.1  # of what is free: predictions are right within a tenth
WARNED_ABOVE = 0.9
KIB, MIB = 2**10, 2**20


def free_bytes(device: torch.device) -> int:
    """Memory that can be had on a device now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def workspace_bytes(device: torch.device) -> int:
    """What cuBLAS sets aside for itself, once; torch asks for more from Hopper on."""
    if device.type != "cuda":
        return 0
    is_recent = torch.cuda.get_device_capability(device) >= (9, 0)
    return 32 * MIB if is_recent else 8 * MIB + 128 * KIB


def refuse_weights(
    what: str, weight_bytes: int, options: ModelOptions, device: torch.device
) -> None:
    """Raise OutOfMemory where one model's weights alone are clearly more than what is free."""
    free = free_bytes(device)
    if weight_bytes > REFUSED_ABOVE * free:
        raise OutOfMemory(
            f"{what}: its weights take {byte_size(weight_bytes)}; {byte_size(free)} are free on "
            f"{device}. {'; '.join(ways_for_weights(options, device))}; or take a smaller model."
        )


def refuse_or_warn(
    prediction: MemoryPrediction, options: ModelOptions, longest_prompts: Sequence[tuple[str, int]]
) -> str | None:
    """What to say of a run that may not fit; None: it does, or it is not known what is free.

    Args:
        prediction: of the run.
        options: that its models are to be loaded with.
        longest_prompts: where they stand, with their numbers of tokens.

    Raises:
        OutOfMemory: it needs a tenth more than what is free.
    """
    share, need, free = prediction.share_of_free, prediction.largest, prediction.free_bytes
    if share is None or free is None or share < WARNED_ABOVE:
        return None
    num_new = prediction.num_context_tokens - prediction.num_prompt_tokens
    said = (
        f"arm {need.arm!r} needs about {byte_size(need.total_bytes)} at its longest, "
        f"{count(prediction.num_prompt_tokens, 'prompt token')} and {num_new} new ones: "
        f"{parts_of(need)}; {byte_size(free)} are free on {prediction.device}."
    )
    ways = what_to_lower(need, options, torch.device(prediction.device), longest_prompts)
    if share > REFUSED_ABOVE:
        raise OutOfMemory(f"{said} To make it fit: {ways}.")
    return f"Memory may run out: {said} If it does: {ways}."


def what_to_lower(
    need: MemoryNeed,
    options: ModelOptions,
    device: torch.device,
    longest_prompts: Sequence[tuple[str, int]] = (),
) -> str:
    """Ways to need less, those first that save most."""
    named = ", ".join(f"{place} with {tokens}" for place, tokens in longest_prompts)
    length = f"leave out the longest prompts{f' ({named} tokens)' if named else ''}"
    shorter = [f"lower --max-new-tokens; {length}"]
    weights = [*ways_for_weights(options, device), "measure fewer drafts at a time"]
    is_heavy = need.model_bytes > need.total_bytes / 2
    return "; ".join([*weights, *shorter] if is_heavy else [*shorter, *weights])


@contextmanager
def explained_shortage(say: Callable[[str], str], device: torch.device) -> Iterator[None]:
    """Turn a failed allocation into one message.

    Args:
        say: from what there is of memory to the message.
        device: whose memory ran out.

    Raises:
        OutOfMemory: memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own is a RuntimeError
        if not is_shortage(error):
            raise
        raise OutOfMemory(say(_state(device))) from error


def parts_of(need: MemoryNeed) -> str:
    """Weights, keys and values, and the rest."""
    sizes = {
        "weights": need.model_bytes,
        "keys and values": need.cache_bytes,
        "working memory": need.working_bytes + need.checking_bytes,
    }
    return ", ".join(f"{byte_size(size)} {name}" for name, size in sizes.items())


def ways_for_weights(options: ModelOptions, device: torch.device) -> list[str]:
    """Options that make room for weights."""
    is_wide = options.dtype == "float32" or (options.dtype == "auto" and device.type == "cpu")
    halved = ["--dtype bfloat16 halves it"] if is_wide else []
    spread = ["--device-map auto spreads the target over GPUs and the host"]
    return [*halved, *(spread if device.type == "cuda" else [])]


def _state(device: torch.device) -> str:
    if device.type != "cuda":
        memory = psutil.virtual_memory()
        return f"{byte_size(memory.available)} of {byte_size(memory.total)} free"
    free, total = torch.cuda.mem_get_info(device)
    allocated = torch.cuda.memory_allocated(device)
    return (
        f"{byte_size(free)} of {byte_size(total)} free on {device}, {byte_size(allocated)} held by "
        "this process"
    )
