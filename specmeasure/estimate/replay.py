"""The recurrence: what every K would draft, verify and accept, expected from one recorded pass.

An answer has the tokens 0 … T − 1, of which the prefill emits token 0. A block that starts at t ≥ 1
drafts min(K, M − t − 1) tokens of a budget of M, and the target adds its own. Let s_t be the chance
that one starts at t, and a_t the chance that a draft for t is kept, independent given the path:

    s_1 = 1,    s_{t+1} = (1 − a_t) + a_t · s_{t−K} · Π_{1≤i≤K} a_{t−i},    s_u = 0 for u < 1.

For token t is the bonus of a block that began at t − K, with the chance that is the product of s
and a's here, or else it was drafted, and then a block starts behind it where it was rejected. A
budget changes nothing: blocks that it shortens reach the end. EOS and stop texts end the path, and
cut the block that they stand in.

A lookup drafts a whole block from where it starts: its walk is followed step by step instead. So
do heads, with chances: a_{t,i}, that draft i is kept, depends on where its block started. A block
at t adds to the chance of one behind the j drafts that it keeps and the token after them

    s_t · (1 − a_{t,j}) · Π_{i<j} a_{t,i} for j < K,    s_t · Π_{i<K} a_{t,i} for j = K.

Exact for drafts that depend on the emitted tokens alone; the module knows nothing of time.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from specmeasure.estimate.acceptance import AcceptanceCounts
from specmeasure.estimate.intervals import Floats
from specmeasure.records.replay import (
    Answer,
    CandidateScores,
    DraftScores,
    HeadScores,
    LookupScores,
)

Whole = NDArray[np.intp]
_MOST_CELLS = 1 << 20  # answers x tokens x K of a batch: 8 MB an array, which caches still help
_NO_BUDGET = np.iinfo(np.intp).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Blocks that could start in a batch of answers [A], at any token [T] and K = 1, 2, … [K]."""

    answers: Whole  # [A] their places in the trace
    num_tokens: Whole  # [A]
    starts: Floats  # [A, T, K] chance that a block starts at a token
    most_drafts: Whole  # [A, T] a block that starts there has min(K, these) drafts
    reached: Floats  # [A, T, I] chance that its draft i is judged, given the block, where i < K
    kept: Floats  # [A, T, I] and that it is kept


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayCounts:
    """Expected counts [n, K] at K = 1, 2, …, of answers or of prompts, as real loops count."""

    num_accepted: Floats
    num_drafted: Floats
    num_drafted_blocks: Floats
    num_emitted: Floats
    num_passes: Floats  # the prefill among them
    num_reached: Floats  # [n, K, I] blocks that kept i drafts and had a judged draft i + 1
    num_kept: Floats  # [n, K, I] of those, the blocks that kept it

    def at(self, num_speculative_tokens: int) -> AcceptanceCounts:
        """The counts of one K."""
        k = num_speculative_tokens
        return AcceptanceCounts(
            num_accepted=self.num_accepted[:, k - 1],
            num_drafted=self.num_drafted[:, k - 1],
            num_drafted_blocks=self.num_drafted_blocks[:, k - 1],
            num_emitted=self.num_emitted[:, k - 1],
            num_passes=self.num_passes[:, k - 1],
            num_reached=self.num_reached[:, k - 1, :k],
            num_kept=self.num_kept[:, k - 1, :k],
        )

    def by_prompt(self, prompts: Whole) -> "ReplayCounts":
        """Answers summed by the number of their prompt."""
        return ReplayCounts(
            **{name: sums_by_prompt(getattr(self, name), prompts) for name in self.__slots__}
        )


def sums_by_prompt(values: Floats, prompts: Whole) -> Floats:
    """[answers, …] → [prompts, …]; ``prompts`` numbers each answer's prompt, from 0, all in use."""
    order = np.argsort(prompts, kind="stable")
    first = np.searchsorted(prompts[order], np.arange(prompts.max() + 1))
    return np.asarray(np.add.reduceat(values[order], first, axis=0), dtype=np.float64)


