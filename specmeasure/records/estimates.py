"""What the trace says, with intervals; and what it cannot say, with the reason."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its confidence interval over prompts."""

    value: float
    low: float
    high: float
    level: float  # 0.95, or more where several looks were corrected for
    num_prompts: int  # clusters behind it

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value} is outside [{self.low}, {self.high}]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmeasured:
    """A quantity that this trace cannot answer for."""

    reason: str


Estimate = Interval | Unmeasured


@dataclass(frozen=True, slots=True, kw_only=True)
class Losslessness:
    """The greedy audit of one arm, counted in trials and tokens."""

    num_trials: int  # audited; 0 where a greedy run lost all its audits
    num_identical: int
    num_near_tie: int
    num_divergent: int
    num_checked_tokens: int
    num_differing_from_baseline: int  # trials whose ids are not the baseline arm's
    worst_delta: float | None  # logits; of divergent trials, or else of near-ties; None: no suspect
    worst_noise: float | None  # at the same token
    divergent_prompts: tuple[str, ...]  # "prompt/turn at token i", at most 10
    num_sampled: int = 0  # answers that were drawn by chance and cannot be audited one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Where an arm's decode time goes, in units of one baseline target step.

    speedup = tokens_per_pass / break_even_tokens_per_pass, and the latter is verify_ratio +
    drafts per pass · draft_ratio + overhead_ratio; with fewer tokens per pass the arm is slower.
    """

    target_step_s: float  # seconds of one baseline pass, one row
    draft_ratio: float | None  # c: one draft token / target step; None without drafts
    verify_ratio: float  # v: mean target pass, those without drafts among them / target step
    overhead_ratio: float  # o: time outside draft and verify, per pass / target step
    overhead_share: float  # of decode time
    tokens_per_pass: float  # prefill excluded
    break_even_tokens_per_pass: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceEstimates:
    """One arm on one slice of the traffic."""

    axis: str  # category, source, language, length, turn, sampling or a field of the user's
    name: str
    num_prompts: int
    decode_speedup: Estimate  # at its Holm level over all slices and arms
    mean_acceptance_length: Estimate
    draft_acceptance_rate: Estimate
    # at a level that holds for all slices and arms against any threshold (Bonferroni)
    decode_speedup_corrected: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmEstimates:
    """Everything estimated for one arm."""

    name: str
    num_speculative_tokens: int
    num_prompts: int
    num_trials: int  # recorded
    num_failed_trials: int
    num_planned_trials: int
    num_emitted_tokens: int
    ttft_s: Estimate  # median over prompts of the mean over their trials
    tpot_s: Estimate  # Σ decode seconds / Σ (tokens − 1)
    memory_bytes: int | None  # weights and the largest cache of a trial
    # None for baseline arms:
    extra_memory_bytes: int | None = None
    draft_acceptance_rate: Estimate | None = None
    mean_acceptance_length: Estimate | None = None
    tokens_per_target_pass: Estimate | None = None
    acceptance_survival: tuple[Estimate, ...] = ()  # by draft position
    conditional_acceptance: tuple[Estimate, ...] = ()
    decode_speedup: Estimate | None = None  # Σ baseline decode time / Σ this arm's
    decode_speedup_corrected: Estimate | None = None  # at a level corrected for the arms tried
    end_to_end_speedup: Estimate | None = None
    median_prompt_speedup: Estimate | None = None
    share_slower: Estimate | None = None  # of prompts, decode time above the baseline's
    slices: tuple[SliceEstimates, ...] = ()
    losslessness: Losslessness | Unmeasured | None = None
    costs: Costs | Unmeasured | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimates:
    """Everything estimated from one trace."""

    num_prompts: int
    num_planned_trials: int
    num_recorded_trials: int
    noise_floor: Estimate  # baseline over baseline A/A decode time; 1.00 on a quiet machine
    baseline: ArmEstimates
    arms: tuple[ArmEstimates, ...]  # speculative arms
    num_resamples: int  # of the medians
    seed: int
