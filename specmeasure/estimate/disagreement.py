"""Why a candidate is rejected where it is, and what one rate for all tokens would predict.

Looks at every token after the first as if a draft for it were judged, whatever K would let it be;
of a lookup or of heads, at the first draft of every block that they could begin. Token 1 is the
prefill's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specmeasure.estimate.intervals import ROUNDING, Floats, Intervals, Spread
from specmeasure.estimate.replay import Whole
from specmeasure.records.estimates import Estimate, Unmeasured
from specmeasure.records.prediction import Disagreement, FailurePart
from specmeasure.records.replay import (
    TOKEN_CLASSES,
    CandidateScores,
    DraftScores,
    HeadScores,
    TargetScores,
)

_PLACES = (16, 64, 256)  # the token before which a part of the answer ends, from 0
_PLACE_NAMES = ("tokens 2–16", "tokens 17–64", "tokens 65–256", "tokens 257 and later")
_ENTROPIES = (0.1, 0.5, 1.0, 2.0)  # nats
_ENTROPY_NAMES = ("under 0.1 nats", "0.1–0.5 nats", "0.5–1 nats", "1–2 nats", "2 nats and more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Tokens after the first, [N], answer by answer."""

    chance: Floats  # that a draft for it is accepted; 0 where there is none
    has_draft: NDArray[np.bool_]
    place: Whole  # in the answer, from 1
    prompt: Whole  # the number of its prompt
    token_class: Whole
    entropy: Floats  # the target's, nats
    num_prompts: int

    def by_prompt(self, weights: Floats) -> Floats:
        """[N] summed to [prompts]."""
        sums = np.bincount(self.prompt, weights, minlength=self.num_prompts)
        return np.asarray(sums, dtype=np.float64)


def judge(
    scores: Sequence[CandidateScores], target: Sequence[TargetScores], prompts: Whole
) -> Judged:
    """Lay all answers end to end."""
    firsts = [_first_drafts(one) for one in scores]
    return Judged(
        chance=np.concatenate([chance[1:] for chance, _ in firsts]),
        has_draft=np.concatenate([has_draft[1:] for _, has_draft in firsts]),
        place=np.concatenate([np.arange(1, len(one.entropy)) for one in target]),
        prompt=np.repeat(prompts, [len(one.entropy) - 1 for one in target]),
        token_class=np.concatenate([np.array(one.token_class)[1:] for one in target]),
        entropy=np.concatenate([np.array(one.entropy)[1:] for one in target]),
        num_prompts=int(prompts.max()) + 1,
    )


def find_disagreement(judged: Judged, intervals: Intervals) -> Disagreement:
    """Everything that is told of one candidate."""
    drafted = judged.has_draft.astype(np.float64)
    pooled, within = _autocorrelations(judged, intervals)
    # a draft model always has one, and that is no finding
    coverage = intervals.ratio if judged.has_draft.all() else intervals.rate
    return Disagreement(
        acceptance=intervals.rate(judged.by_prompt(judged.chance), judged.by_prompt(drafted)),
        autocorrelation=pooled,
        autocorrelation_within=within,
        coverage=coverage(judged.by_prompt(drafted), judged.by_prompt(np.ones(drafted.shape))),
        parts=tuple(_failure_parts(judged, intervals)),
    )


def geometric_length(judged: Judged, num_speculative_tokens: int) -> float | None:
    """τ if every draft were accepted alike; None where there are no drafts.

    Formula: (1 − α^(K + 1)) / (1 − α), α the mean acceptance chance (Leviathan et al. 2023,
    arXiv:2211.17192, eq. 1)
    """
    num_drafts = int(judged.has_draft.sum())
    if not num_drafts:
        return None
    rate = float(judged.chance.sum()) / num_drafts
    return float(np.power(rate, np.arange(num_speculative_tokens + 1)).sum())


