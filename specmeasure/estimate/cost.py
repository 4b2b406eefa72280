"""What answers would take at a table's costs: seconds, predicted speedups, break-even.

A block of d drafts at a context of L tokens takes verify(d + 1, L) + draft(d, L) + overhead(L)
seconds; without drafts it drafts for nothing. Between what was timed lie straight lines, along L
and along rows and drafts; shorter and longer contexts cost what the nearest timed one does, and
more rows or drafts than were timed go on as the last two, though never cheaper than the last.

Rounds of a table are resampled for the error of its medians. It is independent of the prompts'
error, so that the variances add up. Prefills are left out, the draft model's own among them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.acceptance import AcceptanceCounts
from specmeasure.estimate.intervals import Floats, Intervals, Spread
from specmeasure.estimate.replay import Blocks, Whole, find_blocks
from specmeasure.records.costs import CostTable
from specmeasure.records.estimates import Unmeasured
from specmeasure.records.prediction import CostLine
from specmeasure.records.replay import Answer, CandidateFacts, CandidateScores

NUM_RESAMPLES = 200  # of a table's rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCosts:
    """One candidate's seconds at a table's context lengths [C].

    The first of R rows are medians over the table's rounds; the others, medians over as many
    rounds drawn with replacement. A table of one round has no others.
    """

    context_lengths: Floats  # [C]
    step_s: Floats  # [R, C] the plain loop's time per token
    block_s: Floats  # [R, C, D] a block of D = 0, 1, …, K drafts
    num_rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CostError:
    """The error of a logarithm of seconds that comes from timing a table in few rounds."""

    variance: float
    num_rounds: int

    @classmethod
    def of(cls, resampled: Floats, num_rounds: int) -> "CostError":
        """The spread of [R − 1] resampled values; none of one round, whose error is not known.

        The median of two is a mean, and its resampled variance half of what it should be. Of three
        to nine rounds it is a sixth to a third too large.
        """
        scale = 2 if num_rounds == 2 else 1
        return cls(
            variance=scale * float(resampled.var()) if resampled.size else 0.0,
            num_rounds=num_rounds,
        )

    def added_to(self, found: Spread, *, scale: float = 1.0) -> Spread:
        """Both errors; ``scale`` is the derivative of what was found by that logarithm."""
        return found.with_error(self.variance * scale**2, self.num_rounds - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What answers [A] take at every K after their first tokens.

    Parts [P] are sums over some of the answers, the first of them over all.
    """

    baseline_s: Floats  # [A] at the medians
    speculative_s: Floats  # [A, K] at the medians
    part_baseline_s: Floats  # [P, R] at every row of the costs
    part_speculative_s: Floats  # [P, K, R]
    num_rounds: int

    def cost_error(self, num_speculative_tokens: int, part: int = 0) -> CostError:
        """Of the logarithm of one part's speedup at one K."""
        speculative_s = self.part_speculative_s[part, num_speculative_tokens - 1, 1:]
        return CostError.of(np.log(self.part_baseline_s[part, 1:] / speculative_s), self.num_rounds)


class RoundMedians:
    """Medians over a table's rounds, then over as many drawn with replacement, time after time.

    The same seed draws the same rounds for whatever was timed in them.
    """

    def __init__(self, num_rounds: int, *, seed: int) -> None:
        num_resamples = NUM_RESAMPLES if num_rounds > 1 else 0
        drawn = np.random.default_rng(seed).integers(num_rounds, size=(num_resamples, num_rounds))
        self._rows = np.vstack([np.arange(num_rounds), drawn])

    def __call__(self, cells: Sequence[object]) -> Floats:
        """[rounds, …] → [R, …]."""
        return np.asarray(np.median(np.array(cells, dtype=np.float64)[self._rows], axis=1))


def block_costs(table: CostTable, candidate: str, most: int, *, seed: int) -> BlockCosts:
    """Interpolate the table's medians for 0 … ``most`` drafts, and those of resampled rounds.

    Raises:
        InsufficientEvidence: the table does not time the candidate, or one size of block only.
    """
    rounds = [(one, one.drafts[candidate]) for one in table.rounds if candidate in one.drafts]
    if not rounds:
        known = ", ".join(table.rounds[0].drafts) or "none"
        raise InsufficientEvidence(
            f"the costs of {table.machine} hold no draft times of {candidate!r}, only of: {known}. "
            "Add it to the table, or measure the costs with this candidate."
        )
    if len(table.num_rows) == 1:
        raise InsufficientEvidence(
            f"the costs of {table.machine} time target passes of one row alone; what it takes to "
            "verify drafts is not known. Add passes of more rows."
        )
    medians = RoundMedians(len(rounds), seed=seed)
    verify_s = medians([draft.verify_s or one.verify_s for one, draft in rounds])
    draft_s = medians([draft.draft_s for _, draft in rounds])
    overhead_s = medians([draft.overhead_s for _, draft in rounds])
    drafts = np.arange(most + 1)
    from_none = np.pad(draft_s, ((0, 0), (0, 0), (1, 0)))
    return BlockCosts(
        context_lengths=np.array(table.context_lengths, dtype=np.float64),
        step_s=medians([one.step_s for one, _ in rounds]),
        block_s=(
            interpolate(verify_s, table.num_rows, drafts + 1)
            + interpolate(from_none, (0, *table.num_drafts), drafts)
            + overhead_s[:, :, None]
        ),
        num_rounds=len(rounds),
    )


