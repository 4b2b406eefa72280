"""How often heads are right, what they weigh and what one pass of them takes.

A head is judged wherever a block can start and the answer goes on as far as it drafts, whether or
not a block would start there; its rank of the true token was recorded. Answers that were sampled
count as they are: their tokens are often not the target's likeliest.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.prediction import predict
from specmeasure.estimate.replay import Whole
from specmeasure.estimate.traffic import Slice, traffic_of
from specmeasure.records.costs import CostTable
from specmeasure.records.heads import (
    HeadAccuracy,
    HeadsMemory,
    HeadsProfile,
    RoundSpread,
    SliceAccuracy,
)
from specmeasure.records.plan import Arm, Method
from specmeasure.records.prediction import Predictions
from specmeasure.records.replay import HeadScores, ReplayTrace

MOST_CHOICES = 10  # accuracies are looked at from a head's likeliest token to its ten likeliest


def profile_heads(
    trace: ReplayTrace,
    intervals: Intervals,
    *,
    predictions: Predictions | None = None,
    seed: int = 0,
) -> tuple[HeadsProfile, ...]:
    """Every set of heads that a replay recorded, in the plan's order.

    Args:
        trace: the replay.
        intervals: how they are made; those of slices at a level that holds for all of them.
        predictions: of the same trace, where they are known already.
        seed: of the halves that K is chosen on.

    Raises:
        InsufficientEvidence: it holds no heads, no answer, or no answer longer than one token.
    """
    arms = heads_arms(trace)
    if not arms:
        raise InsufficientEvidence(
            "the replay has no heads among its candidates: record some with specmeasure heads "
            "profile."
        )
    predicted = predictions or predict(trace, intervals, seed=seed)
    return tuple(_profile(trace, arm, predicted, intervals) for arm in arms)


def heads_arms(trace: ReplayTrace) -> list[Arm]:
    """The candidates of a replay that draft by heads."""
    arms = trace.manifest.request.request.plan.speculative_arms
    return [arm for arm in arms if arm.method is Method.MEDUSA]


def head_accuracies(
    ranks: Whole,  # [N, H] -1: not judged
    prompts: Whole,  # [N] the number of each place's prompt, from 0
    intervals: Intervals,
) -> tuple[HeadAccuracy, ...]:
    """Shares of places whose token is among a head's 1, 2, …, 10 likeliest.

    Formula: Σ places with rank < k / Σ judged places, prompts as clusters.
    """
    return tuple(
        _accuracy(head, ranks[:, head], prompts, intervals) for head in range(ranks.shape[1])
    )


def read_ranks(scores: Sequence[object]) -> tuple[Whole, Whole]:
    """Ranks [N, H] of all answers where blocks can start, and the number of each one's answer [N].

    Raises:
        InsufficientEvidence: scores are not those of heads.
    """
    heads = [one for one in scores if isinstance(one, HeadScores)]
    if not heads or len(heads) < len(scores):
        raise InsufficientEvidence("no ranks of heads were recorded for this candidate.")
    ranks = [np.array(one.rank, dtype=np.intp).reshape(-1, one.num_heads)[1:] for one in heads]
    return np.concatenate(ranks), np.repeat(np.arange(len(ranks)), [len(one) for one in ranks])


def pass_ratio(table: CostTable, candidate: str, num_heads: int) -> RoundSpread:
    """All heads once / a plain step, at the middle context; the next larger block that was timed.

    Fewer drafts than there are heads cost less: then what was timed of the most is told.
    """
    middle = len(table.context_lengths) // 2
    place = min(bisect_left(table.num_drafts, num_heads), len(table.num_drafts) - 1)
    ratios = [
        one.drafts[candidate].draft_s[middle][place] / one.step_s[middle]
        for one in table.rounds
        if candidate in one.drafts
    ]
    return RoundSpread(
        value=float(np.median(ratios)),
        low=float(min(ratios)),
        high=float(max(ratios)),
        num_rounds=len(ratios),
    )


def _profile(
    trace: ReplayTrace, arm: Arm, predicted: Predictions, intervals: Intervals
) -> HeadsProfile:
    traffic = traffic_of(trace.answers)
    ranks, answers = read_ranks(trace.scores[arm.name])
    facts = next(one for one in trace.candidates if one.name == arm.name)
    sizes = [model.num_parameters for model in facts.models]
    return HeadsProfile(
        name=arm.name,
        heads=arm.heads or arm.name,
        num_prompts=predicted.num_prompts,
        num_answers=predicted.num_answers,
        num_tokens=predicted.num_tokens,
        accuracy=head_accuracies(ranks, traffic.prompts[answers], intervals),
        slices=tuple(_slices(ranks, answers, traffic.slices, intervals)),
        memory=HeadsMemory(
            num_parameters=sum(sizes) if sizes else None,
            num_bytes=facts.model_bytes,
            target_bytes=trace.recording.target_bytes,
        ),
        pass_ratio=pass_ratio(trace.costs, arm.name, ranks.shape[1]),
        context_length=trace.costs.context_lengths[len(trace.costs.context_lengths) // 2],
        chain=next(one for one in predicted.candidates if one.name == arm.name),
    )


def _slices(
    ranks: Whole, answers: Whole, slices: Sequence[Slice], intervals: Intervals
) -> Iterator[SliceAccuracy]:
    """At a level that holds for one column of numbers: all slices and heads (Bonferroni)."""
    looks = intervals.corrected(len(slices) * ranks.shape[1])
    for one in slices:
        numbers = np.full(int(answers.max(initial=0)) + 1, -1, dtype=np.intp)
        inside = one.answers < len(numbers)
        numbers[one.answers[inside]] = one.prompts[inside]
        prompts = numbers[answers]
        own = prompts >= 0
        yield SliceAccuracy(
            axis=one.axis,
            name=one.name,
            num_prompts=int(one.prompts.max()) + 1,
            heads=head_accuracies(ranks[own], prompts[own], looks),
        )


def _accuracy(head: int, rank: Whole, prompts: Whole, intervals: Intervals) -> HeadAccuracy:
    num_prompts = int(prompts.max(initial=-1)) + 1

    def by_prompt(flags: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.bincount(prompts[flags], minlength=num_prompts).astype(np.float64)

    judged = by_prompt(rank >= 0)
    return HeadAccuracy(
        head=head + 1,
        num_places=int(judged.sum()),
        top=tuple(
            intervals.rate(by_prompt((rank >= 0) & (rank < choices)), judged)
            for choices in range(1, MOST_CHOICES + 1)
        ),
    )
