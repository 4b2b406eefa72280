"""How many prompts a decision needs, and what that rests on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSpread:
    """How far prompts lie apart in what they say about the decode speedup.

    Relative standard deviations of one prompt's share in the ratio of sums: between prompts, and
    within a prompt from repeat to repeat (timing noise).
    """

    between: float
    within: float
    num_pilot_prompts: int | None  # None: assumed, not measured

    def __post_init__(self) -> None:
        if self.between < 0 or self.within < 0:
            raise ValueError(f"a spread is below 0: {self.between}, {self.within}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a measurement should be able to tell."""

    effect: float  # 0.05: a true speedup 5 % above (or below) the threshold is told from it
    power: float  # with this chance
    level: float = 0.95
    num_arms: int = 1
    min_prompts: int = 20  # of the policy
    each_slice: bool = False  # in every category too


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePlan:
    """One category in the plan."""

    name: str
    num_in_corpus: int
    num_planned: int
    detectable_effect: float | None  # alone, among all slices looked at; None: too few prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotCost:
    """What one prompt took over all arms, once; auditing and loading are not in it."""

    seconds: float  # TTFT and decoding
    num_prompt_tokens: float
    num_emitted_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementPlan:
    """Prompts and repeats for a wish, and what they cost."""

    wish: Wish
    spread: PromptSpread
    num_needed: int  # prompts, at the planned repeats, whether or not the corpus has them
    num_prompts: int
    num_repeats: int
    num_in_corpus: int
    detectable_effect: float | None  # with the planned prompts and repeats
    slices: tuple[SlicePlan, ...]
    cost: PilotCost | None  # of a prompt; None: nothing was run

    @property
    def is_enough(self) -> bool:
        """Whether the corpus has the prompts that the wish needs."""
        return self.num_prompts >= self.num_needed
