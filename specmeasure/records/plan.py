"""What is to be run: arms, sampling, budgets and seeds, stated before the first trial."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from specmeasure.records.corpus import AskedSampling
from specmeasure.records.serving import Load, Serving
from specmeasure.records.tree import TokenTree


class Method(StrEnum):
    """How an arm drafts."""

    BASELINE = "baseline"
    DRAFT_MODEL = "draft"
    EARLY_EXIT = "early-exit"
    MEDUSA = "medusa"
    NGRAM = "ngram"
    SUFFIX = "suffix"
    SERVED = "served"  # whatever a server does that was configured elsewhere, or by the user's JSON


class DraftSampling(StrEnum):
    """How a model's drafts are picked where the target samples; a greedy target's are greedy."""

    PROBABILISTIC = "probabilistic"  # drawn under the target's own sampling settings
    GREEDY = "greedy"  # its likeliest token, verified as a point mass: vLLM's default


class NgramPick(StrEnum):
    """Which of an n-gram's earlier occurrences is continued."""

    EARLIEST = "earliest"  # vLLM's and transformers'
    LATEST = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class TypicalAcceptance:
    """A lossy rule: keep a draft that the target finds likely enough, whatever the draft's law.

    Keep x if target_probs(x) > min(epsilon, delta · exp(−entropy)) (Cai et al. 2024,
    arXiv:2401.10774, section 3.3.1).
    """

    epsilon: float = 0.09
    delta: float = 0.3

    def __post_init__(self) -> None:
        if not (0 < self.epsilon < 1 and self.delta > 0):
            raise ValueError(f"epsilon {self.epsilon} is not in (0, 1), or delta is not above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way of decoding."""

    name: str  # unique within a plan, as printed: "draft k=4"
    method: Method
    num_speculative_tokens: int = 0  # K, the most drafts per block; 0 for a baseline
    draft: str | None = None  # folder or hub id of the draft model
    heads: str | None = None  # folder or hub id of Medusa heads
    tree: TokenTree | None = None  # medusa arms; None: a chain
    draft_sampling: DraftSampling = DraftSampling.PROBABILISTIC
    exit_layer: int | None = None  # early-exit arms: the target's first layers that draft
    max_ngram: int | None = None  # n-gram arms: longest and shortest suffix looked up
    min_ngram: int | None = None
    ngram_pick: NgramPick = NgramPick.EARLIEST
    past_outputs: str | None = None  # suffix arms: where earlier answers stand; None: none are used
    lossy: TypicalAcceptance | None = None  # None: verification keeps the target's distribution
    speculative_config: str | None = None  # served arms of a managed vLLM: its own JSON

    def __post_init__(self) -> None:
        if (self.method is Method.BASELINE) != (self.num_speculative_tokens == 0):
            raise ValueError(f"arm {self.name!r}: a baseline drafts nothing, other arms K >= 1")
        if (self.method is Method.DRAFT_MODEL) != (self.draft is not None):
            raise ValueError(f"arm {self.name!r}: exactly the draft-model arms name a draft")
        sizes_given = self.max_ngram is not None and self.min_ngram is not None
        if (self.method is Method.NGRAM) != sizes_given:
            raise ValueError(f"arm {self.name!r}: exactly the n-gram arms have n-gram sizes")
        if (self.method is Method.EARLY_EXIT) != (self.exit_layer is not None):
            raise ValueError(f"arm {self.name!r}: exactly the early-exit arms have an exit layer")
        if (self.method is Method.MEDUSA) != (self.heads is not None):
            raise ValueError(f"arm {self.name!r}: exactly the medusa arms name heads")
        self._refuse_stray_settings()

    def _refuse_stray_settings(self) -> None:
        if self.tree is not None and self.method is not Method.MEDUSA:
            raise ValueError(f"arm {self.name!r}: only medusa arms draft trees")
        if self.tree is not None and self.tree.num_nodes != self.num_speculative_tokens:
            raise ValueError(f"arm {self.name!r}: K is the tree's number of nodes")
        if self.past_outputs is not None and self.method is not Method.SUFFIX:
            raise ValueError(f"arm {self.name!r}: only suffix arms look up past outputs")
        if self.speculative_config is not None and self.method is not Method.SERVED:
            raise ValueError(f"arm {self.name!r}: only served arms have an engine's own settings")
        if self.lossy and self.is_baseline:
            raise ValueError(f"arm {self.name!r}: a baseline verifies nothing")

    @property
    def is_baseline(self) -> bool:
        return self.method is Method.BASELINE

    @property
    def draft_depth(self) -> int:
        """The most drafts of a block that can be kept."""
        return self.num_speculative_tokens if self.tree is None else self.tree.depth

    def at(self, num_speculative_tokens: int) -> Self:
        """The arm of this candidate at one K.

        >>> Arm(name="ngram", method=Method.NGRAM, num_speculative_tokens=32, max_ngram=4,
        ...     min_ngram=2).at(4).name
        'ngram k=4'
        """
        return replace(
            self,
            name=f"{self.name} k={num_speculative_tokens}",
            num_speculative_tokens=num_speculative_tokens,
        )


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

    def __str__(self) -> str:
        """How the target picks tokens.

        >>> str(Sampling(temperature=0.7, top_p=0.9))
        'temperature 0.7, top-p 0.9'
        """
        if self.is_greedy:
            return "greedy"
        limits = [("top-k", self.top_k), ("top-p", self.top_p)]
        said = [f"{name} {value:g}" for name, value in limits if value is not None]
        return ", ".join([f"temperature {self.temperature:g}", *said])


GREEDY = Sampling()


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSettings:
    """How one prompt is decoded: the plan's settings, with what the prompt itself asks for."""

    sampling: Sampling = GREEDY
    max_new_tokens: int = 128
    stop: tuple[str, ...] = ()  # texts that end the answer
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """How models are loaded; the same for target and drafts."""

    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: str = "auto"  # auto: float32 on a CPU, the checkpoint's own elsewhere
    attn: str | None = None  # attn_implementation; None leaves it to transformers
    device_map: str | None = None  # "auto" spreads the target over several GPUs
    num_threads: int | None = None  # None: as many free cores as make the target faster
    graphs: bool = True  # on a GPU, capture passes once and launch them whole where that works
    allow_pickle: bool = False
    trust_remote_code: bool = False


class AnswerCheck(StrEnum):
    """How an answer is compared with a prompt's references."""

    EXACT = "exact"  # the same text, but for white space at its ends
    CONTAINS = "contains"  # a reference stands in the answer
    NUMBER = "number"  # the last number is the reference's
    PYTHON_TESTS = "python-tests"  # the reference's assertions pass when run after the answer

    @property
    def runs_code(self) -> bool:
        """Whether it runs what a model wrote."""
        return self is AnswerCheck.PYTHON_TESTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that fixes a run but the prompts."""

    target: str
    arms: tuple[Arm, ...]  # baseline first
    sampling: Sampling = GREEDY
    max_new_tokens: int = 128
    num_repeats: int = 1
    seed: int = 0
    ignore_eos: bool = False
    use_asked_sampling: bool = True  # rows that ask for a temperature, a stop, … get it
    include_text: bool = False
    answer_check: AnswerCheck | None = None  # None: answers are not graded
    options: ModelOptions = ModelOptions()
    serving: Serving | None = None  # None: decoded in this process, one request at a time

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"two arms share a name: {names}")
        if not self.arms or not self.arms[0].is_baseline:
            raise ValueError("the first arm is the baseline")
        if self.max_new_tokens < 1 or self.num_repeats < 1:
            raise ValueError("max_new_tokens and num_repeats are at least 1")

    def settings_for(self, asked: AskedSampling) -> DecodeSettings:
        """What a row asks for, the plan for what it leaves open; never more tokens than planned."""
        if not self.use_asked_sampling:
            asked = AskedSampling()
        temperature = self.sampling.temperature if asked.temperature is None else asked.temperature
        is_greedy = temperature == 0
        return DecodeSettings(
            sampling=Sampling(
                temperature=temperature,
                top_k=None if is_greedy else asked.top_k or self.sampling.top_k,
                top_p=None if is_greedy else asked.top_p or self.sampling.top_p,
            ),
            max_new_tokens=min(self.max_new_tokens, asked.max_tokens or self.max_new_tokens),
            stop=asked.stop,
            seed=self.seed if asked.seed is None else asked.seed,
        )

    @property
    def speculative_arms(self) -> tuple[Arm, ...]:
        return tuple(arm for arm in self.arms if not arm.is_baseline)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TrialKey:
    """One prompt's turn, decoded once by one arm, on a server at one load."""

    prompt_id: str
    turn: int
    repeat: int
    arm: str
    load: Load | None = None  # None: in process
