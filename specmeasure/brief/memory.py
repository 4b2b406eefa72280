"""Memory that was reckoned before loading, beside what was seen."""

from collections.abc import Sequence

from specmeasure.brief.names import plain
from specmeasure.brief.numbers import byte_size, count
from specmeasure.brief.provenance import Fact
from specmeasure.records.estimates import ArmEstimates
from specmeasure.records.memory import MemoryNeed, MemoryPrediction


def write_memory(
    prediction: MemoryPrediction | None, arms: Sequence[ArmEstimates]
) -> tuple[Fact, ...]:
    """One line of the arm that was to need most; none where nothing was reckoned."""
    if prediction is None:
        return ()
    need = prediction.largest
    seen = next((arm.peak_memory_bytes for arm in arms if arm.name == need.arm), None)
    free = prediction.free_bytes
    length = count(prediction.num_context_tokens, "token")
    reckoned = f"{byte_size(need.decoding_bytes)} for arm {plain(need.arm)} at {length}"
    parts = [
        f"predicted before loading: {reckoned} ({_parts(need)})",
        _seen(seen, prediction.device),
        "" if free is None else f"{byte_size(free)} were free on {plain(prediction.device)}",
    ]
    return (Fact(label="Memory", text="; ".join(part for part in parts if part)),)


def _parts(need: MemoryNeed) -> str:
    said = (
        f"{byte_size(need.model_bytes)} weights of all models, {byte_size(need.cache_bytes)} keys "
        f"and values, {byte_size(need.working_bytes)} working memory"
    )
    checking = need.checking_bytes
    return f"{said}; {byte_size(checking)} more to check the answer" if checking else said


def _seen(peak_bytes: int | None, device: str) -> str:
    """On a CPU nobody counts tensors alone."""
    if peak_bytes is None:
        return "what was used is not measured"
    if device == "cpu":
        return f"the whole process, with Python and its libraries, held {byte_size(peak_bytes)}"
    return f"measured while decoding, by torch's allocator: {byte_size(peak_bytes)}"
