"""Heads along finished answers, from states of the target's own teacher-forced pass.

A block that starts at token t is drafted from one state: what went into the output head for the
token before it, t − 1. Head h drafts token t + h from it, whatever the answer says in between.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from specmeasure.decode.batch import PADDING, Read
from specmeasure.decode.probs import probs_of
from specmeasure.records.plan import DraftSampling, Sampling
from specmeasure.records.replay import HeadScores

NO_TOKEN = -1  # rank where the answer ends before, or the prefill emits the block's first token


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """What drafts all tokens of a block from one state of the target."""

    num_heads: int  # H
    read: Callable[[Tensor], Tensor]  # states [N, D] → logits [H, N, V]


class HeadBoard:
    """What heads make of all answers [B] while chunks come in, on the host.

    Tokens with equal logits rank by their ids, so that rank 0 is what ``argmax`` finds.
    """

    def __init__(
        self,
        heads: Heads,
        token_ids: Sequence[Sequence[int]],  # of the answers
        draft_sampling: DraftSampling,
        device: torch.device,
    ) -> None:
        self._heads, self._draft_sampling = heads, draft_sampling
        self._lengths = torch.tensor([len(ids) for ids in token_ids], device=device)
        size = (len(token_ids), max(map(len, token_ids)), heads.num_heads)
        self._ranks = torch.full(size, NO_TOKEN, dtype=torch.int32)  # [B, T, H]
        self._probs = torch.zeros(size)  # under the head, of the answer's token
        self._ids = torch.full((size[0], size[1] + heads.num_heads), PADDING)  # [B, T + H]
        for row, ids in enumerate(token_ids):
            self._ids[row, : len(ids)] = torch.tensor(ids)
        self._ids = self._ids.to(device)

    def fill(
        self,
        read: Read,
        place: Tensor,  # [B, C] in the answers, of the tokens that the rows predict
        sampling: Sampling,
        *,
        most_logits: int,
    ) -> None:
        """Score the blocks that start behind these tokens, at most ``most_logits`` at once.

        Raises:
            BrokenLogits: logits held NaN.
        """
        if read.head_input is None:
            raise ValueError("the pass was not read for what goes into the output head")
        drafted = (place >= 0) & (place < self._lengths[:, None] - 1)
        answers, starts = drafted.nonzero()[:, 0], place[drafted] + 1  # [N]
        states = read.head_input[drafted.to(read.head_input.device)]  # [N, D]
        num_states = max(1, most_logits // (self._heads.num_heads * read.logits.shape[-1]))
        for first in range(0, len(starts), num_states):
            part = slice(first, first + num_states)
            logits = self._heads.read(states[part])[..., : read.logits.shape[-1]]
            self._put(logits.to(starts.device), answers[part], starts[part], sampling)

    def scores(self, row: int, target_probs: Tensor, sampling: Sampling) -> HeadScores:
        """One answer's, given the target's chances [T] of its tokens.

        Formula: the chance that the emitted token x was an accepted draft is min(1, q(x) / p(x)),
        with the target's p and the head's q; 1 or 0 where the head drafts its likeliest token
        (Leviathan et al. 2023, arXiv:2211.17192, Algorithm 1).
        """
        length, num_heads = len(target_probs), self._heads.num_heads
        ranks, probs = self._ranks[row, :length], self._probs[row, :length]  # [T, H]
        if sampling.is_greedy or self._draft_sampling is DraftSampling.GREEDY:
            chances = (ranks == 0).float()
        else:
            later = torch.nn.functional.pad(target_probs, (0, num_heads)).unfold(0, num_heads, 1)
            chances = (probs / later[:length]).nan_to_num(0.0).clamp_max(1)
        return HeadScores(
            num_heads=num_heads,
            rank=array("i", ranks.contiguous().numpy().tobytes()),
            accept_chance=array("f", chances.contiguous().numpy().tobytes()),
        )

    def _put(self, logits: Tensor, answers: Tensor, starts: Tensor, sampling: Sampling) -> None:
        """Keep rank and chance of one part of the blocks [n] by heads' logits [H, n, V]."""
        places = starts[:, None] + torch.arange(len(logits), device=starts.device)  # [n, H]
        tokens = self._ids[answers[:, None], places]
        is_there = places < self._lengths[answers][:, None]
        at = (answers.cpu(), starts.cpu())
        for head, rows in enumerate(logits):
            own = tokens[:, head, None]
            probs = probs_of(rows.float(), sampling, "drafting head").gather(1, own)[:, 0]
            ranks = ranks_of(rows.float(), tokens[:, head])
            absent = ~is_there[:, head]
            self._ranks[(*at, head)] = ranks.masked_fill(absent, NO_TOKEN).int().cpu()
            self._probs[(*at, head)] = probs.masked_fill(absent, 0.0).cpu()


def ranks_of(logits: Tensor, tokens: Tensor) -> Tensor:
    """How many tokens come before each of ``tokens`` [N] in the order of logits [N, V]: [N].

    Equal logits stand in the order of their ids.
    """
    own = logits.gather(1, tokens[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < tokens[:, None]
    return ((logits > own) | ((logits == own) & earlier)).sum(-1)