def _first_drafts(scores: CandidateScores) -> tuple[Floats, NDArray[np.bool_]]:
    """Acceptance and presence [T] of the first draft of a block at every token."""
    if isinstance(scores, DraftScores):
        chance = np.array(scores.accept_chance, dtype=np.float64)
        return chance, np.ones(len(chance), dtype=np.bool_)
    if isinstance(scores, HeadScores):
        ranks = np.array(scores.rank).reshape(-1, scores.num_heads)[:, 0]
        chance = np.array(scores.accept_chance).reshape(ranks.size, -1)[:, 0]
        return chance.astype(np.float64), ranks >= 0
    has_draft = np.array(scores.num_drafts) > 0
    return (has_draft & (np.array(scores.num_matching) > 0)).astype(np.float64), has_draft


def _autocorrelations(judged: Judged, intervals: Intervals) -> tuple[Estimate, Estimate]:
    """Of neighbouring tokens' acceptance, around the pooled mean and around each prompt's own.

    Formula: Σ (x − μ)(y − μ) / Σ ½((x − μ)² + (y − μ)²) over neighbours x, y, with μ the mean of
    both; between −1 and 1. Around own means it is 0 less about one over the number of pairs of a
    prompt where acceptance is independent.
    """
    neighbours = judged.place[1:] == judged.place[:-1] + 1
    pair = (neighbours & judged.has_draft[1:] & judged.has_draft[:-1]).astype(np.float64)
    x, y, prompt = judged.chance[:-1], judged.chance[1:], judged.prompt[1:]
    num_pairs, sums, products, squares = (
        np.bincount(prompt, pair * one, minlength=judged.num_prompts).astype(np.float64)
        for one in (np.ones(pair.shape), (x + y) / 2, x * y, (x * x + y * y) / 2)
    )
    own = sums**2 / np.maximum(num_pairs, 1)
    counted = num_pairs > 0
    pooled, within = (
        _correlation([one[counted] for one in arrays], intervals)
        for arrays in (
            (products, squares, sums, num_pairs),
            (products - own, squares - own, np.zeros(own.shape), num_pairs),
        )
    )
    return pooled, within


def _correlation(arrays: Sequence[Floats], intervals: Intervals) -> Estimate:
    _, squares, sums, num_pairs = (one.sum() for one in arrays)
    if not num_pairs:
        return Unmeasured(reason="no two neighbouring tokens have drafts")
    if squares - sums**2 / num_pairs <= ROUNDING * num_pairs:
        return Unmeasured(reason="acceptance is the same at every token")
    found = intervals.spread(_around_the_mean, *arrays)
    return intervals.around(found, least=-1, most=1) if isinstance(found, Spread) else found


def _around_the_mean(products: Floats, squares: Floats, sums: Floats, num_pairs: Floats) -> Floats:
    """0 where one prompt alone varied, and it is left out."""
    offset = sums**2 / num_pairs
    varies = squares - offset > ROUNDING * num_pairs
    nothing = np.zeros_like(offset)
    return np.divide(products - offset, squares - offset, out=nothing, where=varies)


def _failure_parts(judged: Judged, intervals: Intervals) -> Iterator[FailurePart]:
    """Parts that have drafts, axis by axis."""
    axes: dict[str, tuple[Whole, Sequence[str]]] = {
        "token class": (judged.token_class, TOKEN_CLASSES),
        "place in the answer": (
            np.searchsorted(_PLACES, judged.place, side="right"),
            _PLACE_NAMES,
        ),
        "target entropy": (
            np.searchsorted(_ENTROPIES, judged.entropy, side="right"),
            _ENTROPY_NAMES,
        ),
    }
    drafted = judged.has_draft.astype(np.float64)
    num_drafts = drafted.sum()
    num_rejections = num_drafts - judged.chance.sum()
    for axis, (numbers, names) in axes.items():
        for number, name in enumerate(names):
            inside = numbers == number
            drafts, kept = (
                judged.by_prompt(inside * drafted),
                judged.by_prompt(inside * judged.chance),
            )
            if not drafts.any():
                continue
            rejections = drafts.sum() - kept.sum()
            yield FailurePart(
                axis=axis,
                name=str(name),
                share_of_tokens=float(drafts.sum() / num_drafts),
                share_of_rejections=(
                    float(rejections / num_rejections)
                    if num_rejections > ROUNDING * num_drafts
                    else None
                ),
                acceptance=intervals.rate(kept, drafts),
            )
