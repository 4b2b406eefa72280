"""What is to be run: arms, sampling, budgets and seeds, stated before the first trial."""

from dataclasses import dataclass
from enum import StrEnum


class Method(StrEnum):
    """How an arm drafts."""

    BASELINE = "baseline"
    DRAFT_MODEL = "draft"
    NGRAM = "ngram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way of decoding."""

    name: str  # unique within a plan, as printed: "draft k=4"
    method: Method
    num_speculative_tokens: int = 0  # K, the most drafts per block; 0 for a baseline
    draft: str | None = None  # folder or hub id of the draft model
    max_ngram: int | None = None  # n-gram arms: longest and shortest suffix looked up
    min_ngram: int | None = None

    def __post_init__(self) -> None:
        if (self.method is Method.BASELINE) != (self.num_speculative_tokens == 0):
            raise ValueError(f"arm {self.name!r}: a baseline drafts nothing, other arms K >= 1")
        if (self.method is Method.DRAFT_MODEL) != (self.draft is not None):
            raise ValueError(f"arm {self.name!r}: exactly the draft-model arms name a draft")
        sizes_given = self.max_ngram is not None and self.min_ngram is not None
        if (self.method is Method.NGRAM) != sizes_given:
            raise ValueError(f"arm {self.name!r}: exactly the n-gram arms have n-gram sizes")

    @property
    def is_baseline(self) -> bool:
        return self.method is Method.BASELINE


BASELINE = Arm(name="baseline", method=Method.BASELINE)
BASELINE_AGAIN = Arm(name="baseline A/A", method=Method.BASELINE)  # the noise floor


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the target picks tokens. Temperature 0 is greedy."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature {self.temperature} is below 0")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k {self.top_k} is below 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p} is not in (0, 1]")

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """How models are loaded; the same for target and drafts."""

    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: str = "auto"  # auto: float32 on a CPU, the checkpoint's own elsewhere
    attn: str | None = None  # attn_implementation; None leaves it to transformers
    device_map: str | None = None  # "auto" spreads the target over several GPUs
    num_threads: int | None = None  # None: as many free cores as make the target faster
    allow_pickle: bool = False
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that fixes a run but the prompts."""

    target: str
    arms: tuple[Arm, ...]  # baseline first
    sampling: Sampling = Sampling()
    max_new_tokens: int = 128
    num_repeats: int = 1
    seed: int = 0
    ignore_eos: bool = False
    include_text: bool = False
    options: ModelOptions = ModelOptions()

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"two arms share a name: {names}")
        if not self.arms or not self.arms[0].is_baseline:
            raise ValueError("the first arm is the baseline")
        if self.max_new_tokens < 1 or self.num_repeats < 1:
            raise ValueError("max_new_tokens and num_repeats are at least 1")

    @property
    def speculative_arms(self) -> tuple[Arm, ...]:
        return tuple(arm for arm in self.arms if not arm.is_baseline)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TrialKey:
    """One prompt's turn, decoded once by one arm."""

    prompt_id: str
    turn: int
    repeat: int
    arm: str