def spend(
    answers: Sequence[Answer],
    scores: Sequence[CandidateScores],
    costs: BlockCosts,
    parts: Floats,  # [P, A] 1 where an answer belongs to a part; to the first all do
) -> Spending:
    """Seconds of one candidate's replay at K = 1, … as far as the costs go."""
    num_answers, most = len(answers), costs.block_s.shape[2] - 1
    num_prompt_tokens = np.array([answer.num_prompt_tokens for answer in answers])
    baseline_s, speculative_s = np.zeros(num_answers), np.zeros((num_answers, most))
    steps = np.zeros((len(parts), costs.step_s.shape[1]))  # [P, C]
    used = np.zeros((len(parts), *costs.block_s.shape[1:], most))  # [P, C, D, K]
    for blocks in find_blocks(answers, scores, most):
        own = blocks.answers
        own_steps, own_used = _use(blocks, num_prompt_tokens[own], costs.context_lengths)
        baseline_s[own] = own_steps @ costs.step_s[0]
        speculative_s[own] = np.einsum("acdk,cd->ak", own_used, costs.block_s[0])
        steps += parts[:, own] @ own_steps
        used += np.tensordot(parts[:, own], own_used, axes=1)
    return Spending(
        baseline_s=baseline_s,
        speculative_s=speculative_s,
        part_baseline_s=steps @ costs.step_s.T,
        part_speculative_s=np.tensordot(used, costs.block_s, axes=([1, 2], [1, 2])),
        num_rounds=costs.num_rounds,
    )


