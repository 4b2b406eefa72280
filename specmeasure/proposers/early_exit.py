"""The target's first layers draft a chain, and leave what they read for verification."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from specmeasure.proposers.draft_model import draft_chain
from specmeasure.records.plan import GREEDY, DraftSampling, Sampling
from specmeasure.speculate.placing import put_token
from specmeasure.speculate.proposal import Proposal


class DraftingTarget(Protocol):
    """A target that can read with its first layers alone."""

    def draft(self, ids: Tensor) -> Tensor:
        """Read ids [N]; the first layers' logits [N, V]. The target's next read includes them."""


class EarlyExitProposer:
    """Greedy drafts for a greedy target; otherwise greedy, or sampled as the target samples.

    It remembers the last emitted token only: prompt and kept drafts are in the target's cache, and
    what was rejected is forgotten with it.
    """

    def __init__(
        self,
        target: DraftingTarget,
        sampling: Sampling,
        *,
        draft_sampling: DraftSampling = DraftSampling.PROBABILISTIC,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self._target = target
        self._sampling = sampling if draft_sampling is DraftSampling.PROBABILISTIC else GREEDY
        self._generator = generator
        self._device = device
        self._last = torch.empty(0, dtype=torch.int64, device=device)

    def begin(self, prompt_ids: Sequence[int]) -> None:
        """Nothing to read: the target's prefill went through the first layers."""

    def propose(self, num_tokens: int) -> Proposal:
        """Exactly ``num_tokens`` drafts, and their distributions when sampled."""
        return draft_chain(
            self._target.draft, self._last, num_tokens, self._sampling, generator=self._generator
        )

    def commit(self, num_accepted: int, next_token: int) -> None:  # noqa: ARG002 - the protocol's
        """Remember what the next draft follows."""
        self._last = put_token(next_token, self._device)
