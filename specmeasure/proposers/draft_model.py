"""A small language model that drafts a chain, token by token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from specmeasure.records.plan import GREEDY, DraftSampling, Sampling
from specmeasure.speculate.proposal import CachedModel, Proposal
from specmeasure.speculate.sampling import NOT_A_TOKEN, draw, greedy_tokens, sampling_probs


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """One draft."""

    token: Tensor  # [1], NOT_A_TOKEN where the logits held NaN
    probs: Tensor | None  # [1, V] the law it was drawn from; None: a point mass


def next_draft(logits: Tensor, sampling: Sampling, *, generator: torch.Generator) -> Drafted:
    """The likeliest token of logits [1, V], or one that is drawn from them."""
    if sampling.is_greedy:
        return Drafted(token=greedy_tokens(logits), probs=None)
    probs = sampling_probs(logits, sampling)
    drawn = draw(probs, generator=generator)
    token = drawn.masked_fill(probs.sum(-1).isnan(), NOT_A_TOKEN)
    return Drafted(token=token, probs=probs)


def draft_chain(
    read: Callable[[Tensor], Tensor],
    ids: Tensor,
    num_tokens: int,
    sampling: Sampling,
    *,
    generator: torch.Generator,
) -> Proposal:
    """``num_tokens`` drafts, each read for the next one, and their distributions when sampled.

    Args:
        read: ids [N] → logits [N, V].
        ids: read for the first draft.
        num_tokens: none reads nothing.
        sampling: of the drafts.
        generator: of their draws.
    """
    tokens: list[Tensor] = []  # each [1]
    probs: list[Tensor] = []  # each [1, V]
    for _ in range(num_tokens):
        drafted = next_draft(read(ids)[-1:], sampling, generator=generator)
        tokens.append(drafted.token)
        if drafted.probs is not None:
            probs.append(drafted.probs)
        ids = drafted.token.clamp_min(0)  # NaN is reported by the verifier, not a bad index
    return Proposal(
        tokens=torch.cat(tokens) if tokens else ids[:0], probs=torch.cat(probs) if probs else None
    )


class DraftModelProposer:
    """Greedy drafts for a greedy target; otherwise greedy, or sampled as the target samples.

    Its cache holds what was committed except ``_unread``: the last emitted token, and the last
    draft when all were accepted (a draft is fed only to get the next one).
    """

    def __init__(
        self,
        draft_model: CachedModel,
        sampling: Sampling,
        *,
        draft_sampling: DraftSampling = DraftSampling.PROBABILISTIC,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self._draft_model = draft_model
        self._sampling = sampling if draft_sampling is DraftSampling.PROBABILISTIC else GREEDY
        self._generator = generator
        self._device = device
        self._unread: list[int] = []
        self._drafts = torch.empty(0, dtype=torch.int64, device=device)

    def begin(self, prompt_ids: Sequence[int]) -> None:
        """Read the prompt."""
        self._draft_model.reset(rolls_back=True)
        self._draft_model.prefill(prompt_ids)
        self._unread = []
        self._drafts = self._drafts[:0]

    def propose(self, num_tokens: int) -> Proposal:
        """Exactly ``num_tokens`` drafts, and their distributions when sampled."""
        unread = torch.tensor(self._unread, device=self._device)
        proposal = draft_chain(
            self._draft_model.forward,
            unread,
            num_tokens,
            self._sampling,
            generator=self._generator,
        )
        if num_tokens:
            self._unread = []
        self._drafts = proposal.tokens
        return proposal

    def commit(self, num_accepted: int, next_token: int) -> None:
        """Forget rejected drafts that were read; remember what is still to be read."""
        num_drafts = len(self._drafts)
        if num_drafts:
            num_read = num_drafts - 1
            self._draft_model.rollback(num_read - min(num_accepted, num_read))
            if num_accepted == num_drafts:
                self._unread.append(int(self._drafts[-1]))
        self._unread.append(next_token)
