"""Memory that decoding will need, reckoned from configs before anything is loaded."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """One arm's largest answer, at its fullest moment."""

    arm: str
    model_bytes: int  # weights of all models that are in memory together
    cache_bytes: int  # keys and values at the longest context, of the run's other drafts too
    working_bytes: int  # activations and logits beyond these, kernels' own workspace
    checking_bytes: int = 0  # more that the check of its answer takes, beyond decoding it

    @property
    def decoding_bytes(self) -> int:
        return self.model_bytes + self.cache_bytes + self.working_bytes

    @property
    def total_bytes(self) -> int:
        return self.decoding_bytes + self.checking_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPrediction:
    """What a run's arms will need, beside what there was."""

    device: str
    num_prompt_tokens: int  # of the longest prompt
    num_context_tokens: int  # of the longest prompt with its answer
    needs: tuple[MemoryNeed, ...]
    free_bytes: int | None  # on the device, before loading; None: not told

    @property
    def largest(self) -> MemoryNeed:
        """The arm that needs most; of equal ones the first."""
        return max(self.needs, key=lambda one: one.total_bytes)

    @property
    def share_of_free(self) -> float | None:
        """That arm's need over what was free; above 1 it does not fit. None: not told."""
        return self.largest.total_bytes / self.free_bytes if self.free_bytes else None

    def of(self, arm: str) -> MemoryNeed | None:
        """The need of an arm; None: there is no such arm."""
        return next((one for one in self.needs if one.arm == arm), None)
