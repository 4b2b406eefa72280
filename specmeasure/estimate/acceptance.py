"""Acceptance from counts over blocks: rates, lengths, and the curve by draft position.

Positions have their own denominators, because K varies and blocks cut by EOS say nothing of the
drafts behind it. Of trees a position is a depth: the siblings that were tried there are one draft,
kept if one of them was. The module knows nothing of time.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.intervals import Floats, Intervals
from specmeasure.records.estimates import Estimate, Unmeasured
from specmeasure.records.trace import BlockRecord, TrialRecord


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
    trials_by_prompt: Sequence[Sequence[TrialRecord]], num_speculative_tokens: int
) -> AcceptanceCounts:
    """Count one arm's blocks, prompt by prompt.

    Args:
        trials_by_prompt: of one arm.
        num_speculative_tokens: the most drafts of a block that can be kept; of trees their depth.

    Raises:
        InsufficientEvidence: a trial's blocks do not add up to its tokens.
    """
    n, k = len(trials_by_prompt), num_speculative_tokens
    totals, reached, kept = np.zeros((n, 5)), np.zeros((n, k)), np.zeros((n, k))
    for row, trials in enumerate(trials_by_prompt):
        for trial in trials:
            refuse_uneven_sums(trial)
        alike = Counter(_COUNTED(block) for trial in trials for block in trial.blocks)
        sums, judged_up_to, kept_up_to = [0] * 5, [0] * (k + 1), [0] * (k + 1)
        for (drafted, depth, accepted, emitted), number in alike.items():
            for place, one in enumerate((accepted, drafted, drafted > 0, emitted, 1)):
                sums[place] += number * one
            most = drafted if depth is None else depth
            judged_up_to[min(k, _num_judged(most, accepted, emitted))] += number
            kept_up_to[min(k, accepted)] += number
        totals[row] = sums
        reached[row] = np.cumsum(judged_up_to[:0:-1])[::-1]
        kept[row] = np.cumsum(kept_up_to[:0:-1])[::-1]
    return AcceptanceCounts(
        num_accepted=totals[:, 0],
        num_drafted=totals[:, 1],
        num_drafted_blocks=totals[:, 2],
        num_emitted=totals[:, 3],
        num_passes=totals[:, 4],
        num_reached=reached,
        num_kept=kept,
    )


def num_judged(block: BlockRecord) -> int:
    """Drafts of a block whose fate is known: up to the first rejection, or the EOS that cut it.

    Of a tree, the depths whose fate is known.

    >>> cut = BlockRecord(num_draft_tokens=4, num_accepted_tokens=2, num_emitted_tokens=2,
    ...     context_length=9, draft_s=0.0, verify_s=0.0, truncated=True)
    >>> num_judged(cut)
    2
    """
    return _num_judged(block.most_accepted, block.num_accepted_tokens, block.num_emitted_tokens)


_EMITTED = attrgetter("num_emitted_tokens")
_COUNTED = attrgetter(
    "num_draft_tokens", "draft_depth", "num_accepted_tokens", "num_emitted_tokens"
)


def _num_judged(most_accepted: int, num_accepted: int, num_emitted: int) -> int:
    """A block that emits its accepted drafts alone was cut."""
    is_cut = num_emitted == num_accepted
    return num_accepted if is_cut else min(num_accepted + 1, most_accepted)


def mean_acceptance_length(counts: AcceptanceCounts, intervals: Intervals) -> Estimate:
    """Tokens per drafted block (τ), every block weighing the same.

    Formula: τ = 1 + Σ num_accepted_tokens / number of drafted blocks
    """
    return length(counts.num_accepted, counts.num_drafted_blocks, intervals)


def length(num_accepted: Floats, num_drafted_blocks: Floats, intervals: Intervals) -> Estimate:
    """The same from sums by cluster, [n] each."""
    per_block = intervals.ratio(num_accepted, num_drafted_blocks)
    if isinstance(per_block, Unmeasured):
        return per_block
    return replace(
        per_block, value=1 + per_block.value, low=1 + per_block.low, high=1 + per_block.high
    )


def draft_acceptance_rate(counts: AcceptanceCounts, intervals: Intervals) -> Estimate:
    """Accepted / drafted; drafts behind an EOS count as drafted, as engines count them.

    Of trees accepted / nodes, most of which could not have been kept beside each other.
    """
    return intervals.rate(counts.num_accepted, counts.num_drafted)


def tokens_per_target_pass(counts: AcceptanceCounts, intervals: Intervals) -> Estimate:
    """Emitted tokens / all target passes, the prefill and passes without drafts among them."""
    return intervals.ratio(counts.num_emitted, counts.num_passes)


def conditional_acceptance(counts: AcceptanceCounts, intervals: Intervals) -> list[Estimate]:
    """Of the blocks that kept i drafts and had one more, the share that kept it, by i."""
    return conditional_curve(counts.num_kept, counts.num_reached, intervals)


def conditional_curve(kept: Floats, reached: Floats, intervals: Intervals) -> list[Estimate]:
    """The same from sums by cluster, [n, K] each."""
    return [intervals.rate(kept[:, i], reached[:, i]) for i in range(reached.shape[1])]


def acceptance_survival(counts: AcceptanceCounts, intervals: Intervals) -> list[Estimate]:
    """Of all drafted blocks, the share that kept at least i + 1 drafts, by i.

    Formula: Π over j ≤ i of conditional_acceptance[j] (Kaplan and Meier 1958: blocks cut by EOS,
    or given fewer drafts by the budget, are right-censored). Σ survival = τ − 1 where none is.
    """
    return survival_curve(counts.num_kept, counts.num_reached, intervals)


def survival_curve(kept: Floats, reached: Floats, intervals: Intervals) -> list[Estimate]:
    """The same from sums by cluster, [n, K] each."""
    curve: list[Estimate] = []
    for i in range(reached.shape[1]):
        if not reached[:, i].any():
            curve.append(Unmeasured(reason=f"no block had a judged draft {i + 1}"))
            continue
        pairs = [column[:, j] for j in range(i + 1) for column in (kept, reached)]
        curve.append(intervals.hedged(intervals.smooth(_product_of_ratios, *pairs)))
    return curve


def _product_of_ratios(*pairs: Floats) -> Floats:
    """Π Σ kept / Σ reached; where a position is never reached the curve before it is 0 already."""
    kept, reached = np.array(pairs[::2]), np.array(pairs[1::2])
    ratios = np.divide(kept, reached, out=np.zeros_like(kept), where=reached > 0)
    return np.asarray(ratios.prod(axis=0))


def refuse_uneven_sums(trial: TrialRecord) -> None:
    """Emitted = accepted + passes, less the cut ones; and what the trial says it emitted."""
    if trial.key.load is not None:
        raise InsufficientEvidence(
            f"trial {trial.key}: a server answered it, and it has no blocks of its own; only runs "
            "in process can be looked at block by block."
        )
    emitted = sum(map(_EMITTED, trial.blocks))
    if emitted != trial.num_emitted_tokens:
        raise InsufficientEvidence(
            f"trial {trial.key}: its blocks emitted {emitted} tokens, the trial says "
            f"{trial.num_emitted_tokens}; the trace is not to be trusted."
        )