def count_replay(
    answers: Sequence[Answer], scores: Sequence[CandidateScores], most: int
) -> ReplayCounts:
    """One candidate's counts at K = 1, …, ``most``, answer by answer."""
    n, k = len(answers), most
    counts = ReplayCounts(
        num_accepted=np.zeros((n, k)),
        num_drafted=np.zeros((n, k)),
        num_drafted_blocks=np.zeros((n, k)),
        num_emitted=np.zeros((n, k)),
        num_passes=np.zeros((n, k)),
        num_reached=np.zeros((n, k, k)),
        num_kept=np.zeros((n, k, k)),
    )
    lengths = np.arange(1, k + 1)
    looked_at = np.tri(k)  # [K, I] drafts that a block of K can have
    for blocks in find_blocks(answers, scores, most):
        starts, own = blocks.starts, blocks.answers
        by_length = starts.transpose(0, 2, 1)  # [A, K, T]
        drafts = np.minimum(blocks.most_drafts[:, :, None], lengths)
        counts.num_reached[own] = by_length @ blocks.reached * looked_at
        counts.num_kept[own] = by_length @ blocks.kept * looked_at
        counts.num_accepted[own] = counts.num_kept[own].sum(axis=2)
        counts.num_drafted[own] = np.einsum("atk,atk->ak", starts, drafts)
        counts.num_drafted_blocks[own] = np.einsum("atk,at->ak", starts, blocks.most_drafts > 0)
        counts.num_emitted[own] = blocks.num_tokens[:, None]
        counts.num_passes[own] = 1 + starts.sum(axis=1)
    return counts


