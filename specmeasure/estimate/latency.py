"""Wall-clock times, paired by cluster: speedups, TTFT, TPOT, and where the time goes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specmeasure.estimate.intervals import Floats, Intervals, Spread
from specmeasure.estimate.quantiles import quantile
from specmeasure.estimate.strata import Strata
from specmeasure.estimate.trials import Rows, Trials, strata_of
from specmeasure.records.estimates import Costs, Estimate, Unmeasured
from specmeasure.records.trace import TrialRecord

Ints = NDArray[np.int64]
MOST_LISTED = 2_001  # prompts' speedups that estimates hold
NOTHING_TIMED = Unmeasured(reason="each answer, or the baseline's to it, arrived in one piece")


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """One arm's times per cluster, [n] each."""

    decode_s: Floats
    num_decoded: Floats  # tokens after each trial's first
    total_s: Floats  # TTFT + decode
    num_emitted: Floats
    ttft_s: Floats  # mean over the cluster's trials
    stratum: Strata | None = None  # the worker; None: all are alike


def times(rows: Sequence[Sequence[TrialRecord]]) -> Times:
    """Sum up one arm's trials cluster by cluster; none of them failed."""
    own = Rows.of(rows)
    table = own.table
    return Times(
        decode_s=own.sums(table.decode_s),
        num_decoded=own.sums(table.num_emitted - 1),
        total_s=own.sums(table.decode_s + table.ttft_s),
        num_emitted=own.sums(table.num_emitted),
        ttft_s=own.sums(table.ttft_s) / own.sizes,
        stratum=strata_of(own),
    )


def decode_speedup(baseline: Times, arm: Times, intervals: Intervals) -> Estimate:
    """How many times faster the arm decodes the same prompts; above 1 speculation wins.

    Formula: (Σ baseline seconds / Σ baseline tokens) / (Σ arm seconds / Σ arm tokens), which is
    the ratio of decode times where both emitted the same tokens. First tokens are not counted.
    """
    found = decode_spread(baseline, arm, intervals)
    return intervals.around(found) if isinstance(found, Spread) else found


def decode_spread(baseline: Times, arm: Times, intervals: Intervals) -> Spread | Unmeasured:
    """The decode speedup before a confidence level is chosen."""
    return _spread(
        (baseline.num_decoded, baseline.decode_s, arm.num_decoded, arm.decode_s),
        arm.stratum,
        intervals,
    )


def end_to_end_speedup(baseline: Times, arm: Times, intervals: Intervals) -> Estimate:
    """The same ratio over whole requests: both prefills and the first token included."""
    found = _spread(
        (baseline.num_emitted, baseline.total_s, arm.num_emitted, arm.total_s),
        arm.stratum,
        intervals,
    )
    return intervals.around(found) if isinstance(found, Spread) else found


def median_prompt_speedup(
    baseline: Times,
    arm: Times,
    intervals: Intervals,
    windows: Ints | None = None,  # [n] the window of each prompt; None: each stands alone
) -> Estimate:
    """The middle prompt's decode speedup, of times by prompt."""
    speedups = _speedup_by_prompt(baseline, arm)
    if windows is None:
        return intervals.median(speedups)
    return quantile(speedups, windows[_both_decoded(baseline, arm)], 0.5, intervals)


def prompt_speedups(baseline: Times, arm: Times) -> Floats:
    """Every prompt's decode speedup [n], slowest first; which prompt is not told."""
    return np.sort(_speedup_by_prompt(baseline, arm))


def thinned(ordered: Floats) -> tuple[float, ...]:
    """All of them, or of more than ``MOST_LISTED`` as many at even ranks, both ends among them."""
    if len(ordered) > MOST_LISTED:
        ranks = np.linspace(0, len(ordered) - 1, MOST_LISTED).round().astype(np.int64)
        ordered = ordered[ranks]
    return tuple(ordered.tolist())


