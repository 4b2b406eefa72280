"""What is known of an arm's drafts, from blocks recorded here or from what its server tells.

Each quantity takes the best source that answers for all: the requests, else the server's counters
of whole windows, whose sums are the sums of their requests. What no source tells is not measured,
and never 0.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from specmeasure.estimate import acceptance
from specmeasure.estimate.counts import num_drafted_blocks
from specmeasure.estimate.intervals import Floats, Intervals
from specmeasure.estimate.positions import CountRows, by_position
from specmeasure.estimate.trials import Rows, strata_of
from specmeasure.records.estimates import Estimate, Unmeasured
from specmeasure.records.trace import DraftCounts, TrialRecord

SILENT = Unmeasured(reason="the server tells nothing of its drafts")
NO_BLOCKS = Unmeasured(reason="the server does not count the blocks that its drafts came in")
NOT_OURS = Unmeasured(reason="the server's counters are not those of this run's requests alone")
NO_POSITIONS = Unmeasured(reason="the server does not tell which positions were accepted")
NOT_BY_REQUEST = Unmeasured(reason="the server does not tell the drafts of single requests")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafting:
    """How an arm's drafts fared."""

    draft_acceptance_rate: Estimate
    mean_acceptance_length: Estimate
    tokens_per_target_pass: Estimate
    acceptance_survival: tuple[Estimate, ...]
    conditional_acceptance: tuple[Estimate, ...]


def drafting(
    rows: Sequence[Sequence[TrialRecord]],  # by cluster
    most_drafts: int,  # K
    intervals: Intervals,
    *,
    counters: Sequence[DraftCounts] | None = None,
) -> Drafting:
    """The best that rows of one arm's trials, or else its server's counters, can say.

    ``counters`` are those of windows that are the arm's own: None: the server has none, empty: they
    cannot be used.

    Raises:
        InsufficientEvidence: a trial's blocks do not add up to its tokens.
    """
    if _are_served(rows):
        return _served(rows, most_drafts, intervals, counters)
    counts = acceptance.count_acceptance(rows, most_drafts)
    strata = strata_of(rows)
    return Drafting(
        draft_acceptance_rate=acceptance.draft_acceptance_rate(counts, intervals, strata=strata),
        mean_acceptance_length=acceptance.mean_acceptance_length(counts, intervals, strata=strata),
        tokens_per_target_pass=acceptance.tokens_per_target_pass(counts, intervals, strata=strata),
        acceptance_survival=tuple(acceptance.acceptance_survival(counts, intervals, strata=strata)),
        conditional_acceptance=tuple(
            acceptance.conditional_acceptance(counts, intervals, strata=strata)
        ),
    )


def rate_and_length(
    rows: Sequence[Sequence[TrialRecord]], intervals: Intervals
) -> tuple[Estimate, Estimate]:
    """The acceptance rate and τ of some of an arm's trials, which windows do not tell apart."""
    if not _are_served(rows):
        own, strata = Rows.of(rows), strata_of(rows)
        acceptance.refuse_uneven_sums(own.flat)
        counted = own.table.block_sums
        num_accepted = own.sums(counted.num_accepted)
        return (
            intervals.rate(num_accepted, own.sums(counted.num_drafted), strata=strata),
            acceptance.length(
                num_accepted, own.sums(counted.num_drafted_blocks), intervals, strata=strata
            ),
        )
    requests = _told_by_requests(rows)
    if requests is None:
        return NOT_BY_REQUEST, NOT_BY_REQUEST
    return _rate(requests, intervals), _length([requests], intervals) or NO_BLOCKS


def _are_served(rows: Sequence[Sequence[TrialRecord]]) -> bool:
    return Rows.of(rows).flat.are_served


def _served(
    rows: Sequence[Sequence[TrialRecord]],
    most_drafts: int,
    intervals: Intervals,
    counters: Sequence[DraftCounts] | None,
) -> Drafting:
    requests = _told_by_requests(rows)
    sources = [requests] if requests is not None else []
    if counters:
        sources.append([[one] for one in counters])
    unusable = NOT_OURS if counters is not None and not counters else None
    if not sources:
        return _all_unmeasured(unusable or SILENT, most_drafts)
    survival, conditional = (
        by_position(curve, sources, most_drafts, intervals)
        or (unusable or NO_POSITIONS,) * most_drafts
        for curve in (acceptance.survival_curve, acceptance.conditional_curve)
    )
    return Drafting(
        draft_acceptance_rate=_rate(sources[0], intervals),
        mean_acceptance_length=_length(sources, intervals) or unusable or NO_BLOCKS,
        tokens_per_target_pass=(
            NOT_BY_REQUEST if requests is None else _tokens_per_pass(rows, most_drafts, intervals)
        ),
        acceptance_survival=survival,
        conditional_acceptance=conditional,
    )


def _all_unmeasured(why: Unmeasured, most_drafts: int) -> Drafting:
    return Drafting(
        draft_acceptance_rate=why,
        mean_acceptance_length=why,
        tokens_per_target_pass=why,
        acceptance_survival=(why,) * most_drafts,
        conditional_acceptance=(why,) * most_drafts,
    )


def _told_by_requests(rows: Sequence[Sequence[TrialRecord]]) -> CountRows | None:
    """The counts of every request; None: the server does not tell them."""
    told = [[trial.counts for trial in row if trial.counts is not None] for row in rows]
    complete = all(len(own) == len(row) for own, row in zip(told, rows, strict=True))
    return told if complete else None


def _rate(rows: CountRows, intervals: Intervals) -> Estimate:
    return intervals.rate(
        _sums(rows, lambda counts: counts.num_accepted_tokens),
        _sums(rows, lambda counts: counts.num_draft_tokens),
    )


def _length(sources: Sequence[CountRows], intervals: Intervals) -> Estimate | None:
    """τ by the first source that counts blocks; None: none does."""
    known = (rows for rows in sources if all(_has_blocks(one) for row in rows for one in row))
    rows = next(known, None)
    if rows is None:
        return None
    return acceptance.length(
        _sums(rows, lambda counts: counts.num_accepted_tokens),
        _sums(rows, lambda counts: num_drafted_blocks(counts) or 0),
        intervals,
    )


def _has_blocks(counts: DraftCounts) -> bool:
    return num_drafted_blocks(counts) is not None


def _tokens_per_pass(
    rows: Sequence[Sequence[TrialRecord]], most_drafts: int, intervals: Intervals
) -> Estimate:
    """Emitted tokens over passes, of which servers count those with drafts alone.

    Every pass emits its accepted drafts and one token, so there were emitted − accepted of them;
    not fewer than the drafted blocks and the prefill, where a last block was cut after the count.
    As many passes without drafts as that block lost tokens can be missed, at most K a request.
    """
    emitted = [sum(trial.num_emitted_tokens or 0 for trial in row) for row in rows]
    passes = [sum(_num_passes(trial, most_drafts) for trial in row) for row in rows]
    return intervals.ratio(np.array(emitted, dtype=float), np.array(passes, dtype=float))


def _num_passes(trial: TrialRecord, most_drafts: int) -> int:
    counts = trial.counts
    if counts is None:
        return 0
    num_blocks = num_drafted_blocks(counts)
    if num_blocks is None:
        num_blocks = math.ceil(counts.num_draft_tokens / most_drafts)  # at least
    by_tokens = (trial.num_emitted_tokens or 0) - counts.num_accepted_tokens
    return max(by_tokens, 1 + num_blocks)


def _sums(rows: CountRows, number_of: Callable[[DraftCounts], int]) -> Floats:
    return np.array([sum(map(number_of, row)) for row in rows], dtype=np.float64)
