"""What servers did under rising load, with intervals over windows."""

from dataclasses import dataclass

from specmeasure.records.estimates import Estimate, Estimates
from specmeasure.records.serving import Load, Slo


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmUnderLoad:
    """One arm at one load; what it shares with any run stands in ``LoadPoint.estimates``."""

    name: str
    tokens_per_s: Estimate  # Σ emitted tokens / Σ window seconds
    goodput: Estimate | None  # requests/s that keep to the SLO; None: no SLO was stated
    slo_share: Estimate | None  # of requests that keep to it, failed ones counted as missing it
    mean_in_flight: float | None  # requests, over its windows; None: nothing was recorded
    num_retries: int
    num_in_one_piece: int  # answers whose stream came at once: decode time and TTFT are unknown
    # None for the baseline arms:
    throughput_ratio: Estimate | None = None  # its tokens/s over the baseline's, paired by group
    goodput_ratio: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPoint:
    """One load, measured."""

    load: Load
    estimates: Estimates  # as of a run of its own
    baseline: ArmUnderLoad
    arms: tuple[ArmUnderLoad, ...]  # speculative arms, in the order of ``estimates.arms``


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossover:
    """Where an arm stops paying as concurrency rises, by the interval of its decode speedup.

    Exactly one of three: it pays at every measured concurrency (``ends_at`` None), at none
    (``pays_up_to`` None), or up to one and no longer from the next.
    """

    arm: str
    pays_up_to: int | None  # the highest concurrency below which, and at which, it is faster
    ends_at: int | None  # the first measured one whose interval holds 1, or lies below


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSizes:
    """The best K of one candidate by the number of requests in flight.

    vLLM's ``num_speculative_tokens_per_batch_size``; K = 0 where the baseline was not slower.
    """

    candidate: str
    ranges: tuple[tuple[int, int, int], ...]  # first, last number of requests, K


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadCurve:
    """The points, lightest load first, and what they say together."""

    points: tuple[LoadPoint, ...]
    slo: Slo | None
    crossovers: tuple[Crossover, ...]  # by arm; none where fewer than two concurrencies were run
    batch_sizes: tuple[BatchSizes, ...]  # of candidates that were run at several K
    foreign_share: float | None  # of the tokens that servers counted, not asked for by this run