def share_slower(
    baseline: Times,
    arm: Times,
    intervals: Intervals,
    windows: Ints | None = None,  # [n] the window of each prompt; None: each stands alone
) -> Estimate:
    """The share of prompts that decode slower with the arm, of times by prompt."""
    is_slower = _speedup_by_prompt(baseline, arm) < 1
    if windows is None:
        return intervals.share(is_slower)
    own = windows[_both_decoded(baseline, arm)]
    slower, all_own = (
        np.asarray(np.bincount(own, weights=weights), dtype=np.float64)
        for weights in (is_slower, np.ones(len(own)))
    )
    return intervals.rate(slower, all_own)


def tpot(arm: Times, intervals: Intervals) -> Estimate:
    """Seconds per output token after the first. Formula: Σ decode_s / Σ (tokens − 1)."""
    return intervals.ratio(arm.decode_s, arm.num_decoded, strata=arm.stratum)


def costs(baseline: Sequence[TrialRecord], arm: Sequence[TrialRecord]) -> Costs | Unmeasured:
    """Decode time per target pass, split, in units of one baseline step; prefill excluded.

    Formula: break-even = v + c · drafts per pass + o; speedup = tokens per pass / break-even.
    """
    if Trials.of(arm).are_served:
        return Unmeasured(reason="a server does not time its passes")
    base = _PassTotals.of(baseline)
    spent = _PassTotals.of(arm)
    if not base.num_tokens or not spent.num_passes:
        return Unmeasured(reason="no answer was longer than one token")
    step = base.decode_s / base.num_tokens
    draft_s = spent.draft_s if spent.num_drafts else 0.0  # fruitless look-ups are overhead
    overhead_s = spent.decode_s - draft_s - spent.verify_s
    return Costs(
        target_step_s=step,
        draft_ratio=spent.draft_s / spent.num_drafts / step if spent.num_drafts else None,
        verify_ratio=spent.verify_s / spent.num_passes / step,
        overhead_ratio=overhead_s / spent.num_passes / step,
        overhead_share=overhead_s / spent.decode_s,
        tokens_per_pass=spent.num_tokens / spent.num_passes,
        break_even_tokens_per_pass=spent.decode_s / spent.num_passes / step,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _PassTotals:
    decode_s: float
    draft_s: float
    verify_s: float
    num_passes: int
    num_drafts: int
    num_tokens: int

    @classmethod
    def of(cls, trials: Sequence[TrialRecord]) -> "_PassTotals":
        own = Trials.of(trials)
        table, longer = own.table, own.places[own.table.num_emitted[own.places] > 1]
        blocks = table.block_sums
        return cls(
            decode_s=float(table.decode_s[longer].sum()),
            draft_s=float(blocks.later_draft_s[longer].sum()),
            verify_s=float(blocks.later_verify_s[longer].sum()),
            num_passes=int((blocks.num_passes[longer] - 1).clip(0).sum()),
            num_drafts=int(blocks.num_later_drafted[longer].sum()),
            num_tokens=int(blocks.num_later_emitted[longer].sum()),
        )


def _spread(
    arrays: tuple[Floats, Floats, Floats, Floats], strata: Strata | None, intervals: Intervals
) -> Spread | Unmeasured:
    """Prompts weigh by the arm's seconds: a few long answers may be most of them."""
    base_tokens, _, arm_tokens, _ = arrays
    if not len(base_tokens):
        return NOTHING_TIMED
    counted = (base_tokens > 0) & (arm_tokens > 0)
    if not counted.any():
        return Unmeasured(reason="no answer was longer than one token")
    return intervals.spread(
        _seconds_per_token_ratio,
        *(one[counted] for one in arrays),
        strata=None if strata is None else strata[counted],
    )


def _seconds_per_token_ratio(
    base_tokens: Floats, base_s: Floats, arm_tokens: Floats, arm_s: Floats
) -> Floats:
    return (base_s / base_tokens) / (arm_s / arm_tokens)


def _speedup_by_prompt(baseline: Times, arm: Times) -> Floats:
    counted = _both_decoded(baseline, arm)
    return np.asarray(
        (baseline.decode_s[counted] / baseline.num_decoded[counted])
        / (arm.decode_s[counted] / arm.num_decoded[counted])
    )


def _both_decoded(baseline: Times, arm: Times) -> NDArray[np.bool_]:
    return (baseline.num_decoded > 0) & (arm.num_decoded > 0)
