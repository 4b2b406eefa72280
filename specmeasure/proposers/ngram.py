"""Prompt lookup: the continuation of an earlier occurrence of the last few tokens.

Saxena 2023 (prompt-lookup-decoding). As in vLLM and transformers the longest n-gram wins; among its
occurrences theirs is the earliest. No weights, a point mass for every draft.
"""

from collections.abc import Sequence

import torch

from specmeasure.records.plan import NgramPick
from specmeasure.speculate.placing import put_tokens
from specmeasure.speculate.proposal import Proposal


class NgramProposer:
    """Looks up n-grams of ``max_ngram`` down to ``min_ngram`` tokens in prompt and answer.

    A token takes one step for each size, however long the context is.
    """

    def __init__(
        self,
        *,
        max_ngram: int,
        min_ngram: int,
        pick: NgramPick = NgramPick.EARLIEST,
        device: torch.device,
    ) -> None:
        self._sizes = range(max_ngram, min_ngram - 1, -1)
        self._takes_first = pick is NgramPick.EARLIEST
        self._device = device
        self._ids: list[int] = []
        self._continuation: dict[tuple[int, ...], int] = {}  # n-gram → index of what follows it
        self._drafts: list[int] = []

    def begin(self, prompt_ids: Sequence[int]) -> None:
        """Index the prompt."""
        self._ids, self._continuation, self._drafts = [], {}, []
        self._append(prompt_ids)

    def propose(self, num_tokens: int) -> Proposal:
        """What followed the longest known suffix, at most ``num_tokens``; maybe nothing."""
        self._drafts = []
        for size in self._sizes:
            start = self._continuation.get(tuple(self._ids[-size:]))
            if start is not None:
                self._drafts = self._ids[start : start + num_tokens]
                break
        return Proposal(tokens=put_tokens(self._drafts, self._device))

    def commit(self, num_accepted: int, next_token: int) -> None:
        """Index what was emitted."""
        self._append([*self._drafts[:num_accepted], next_token])

    def _append(self, ids: Sequence[int]) -> None:
        for token in ids:
            place = len(self._ids)
            for size in self._sizes:
                if place >= size:
                    ngram = tuple(self._ids[place - size :])
                    if self._takes_first:
                        self._continuation.setdefault(ngram, place)
                    else:
                        self._continuation[ngram] = place
            self._ids.append(token)
