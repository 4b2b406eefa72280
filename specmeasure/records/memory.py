"""Memory that decoding will need, reckoned from configs before anything is loaded."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """One arm's largest answer."""

    arm: str
    model_bytes: int  # weights of all models that are in memory together
    cache_bytes: int  # keys and values at the longest context
    working_bytes: int  # activations and logits of its largest pass, graphs' buffers

    @property
    def total_bytes(self) -> int:
        return self.model_bytes + self.cache_bytes + self.working_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPrediction:
    """What a run's arms will need, beside what there was."""

    device: str
    num_context_tokens: int  # of the longest prompt with its answer
    needs: tuple[MemoryNeed, ...]
    free_bytes: int | None  # on the device, before loading; None: not told
