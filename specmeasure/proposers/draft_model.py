"""A small language model that drafts a chain, token by token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from specmeasure.records.plan import GREEDY, DraftSampling, Sampling
from specmeasure.speculate.placing import put_token
from specmeasure.speculate.proposal import CachedModel, Proposal
from specmeasure.speculate.sampling import NOT_A_TOKEN, draw, sampling_probs


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """One draft."""

    token: Tensor  # [1]; any of the tokens where the logits held NaN, so that it can be read
    weight: Tensor  # [1] NaN where the logits held NaN
    probs: Tensor | None  # [1, V] the law it was drawn from; None: a point mass


def next_draft(logits: Tensor, sampling: Sampling, *, generator: torch.Generator) -> Drafted:
    """The likeliest token of logits [1, V], or one that is drawn from them."""
    if sampling.is_greedy:
        top = logits.max(-1)
        return Drafted(token=top.indices, weight=top.values, probs=None)
    probs = sampling_probs(logits, sampling)
    token = draw(probs, generator=generator)
    return Drafted(token=token, weight=probs[:, 0], probs=probs)  # one NaN makes NaN of all


def marked(drafts: Sequence[Drafted]) -> Tensor:
    """Their tokens [N], N at least 1, ``NOT_A_TOKEN`` where the logits held NaN."""
    tokens = torch.cat([one.token for one in drafts])
    return tokens.masked_fill_(torch.cat([one.weight for one in drafts]).isnan(), NOT_A_TOKEN)


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
    drafts: list[Drafted] = []
    for _ in range(num_tokens):
        drafts.append(next_draft(read(ids)[-1:], sampling, generator=generator))
        ids = drafts[-1].token
    if not drafts:
        return Proposal(tokens=ids[:0])
    probs = [one.probs for one in drafts if one.probs is not None]
    return Proposal(tokens=marked(drafts), probs=torch.cat(probs) if probs else None)


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
        self._unread: list[Tensor] = []  # each [1]
        self._drafts = torch.empty(0, dtype=torch.int64, device=device)

    def begin(self, prompt_ids: Sequence[int]) -> None:
        """Read the prompt."""
        self._draft_model.reset(rolls_back=True)
        self._draft_model.prefill(prompt_ids)
        self._unread = []
        self._drafts = self._drafts[:0]

    def propose(self, num_tokens: int) -> Proposal:
        """Exactly ``num_tokens`` drafts, and their distributions when sampled."""
        if not num_tokens:
            self._drafts = self._drafts[:0]
            return Proposal(tokens=self._drafts)
        proposal = draft_chain(
            self._draft_model.forward,
            torch.cat(self._unread),
            num_tokens,
            self._sampling,
            generator=self._generator,
        )
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
                self._unread.append(self._drafts[-1:])
        self._unread.append(put_token(next_token, self._device))