def speedup_spread(
    baseline_s: Floats,  # [n] by prompt
    speculative_s: Floats,  # [n]
    cost_error: CostError,
    intervals: Intervals,
) -> Spread | Unmeasured:
    """How many times faster the prompts decode, with the prompts' and the table's errors.

    Formula: Σ baseline seconds / Σ speculative seconds
    """
    counted = baseline_s > 0
    if not counted.any():
        return Unmeasured(reason="no answer is longer than one token")
    found = intervals.spread(np.divide, baseline_s[counted], speculative_s[counted])
    if isinstance(found, Unmeasured):
        return found
    return cost_error.added_to(found, scale=found.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """What a K would have to reach at the costs of its passes for a speedup of 1.

    Formulas, without prefills: tokens per pass = (speculative seconds / passes) / (baseline seconds
    / tokens); accepted' = accepted + (that − tokens / passes) · passes; τ = 1 + accepted' / drafted
    blocks; draft acceptance = accepted' / drafted. The speedup is above 1 exactly where what the
    replay found is above these.
    """

    tokens_per_pass: float
    length: float | None  # τ; None: nothing is drafted
    acceptance: float | None  # above 1: out of reach

    @classmethod
    def of(cls, counts: AcceptanceCounts, num_answers: int, seconds_ratio: float) -> "BreakEven":
        """``seconds_ratio`` is the speculative seconds of the answers / the baseline's."""
        num_tokens, num_passes = decoded(counts, num_answers)
        needed_tokens = num_tokens * seconds_ratio
        accepted = float(counts.num_accepted.sum()) + needed_tokens - num_tokens
        num_blocks, num_drafted = counts.num_drafted_blocks.sum(), counts.num_drafted.sum()
        return cls(
            tokens_per_pass=needed_tokens / num_passes,
            length=1 + accepted / float(num_blocks) if num_blocks else None,
            acceptance=accepted / float(num_drafted) if num_drafted else None,
        )


def decoded(counts: AcceptanceCounts, num_answers: int) -> tuple[float, float]:
    """Tokens and target passes after the answers' prefills."""
    return (
        float(counts.num_emitted.sum()) - num_answers,
        float(counts.num_passes.sum()) - num_answers,
    )


def flops_ratio(
    counts: AcceptanceCounts, num_answers: int, facts: CandidateFacts, target_flops: float
) -> float:
    """Floating point operations per token after the prefills, the baseline's being 1.

    Formula: (Σ over passes of (d + 1) · target's + d · draft's) / (tokens · target's)
    """
    num_tokens, num_passes = decoded(counts, num_answers)
    num_drafted = float(counts.num_drafted.sum())
    draft_flops = num_drafted * facts.num_flops_per_draft
    return (num_passes + num_drafted + draft_flops / target_flops) / num_tokens


def cost_lines(table: CostTable, most: int) -> tuple[CostLine, ...]:
    """The table's own medians, in units of a plain step, for 0 … ``most`` drafts."""
    step_s = np.median([one.step_s for one in table.rounds], axis=0)
    verify_s = np.median([one.verify_s for one in table.rounds], axis=0)
    ratios = interpolate(verify_s, table.num_rows, np.arange(1, most + 2)) / step_s[:, None]
    return tuple(
        CostLine(context_length=length, step_s=float(step), verify_ratios=tuple(map(float, row)))
        for length, step, row in zip(table.context_lengths, step_s, ratios, strict=True)
    )


def draft_ratio(table: CostTable, candidate: str) -> float:
    """One draft of the longest block that was timed / a plain step, at the middle context."""
    middle = len(table.context_lengths) // 2
    rounds = [one for one in table.rounds if candidate in one.drafts]
    draft_s = np.median([one.drafts[candidate].draft_s[middle][-1] for one in rounds])
    step_s = np.median([one.step_s[middle] for one in rounds])
    return float(draft_s / table.num_drafts[-1] / step_s)


def own_verify_ratio(table: CostTable, candidate: str, num_drafts: int) -> float | None:
    """Verifying so many of a candidate's drafts / a plain step, at the middle context.

    None: its drafts are verified as any others are.
    """
    middle = len(table.context_lengths) // 2
    timed = [(one, one.drafts[candidate]) for one in table.rounds if candidate in one.drafts]
    own = [(one.step_s[middle], draft.verify_s[middle]) for one, draft in timed if draft.verify_s]
    if not own:
        return None
    step_s = np.median([step for step, _ in own])
    verify_s = np.median([row for _, row in own], axis=0)
    found = interpolate(verify_s, table.num_rows, np.array([num_drafts + 1]))
    return float(found[0] / step_s)


def interpolate(
    values: Floats,  # [..., axis]
    axis: Sequence[int],  # rising, two or more
    points: Whole,  # [n] none below the axis
) -> Floats:
    """Straight lines through ``values``, the last of them going on, though never down: [..., n]."""
    known = np.asarray(axis, dtype=np.float64)
    left = np.clip(np.searchsorted(known, points, side="right") - 1, 0, len(known) - 2)
    share = (points - known[left]) / (known[left + 1] - known[left])
    found = values[..., left] * (1 - share) + values[..., left + 1] * share
    return np.where(points > known[-1], np.maximum(found, values[..., -1:]), found)


def _use(
    blocks: Blocks, num_prompt_tokens: Whole, context_lengths: Floats
) -> tuple[Floats, Floats]:
    """How much of every timed cost the answers use: [A, C] of steps, [A, C, D, K] of blocks.

    A block that starts at t with its context between two timed ones uses a share of each.
    """
    num_answers, width, most = blocks.starts.shape
    num_contexts = len(context_lengths)
    places = np.arange(width)
    context = num_prompt_tokens[:, None] + places
    nearest = np.interp(context, context_lengths, np.arange(num_contexts))  # flat outside
    left = np.minimum(nearest.astype(np.intp), max(0, num_contexts - 2))
    right = np.minimum(left + 1, num_contexts - 1)

    answer = np.arange(num_answers)[:, None]
    cells = [(answer * num_contexts + c) * (most + 1) + blocks.most_drafts for c in (left, right)]
    shares = [1 - (nearest - left), nearest - left]
    position = np.arange(num_answers * width)
    to_cells = sparse.csr_array(
        (np.ravel(shares), (np.ravel(cells), np.tile(position, 2))),
        shape=(num_answers * num_contexts * (most + 1), len(position)),
    )
    shape = (num_answers, num_contexts, most + 1)
    decoding = (places > 0) & (places < blocks.num_tokens[:, None])
    steps = (to_cells @ decoding.ravel().astype(np.float64)).reshape(shape).sum(axis=2)
    used = (to_cells @ blocks.starts.reshape(-1, most)).reshape(*shape, most)
    return steps, _cut_to_lengths(used)


def _cut_to_lengths(used: Floats) -> Floats:
    """From blocks by the most drafts they could have, [A, C, D, K], to those they have at K."""
    num_drafts, lengths = np.ogrid[: used.shape[2], 1 : used.shape[3] + 1]
    at_least = used[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]
    return np.where(num_drafts < lengths, used, np.where(num_drafts == lengths, at_least, 0.0))