def find_blocks(
    answers: Sequence[Answer], scores: Sequence[CandidateScores], most: int
) -> Iterator[Blocks]:
    """Batches of answers alike in length, longest first, at K = 1, …, ``most``."""
    num_tokens = np.array([answer.num_tokens for answer in answers], dtype=np.intp)
    order = np.argsort(-num_tokens, kind="stable")
    while order.size:
        longest = int(num_tokens[order[0]])
        batch, order = np.split(order, [max(1, _MOST_CELLS // (longest * most))])
        yield _blocks_of([answers[i] for i in batch], [scores[i] for i in batch], most, batch)


def _blocks_of(
    answers: Sequence[Answer], scores: Sequence[CandidateScores], most: int, batch: Whole
) -> Blocks:
    num_tokens = np.array([answer.num_tokens for answer in answers], dtype=np.intp)
    budgets = np.array([answer.max_new_tokens or _NO_BUDGET for answer in answers], dtype=np.intp)
    places = np.arange(num_tokens.max())
    room: Whole = np.clip(budgets[:, None] - places - 1, 0, most)  # [A, T] drafts that fit
    inside = places < num_tokens[:, None]  # [A, T]
    match scores[0]:
        case DraftScores():
            chains = [one for one in scores if isinstance(one, DraftScores)]
            chance = _padded([one.accept_chance for one in chains], inside.shape)
            reached, kept = _chain_fates(chance, inside & (room > 0), most)
            starts = _chain_starts(kept)
        case HeadScores(num_heads=num_heads):
            heads = [one for one in scores if isinstance(one, HeadScores)]
            chances = _padded_heads(heads, (*inside.shape, most))
            reached, kept = _head_fates(chances, inside & (room > 0), num_heads)
            starts = _head_starts(kept)
            room = np.minimum(room, num_heads)
        case LookupScores():
            lookups = [one for one in scores if isinstance(one, LookupScores)]
            drafts = _padded([one.num_drafts for one in lookups], inside.shape)
            matching = _padded([one.num_matching for one in lookups], inside.shape)
            room = np.minimum(room, drafts.astype(np.intp))
            matching = np.minimum(room, matching)
            reached, kept = _lookup_fates(room, matching, inside, most)
            starts = _lookup_starts(matching, num_tokens, most)
    starts[~inside] = 0
    return Blocks(
        answers=batch,
        num_tokens=num_tokens,
        starts=starts,
        most_drafts=room,
        reached=reached,
        kept=kept,
    )


def _padded(arrays: Sequence["array[int] | array[float]"], shape: tuple[int, ...]) -> Floats:
    padded = np.zeros(shape)
    for row, one in zip(padded, arrays, strict=True):
        row[: len(one)] = one
    return padded


def _chain_fates(
    chance: Floats,  # [A, T]
    judged: NDArray[np.bool_],  # [A, T] where the path and the budget leave room for a draft
    most: int,
) -> tuple[Floats, Floats]:
    """Chances [A, T, I] that draft i of a block at t is reached, and kept."""
    ahead = ((0, 0), (0, most - 1))
    likely = np.where(judged, chance, 0.0)
    kept = np.cumprod(sliding_window_view(np.pad(likely, ahead), most, axis=1), axis=2)
    reached = sliding_window_view(np.pad(judged, ahead), most, axis=1).astype(np.float64)
    reached[:, :, 1:] *= kept[:, :, :-1]
    return reached, kept


def _chain_starts(kept: Floats) -> Floats:
    """The recurrence at all K at once; what is behind an answer's end means nothing."""
    num_answers, width, most = kept.shape
    starts = np.zeros((num_answers, width, most))
    starts[:, 1:2] = 1
    bonus = np.zeros((num_answers, width + most, most))  # chance that a token is a whole block's
    lengths = np.arange(1, most + 1)
    for t in range(1, width - 1):
        bonus[:, t + lengths, lengths - 1] = starts[:, t] * kept[:, t]
        starts[:, t + 1] = 1 - kept[:, t, :1] * (1 - bonus[:, t])
    return starts


def _padded_heads(heads: Sequence[HeadScores], shape: tuple[int, int, int]) -> Floats:
    """Acceptance chances of the first heads by the block's start: [A, T, I], 0 where none is."""
    padded = np.zeros(shape)
    for rows, one in zip(padded, heads, strict=True):
        chances = np.array(one.accept_chance).reshape(-1, one.num_heads)[:, : shape[2]]
        rows[: len(chances), : chances.shape[1]] = chances
    return padded


def _head_fates(
    chances: Floats,  # [A, T, I]
    judged: NDArray[np.bool_],  # [A, T] where the path and the budget leave room for a draft
    num_heads: int,
) -> tuple[Floats, Floats]:
    """Chances [A, T, I] that draft i of a block at t is reached, and kept."""
    most = chances.shape[2]
    ahead = sliding_window_view(np.pad(judged, ((0, 0), (0, most - 1))), most, axis=1)
    drafted = ahead & (np.arange(most) < num_heads)
    kept = np.cumprod(chances * drafted, axis=2, dtype=np.float64)
    reached = drafted.astype(np.float64)
    reached[:, :, 1:] *= kept[:, :, :-1]
    return reached, kept


def _head_starts(kept: Floats) -> Floats:
    """The sums over starts at all K at once; what is behind an answer's end means nothing."""
    num_answers, width, most = kept.shape
    starts = np.zeros((num_answers, width + most + 1, most))
    starts[:, 1] = 1
    lengths = np.arange(1, most + 1)
    stopped = -np.diff(kept, axis=2, prepend=1.0)  # [A, T, J] chance to keep j drafts of more
    shorter = np.tri(most, k=0).T  # [J, K] 1 where j < K
    for t in range(1, width):
        stops = stopped[:, t, :, None] * shorter  # [A, J, K]
        starts[:, t + 1 : t + 1 + most] += stops * starts[:, t, None]
        starts[:, t + 1 + lengths, lengths - 1] += starts[:, t] * kept[:, t]
    return starts[:, :width]


def _lookup_fates(
    room: Whole, matching: Floats, inside: NDArray[np.bool_], most: int
) -> tuple[Floats, Floats]:
    """1 where draft i of a block at t is reached, and where it is kept, else 0: [A, T, I]."""
    drafts = np.arange(most)
    on_path = sliding_window_view(np.pad(inside, ((0, 0), (0, most - 1))), most, axis=1)
    reached = (drafts < room[:, :, None]) & (drafts <= matching[:, :, None]) & on_path
    kept = (drafts < matching[:, :, None]) & on_path
    return reached.astype(np.float64), kept.astype(np.float64)


def _lookup_starts(matching: Floats, num_tokens: Whole, most: int) -> Floats:
    """Follow every answer's walk at every K; a block goes past its kept drafts and one token."""
    starts = np.zeros((*matching.shape, most))
    steps = np.minimum(matching[:, :, None], np.arange(1, most + 1)).astype(np.intp) + 1
    answer, k = np.indices((len(num_tokens), most)).reshape(2, -1)
    t = np.ones_like(answer)
    while (going := t < num_tokens[answer]).any():
        answer, k, t = answer[going], k[going], t[going]
        starts[answer, t, k] = 1
        t += steps[answer, t, k]
    return starts
