"""What the textbook predicts from α, K and c, and the costs that it leaves out, one by one."""

from specmeasure.estimate.acceptance import AcceptanceCounts
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.strata import Strata
from specmeasure.records.estimates import Costs, Textbook, Unmeasured


def textbook(
    counts: AcceptanceCounts,
    costs: Costs | Unmeasured,
    num_speculative_tokens: int,
    intervals: Intervals,
    *,
    strata: Strata | None = None,  # [n] the worker of each cluster
) -> Textbook | Unmeasured:
    """Theorem 3.8 of Leviathan et al. (2023, arXiv:2211.17192) at the measured α and c.

    Formula: (1 − α^(K+1)) / ((1 − α)(cK + 1)), with α the accepted / the judged drafts, all
    positions pooled. It takes every draft's chance to be alike, every pass to draft K tokens,
    verifying to cost as much as a plain step, and nothing else to cost anything.
    """
    accepted = intervals.rate(
        counts.num_kept.sum(axis=1), counts.num_reached.sum(axis=1), strata=strata
    )
    if isinstance(accepted, Unmeasured):
        return accepted
    if isinstance(costs, Unmeasured):
        return costs
    if costs.draft_ratio is None:
        return Unmeasured(reason="no draft was timed")
    tokens = sum(accepted.value**i for i in range(num_speculative_tokens + 1))
    drafting = num_speculative_tokens * costs.draft_ratio
    verifying = costs.verify_ratio + drafting
    return Textbook(
        acceptance=accepted,
        tokens_per_pass=tokens,
        decode_speedup=tokens / (1 + drafting),
        speedup_with_verification=tokens / verifying,
        speedup_with_overhead=tokens / (verifying + costs.overhead_ratio),
    )
