"""What a replay predicts for every candidate at every K, and how far to trust it."""

from dataclasses import dataclass, field

from specmeasure.records.estimates import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthPrediction:
    """One candidate at one K, over all prompts."""

    num_speculative_tokens: int
    mean_acceptance_length: Estimate
    draft_acceptance_rate: Estimate
    tokens_per_target_pass: Estimate  # the prefill and passes without drafts among them
    acceptance_survival: tuple[Estimate, ...]  # by draft position
    conditional_acceptance: tuple[Estimate, ...]
    geometric_length: float | None  # τ by Leviathan's eq. 1 from one rate; None: no drafts
    decode_speedup: Estimate  # predicted at the table's costs
    tokens_per_pass: float  # prefill excluded
    break_even_tokens_per_pass: float  # that make the speedup 1 at these costs
    break_even_length: float | None  # τ likewise; None: no drafts
    break_even_acceptance: float | None  # accepted / drafted likewise; above 1: out of reach
    flops_ratio: float  # floating point operations per emitted token, the baseline's = 1

    @property
    def speedup(self) -> float:
        """Predicted over all prompts; known even where they are too few for an interval."""
        return self.tokens_per_pass / self.break_even_tokens_per_pass


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthChoice:
    """The K that a candidate would be run with, and what choosing it is worth."""

    best: int
    indistinguishable: tuple[int, ...]  # Ks whose speedup is not told from the best's, with it
    chosen_by_half: tuple[int, int]  # on one half of the prompts, to be valued on the other
    cross_fitted_speedup: Estimate  # of those choices, each on the half that did not choose
    oracle_gain: float  # most that a K of its own for every prompt would gain: 0.02 is 2 %


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePart:
    """Part of the answers' tokens, and how the candidate drafts there."""

    axis: str  # "token class", "place in the answer", "target entropy"
    name: str
    share_of_tokens: float  # of those with drafts
    share_of_rejections: float | None  # None: nothing is rejected
    acceptance: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """Why a candidate is rejected where it is."""

    acceptance: Estimate  # mean chance over all positions: the one rate of the geometric formula
    autocorrelation: Estimate  # of acceptance at neighbouring tokens, around the pooled mean
    autocorrelation_within: Estimate  # around each prompt's own mean
    coverage: Estimate  # share of tokens at which it has a draft at all
    parts: tuple[FailurePart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePrediction:
    """One candidate at its best K on one slice of the traffic."""

    axis: str
    name: str
    num_prompts: int
    decode_speedup: Estimate
    mean_acceptance_length: Estimate
    draft_acceptance_rate: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidatePrediction:
    """One candidate at every K."""

    name: str
    lengths: tuple[LengthPrediction, ...]  # K = 1, 2, …
    choice: LengthChoice
    disagreement: Disagreement
    slices: tuple[SlicePrediction, ...]  # at the best K
    extra_memory_bytes: float  # weights, and the cache of the longest answer

    @property
    def best(self) -> LengthPrediction:
        """At the K that was chosen."""
        return self.lengths[self.choice.best - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLine:
    """The target's costs at one context length, in units of one plain step."""

    context_length: int
    step_s: float
    verify_ratios: tuple[float, ...]  # v(K), K = 0, 1, …


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Everything that a replay predicts."""

    num_prompts: int
    num_answers: int
    num_tokens: int
    candidates: tuple[CandidatePrediction, ...]  # fastest first
    costs: tuple[CostLine, ...]
    draft_ratios: dict[str, float]  # c: one draft token / one plain step, by candidate
    num_cost_rounds: int
    seed: int  # of the halves
    # v(K) at its best K of a candidate that the target verifies otherwise than the others'
    verify_ratios: dict[str, float] = field(default_factory=dict)
