"""What the trace says, with intervals; and what it cannot say, with the reason."""

import math
from dataclasses import dataclass


def percent(level: float) -> str:
    """A confidence level below 1 in percent, with two digits of its error where it has them.

    >>> [percent(one) for one in (0.95, 0.9916667, 0.99921, 0.999999)]
    ['95', '99.17', '99.921', '99.9999']
    """
    digits = max(1, math.ceil(-math.log10(1 - level)) - 1)
    return f"{100 * level:.{digits}f}".rstrip("0").removesuffix(".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its confidence interval over prompts."""

    value: float
    low: float
    high: float
    level: float  # 0.95, or more where several looks were corrected for
    num_clusters: int  # behind it
    cluster: str = "prompt"  # or "window": prompts that were sent together to a server

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value} is outside [{self.low}, {self.high}]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmeasured:
    """A quantity that this trace cannot answer for."""

    reason: str


Estimate = Interval | Unmeasured


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """What a user waits, over requests; intervals over prompts."""

    p50: Estimate
    p95: Estimate
    p99: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class NearTie:
    """A token whose rival scored within rounding noise."""

    place: str  # "prompt, turn 1, token 17"
    delta: float  # logits
    noise: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstDivergence:
    """Where an arm's answer first left the baseline's."""

    place: str  # "prompt, turn 1, token 17"
    token_id: int | None  # None: the answer ended there
    baseline_token_id: int | None
    gap: float | None  # logits between the two; None: an answer ended
    noise: float | None  # at the same place


@dataclass(frozen=True, slots=True, kw_only=True)
class Losslessness:
    """The greedy audit of one arm, counted in trials and tokens."""

    num_trials: int  # audited; 0 where a greedy run lost all its audits
    num_identical: int
    num_near_tie: int
    num_divergent: int
    num_checked_tokens: int
    num_differing_from_baseline: int  # of those compared, answers that are not the baseline arm's
    worst_delta: float | None  # logits; of divergent trials, or else of near-ties; None: no suspect
    worst_noise: float | None  # at the same token
    divergent_prompts: tuple[str, ...]  # "prompt/turn at token i", at most 10
    near_ties: tuple[NearTie, ...] = ()  # largest first, at most 10
    first_divergences: tuple[FirstDivergence, ...] = ()  # likewise by gap
    num_sampled: int = 0  # answers that were drawn by chance: see SampledLosslessness
    num_compared: int = 0  # greedy answers, audited or not, that were laid beside the baseline's
    compared_as_text: bool = False  # True: a server gives no ids, and of texts tokens can differ


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledLosslessness:
    """Do an arm's sampled tokens follow the target's own distribution?

    Each test is exact given the text before each token, so tokens count one by one. ``p_value`` is
    the smallest of the tests', corrected for their number (Holm); small is bad.
    """

    num_trials: int
    num_tokens: int
    num_impossible: int  # tokens without a chance under the target
    p_uniform: float  # randomised PIT against the uniform (Kolmogorov-Smirnov)
    p_baseline: float | None  # against the baseline arm's PIT; None: there is none
    p_surprise: float  # mean of −log p against the target's entropy
    p_pull: float | None  # towards the draft, one-sided; None: no draft's law is known
    p_value: float
    excess_nats: float  # per token, of surprise; 0 in expectation
    pull_share: float | None  # ε̂: the share of the draft's law in the emitted tokens; 0 if lossless
    detectable_share: float | None  # ε found with a chance of 80 % by so many tokens
    detectable_acceptance: float | None  # the same as acceptance beyond the lossless rule's


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How far a lossy arm's tokens are from the target's own."""

    num_tokens: int
    nats_per_token: Estimate  # greedy: log p of the best token − of the emitted; else surprise
    changed_share: Estimate  # of tokens that greedy decoding would not have picked


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Graded answers of an arm beside the baseline's to the same prompts."""

    check: str  # exact, contains, number, python-tests
    num_answers: int
    baseline: Estimate  # share of right answers
    arm: Estimate
    difference: Estimate  # arm − baseline, paired by prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedStep:
    """A lasting change of the machine's pace, in every arm alike."""

    cycle: int  # the first at the new pace, from 0
    ratio: float  # new seconds per token / old; above 1 the machine became slower


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """A trial whose pace is not explained by its arm, its cycle or its acceptance."""

    place: str  # "prompt, turn 1, draft k=4"
    ratio: float  # its seconds per pass / what its arm and cycle make usual


