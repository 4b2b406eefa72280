"""Acceptance from counts over blocks: rates, lengths, and the curve by draft position.

Where several workers measured, ``strata`` is the worker of each cluster, [n].

Positions have their own denominators, because K varies and blocks cut by EOS say nothing of the
drafts behind it. Of trees a position is a depth: the siblings that were tried there are one draft,
kept if one of them was. The module knows nothing of time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.intervals import Floats, Intervals
from specmeasure.estimate.strata import Strata
from specmeasure.estimate.trials import Rows, Trials
from specmeasure.records.estimates import Estimate, Unmeasured
from specmeasure.records.trace import TrialRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptanceCounts:
    """Counts per prompt, as [n] or [n, K] arrays."""

    num_accepted: Floats
    num_drafted: Floats  # of trees the nodes
    num_drafted_blocks: Floats
    num_emitted: Floats
    num_passes: Floats
    num_reached: Floats  # [n, K] blocks that kept i drafts and had a judged draft i + 1
    num_kept: Floats  # [n, K] of those, the blocks that kept it


def count_acceptance(
    rows: Sequence[Sequence[TrialRecord]], num_speculative_tokens: int
) -> AcceptanceCounts:
    """Count one arm's blocks, cluster by cluster.

    Args:
        rows: trials of one arm.
        num_speculative_tokens: the most drafts of a block that can be kept; of trees their depth.

    Raises:
        InsufficientEvidence: a trial's blocks do not add up to its tokens.
    """
    own = Rows.of(rows)
    refuse_uneven_sums(own.flat)
    counted = own.table.block_sums
    return AcceptanceCounts(
        num_accepted=own.sums(counted.num_accepted),
        num_drafted=own.sums(counted.num_drafted),
        num_drafted_blocks=own.sums(counted.num_drafted_blocks),
        num_emitted=own.sums(counted.num_emitted),
        num_passes=own.sums(counted.num_passes),
        num_reached=_up_to(own.sums(counted.num_reached), num_speculative_tokens),
        num_kept=_up_to(own.sums(counted.num_kept), num_speculative_tokens),
    )


def _up_to(counts: Floats, num_positions: int) -> Floats:
    """The first positions of counts [n, K]; those that no block came to are 0."""
    missing = max(0, num_positions - counts.shape[1])
    return np.pad(counts[:, :num_positions], ((0, 0), (0, missing)))


def mean_acceptance_length(
    counts: AcceptanceCounts, intervals: Intervals, *, strata: Strata | None = None
) -> Estimate:
    """Tokens per drafted block (τ), every block weighing the same.

    Formula: τ = 1 + Σ num_accepted_tokens / number of drafted blocks
    """
    return length(counts.num_accepted, counts.num_drafted_blocks, intervals, strata=strata)


def length(
    num_accepted: Floats,
    num_drafted_blocks: Floats,
    intervals: Intervals,
    *,
    strata: Strata | None = None,
) -> Estimate:
    """The same from sums by cluster, [n] each."""
    per_block = intervals.ratio(num_accepted, num_drafted_blocks, strata=strata)
    if isinstance(per_block, Unmeasured):
        return per_block
    return replace(
        per_block, value=1 + per_block.value, low=1 + per_block.low, high=1 + per_block.high
    )


def draft_acceptance_rate(
    counts: AcceptanceCounts, intervals: Intervals, *, strata: Strata | None = None
) -> Estimate:
    """Accepted / drafted; drafts behind an EOS count as drafted, as engines count them.

    Of trees accepted / nodes, most of which could not have been kept beside each other.
    """
    return intervals.rate(counts.num_accepted, counts.num_drafted, strata=strata)


def tokens_per_target_pass(
    counts: AcceptanceCounts, intervals: Intervals, *, strata: Strata | None = None
) -> Estimate:
    """Emitted tokens / all target passes, the prefill and passes without drafts among them."""
    return intervals.ratio(counts.num_emitted, counts.num_passes, strata=strata)


def conditional_acceptance(
    counts: AcceptanceCounts, intervals: Intervals, *, strata: Strata | None = None
) -> list[Estimate]:
    """Of the blocks that kept i drafts and had one more, the share that kept it, by i."""
    return conditional_curve(counts.num_kept, counts.num_reached, intervals, strata=strata)


def conditional_curve(
    kept: Floats, reached: Floats, intervals: Intervals, *, strata: Strata | None = None
) -> list[Estimate]:
    """The same from sums by cluster, [n, K] each."""
    return [
        intervals.rate(kept[:, i], reached[:, i], strata=strata) for i in range(reached.shape[1])
    ]


def acceptance_survival(
    counts: AcceptanceCounts, intervals: Intervals, *, strata: Strata | None = None
) -> list[Estimate]:
    """Of all drafted blocks, the share that kept at least i + 1 drafts, by i.

    Formula: Π over j ≤ i of conditional_acceptance[j] (Kaplan and Meier 1958: blocks cut by EOS,
    or given fewer drafts by the budget, are right-censored). Σ survival = τ − 1 where none is.
    """
    return survival_curve(counts.num_kept, counts.num_reached, intervals, strata=strata)


def survival_curve(
    kept: Floats, reached: Floats, intervals: Intervals, *, strata: Strata | None = None
) -> list[Estimate]:
    """The same from sums by cluster, [n, K] each."""
    curve: list[Estimate] = []
    for i in range(reached.shape[1]):
        if not reached[:, i].any():
            curve.append(Unmeasured(reason=f"no block had a judged draft {i + 1}"))
            continue
        pairs = [column[:, j] for j in range(i + 1) for column in (kept, reached)]
        curve.append(intervals.hedged(intervals.smooth(_product_of_ratios, *pairs, strata=strata)))
    return curve


def _product_of_ratios(*pairs: Floats) -> Floats:
    """Π Σ kept / Σ reached; where a position is never reached the curve before it is 0 already."""
    kept, reached = np.array(pairs[::2]), np.array(pairs[1::2])
    ratios = np.divide(kept, reached, out=np.zeros_like(kept), where=reached > 0)
    return np.asarray(ratios.prod(axis=0))


def refuse_uneven_sums(trials: Sequence[TrialRecord]) -> None:
    """Emitted = accepted + passes, less the cut ones; and what the trials say they emitted.

    Raises:
        InsufficientEvidence: it is not so in one of them, or a server answered it.
    """
    own = Trials.of(trials)
    table = own.table
    for place in own.places[table.is_served[own.places]][:1].tolist():
        raise InsufficientEvidence(
            f"trial {table.records[place].key}: a server answered it, and it has no blocks of its "
            "own; only runs in process can be looked at block by block."
        )
    for place in own.places[table.is_uneven[own.places]][:1].tolist():
        trial = table.records[place]
        raise InsufficientEvidence(
            f"trial {trial.key}: its blocks emitted {table.block_sums.num_emitted[place]} tokens, "
            f"the trial says {trial.num_emitted_tokens}; the trace is not to be trusted."
        )