@dataclass(frozen=True, slots=True, kw_only=True)
class Steadiness:
    """How the machine's pace went over the run; nothing is removed for it.

    A cycle is one prompt's turn in one repeat: all arms back to back. Of several workers each has
    its own pace, whose median is 1; their cycles follow one another.
    """

    pace: tuple[float, ...]  # by cycle in order of time: median over arms, 1 is the run's median
    steps: tuple[SpeedStep, ...]
    outliers: tuple[Outlier, ...]  # largest first, at most 10
    num_outliers: int
    num_slow_cycles: int = 0  # far slower than the median for all arms alike, lasting or not
    worker_starts: tuple[int, ...] = ()  # the first cycle of each worker after the first one's


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdedArm:
    """How often other work crowded one arm's trials."""

    name: str
    num_trials: int  # around which it was looked for
    crowded_share: float | None  # of them; None: there are none


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdedTrials:
    """What other work did to the run; nothing is removed for it.

    A trial is crowded where other work and the run's threads wanted more than the cores and half a
    one, or where something waited for a core more than a tenth of its time.
    """

    num_trials: int  # around which other work was looked for
    crowded_share: float  # of them
    num_cores: int | None  # None: workers differ
    other_cores: float | None  # kept busy by others in crowded trials, on average; None: not told
    stalled_share: float | None  # of their time, in which something waited for a core; likewise
    arms: tuple[CrowdedArm, ...]
    p_value: float | None  # of arms crowded alike (Cochran's Q); None: too few cycles differ
    crowded_noise_floor: Estimate  # A/A over contexts where either trial was crowded
    quiet_noise_floor: Estimate  # A/A over the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """The look at which a sequential run stopped, and what its intervals paid for looking."""

    look: int  # from 1
    num_looks: int  # planned
    num_prompts: int  # at this look
    max_prompts: int  # at the last
    level: float  # of every interval at this look (Lan–DeMets, O'Brien–Fleming spending)


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
class Textbook:
    """An arm's decode speedup by Leviathan et al. (2023), and with what the formula leaves out.

    What the last of these differs by from the measured speedup is acceptance that is not alike
    everywhere, and passes with fewer than K drafts.
    """

    acceptance: Interval  # α: accepted / judged drafts, all positions pooled
    tokens_per_pass: float  # (1 − α^(K+1)) / (1 − α)
    decode_speedup: float  # that / (cK + 1)
    speedup_with_verification: float  # that / (cK + v)
    speedup_with_overhead: float  # that / (cK + v + o)


WORKER_AXIS = "worker"  # tells machines apart, not traffic: no rule and no advice goes by it


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceEstimates:
    """One arm on one slice of the traffic."""

    axis: str  # category, source, language, length, turn, sampling, worker or a field of the user's
    name: str
    num_prompts: int
    decode_speedup: Estimate  # at its Holm level over all slices and arms
    mean_acceptance_length: Estimate
    draft_acceptance_rate: Estimate
    # at a level that holds for all slices and arms against any threshold (Bonferroni)
    decode_speedup_corrected: Estimate | None = None

    @property
    def is_of_traffic(self) -> bool:
        """Whether it holds some of the prompts; that a worker measured them is no kind of them."""
        return self.axis != WORKER_AXIS


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
    ttft_quantiles: Quantiles | Unmeasured | None = None  # seconds
    tpot_quantiles: Quantiles | Unmeasured | None = None  # seconds, a request's own mean
    end_to_end_quantiles: Quantiles | Unmeasured | None = None  # seconds
    sampled_losslessness: SampledLosslessness | Unmeasured | None = None  # None: nothing sampled
    accuracy: Accuracy | Unmeasured | None = None  # None: answers were not graded
    capture_s: float | None = None  # Σ before its trials, in no other time; None: no graphs made
    # None for baseline arms:
    extra_memory_bytes: int | None = None
    peak_memory_bytes: int | None = None  # in process: the device allocator's, or the process's
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
    prompt_speedups: tuple[float, ...] = ()  # rising; of more than 2,001 as many, at even ranks
    num_prompt_speedups: int = 0  # prompts that were timed: behind the line above
    slices: tuple[SliceEstimates, ...] = ()
    losslessness: Losslessness | Unmeasured | None = None
    drift: Drift | Unmeasured | None = None  # of lossy arms
    costs: Costs | Unmeasured | None = None
    textbook: Textbook | Unmeasured | None = None
    chance_of_workers: float | None = None  # that speedups differ so much by worker; None: one


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """The fastest strict arm of one way to draft."""

    name: str  # "draft model", "heads", "early exit" or "lookup"
    arm: str
    num_arms: int  # of this way, strict ones
    decode_speedup: Estimate  # corrected for all arms tried
    lead: Estimate | None  # the fastest way's speedup / this one's; None: this is the fastest
    extra_memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimates:
    """Everything estimated from one trace."""

    num_prompts: int
    num_planned_trials: int
    num_recorded_trials: int
    num_void_trials: int = 0  # not among these: measured again, since their worker had died
    noise_floor: Estimate  # baseline over baseline A/A decode time; 1.00 on a quiet machine
    baseline: ArmEstimates
    arms: tuple[ArmEstimates, ...]  # speculative arms
    steadiness: Steadiness | Unmeasured | None = None
    crowding: CrowdedTrials | Unmeasured | None = None
    stopping: Stopping | None = None  # None: a run of a fixed size
    ways: tuple[Way, ...] = ()  # fastest first; empty where the run tried fewer than two
    num_resamples: int  # of the medians
    seed: int
