"""Prompts as they are read: duplicates dropped, a sample kept, everything counted.

With a limit, memory grows with the limit and the number of categories, not with the corpus.
"""

import heapq
from collections import Counter, defaultdict

import numpy as np

from specmeasure.corpus.digests import DigestSet
from specmeasure.corpus.sample import draw, sample_prompts
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import CorpusOptions, Prompt

_BATCH = 2048
_BATCH_CHARACTERS = 2**22  # few long prompts wait as short as many short ones
_FIRST_PLACES = 5
_MOST_CATEGORIES = 10_000


class Intake:
    """All distinct prompts, or of each category those with the smallest draws."""

    def __init__(self, options: CorpusOptions) -> None:
        self.sizes: Counter[str] = Counter()  # distinct prompts by category
        self._options = options
        self._seen = DigestSet()
        self._waiting: list[tuple[Prompt, str]] = []  # with content hashes
        self._num_waiting_characters = 0
        self._num_duplicates = 0
        self._duplicates: list[str] = []  # the first places
        self._num_taken = 0
        # by category: (−draw, −order of reading, prompt), the largest draw on top
        self._kept: dict[str, list[tuple[int, int, Prompt]]] = defaultdict(list)

    def offer(self, prompt: Prompt, content: str) -> None:
        """Take a prompt with its content hash, unless an earlier one asked the same."""
        self._waiting.append((prompt, content))
        self._num_waiting_characters += _num_characters(prompt)
        if len(self._waiting) >= _BATCH or self._num_waiting_characters > _BATCH_CHARACTERS:
            self._settle()

    def duplicates(self) -> tuple[int, list[str]]:
        """How many duplicates there were since this was last asked, and where the first."""
        self._settle()
        counted = self._num_duplicates, self._duplicates
        self._num_duplicates, self._duplicates = 0, []
        return counted

    def prompts(self) -> tuple[Prompt, ...]:
        """What is kept, in the order of reading."""
        self._settle()
        ordered = sorted(
            (row for heap in self._kept.values() for row in heap), key=lambda row: -row[1]
        )
        kept = [prompt for _, _, prompt in ordered]
        if self._options.limit is None:
            return tuple(kept)
        return sample_prompts(
            kept, limit=self._options.limit, seed=self._options.seed, sizes=self.sizes
        )

    def _settle(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._num_waiting_characters = 0
        if not waiting:
            return
        digests = np.array([int(content[:16], 16) for _, content in waiting], dtype=np.uint64)
        for (prompt, content), is_new in zip(
            waiting, self._seen.add(digests).tolist(), strict=True
        ):
            if is_new:
                self._take(prompt, content)
            else:
                self._num_duplicates += 1
                if len(self._duplicates) < _FIRST_PLACES:
                    self._duplicates.append(prompt.source)

    def _take(self, prompt: Prompt, content: str) -> None:
        self.sizes[prompt.category] += 1
        self._num_taken += 1
        heap = self._kept[prompt.category]
        if self._options.limit is None:
            heap.append((0, -self._num_taken, prompt))
            return
        row = (-draw(content, self._options.seed), -self._num_taken, prompt)
        if len(heap) < self._options.limit:
            heapq.heappush(heap, row)
        elif row[0] > heap[0][0]:
            heapq.heapreplace(heap, row)
        if len(self._kept) > _MOST_CATEGORIES:
            raise UnreadableCorpus(
                f"{prompt.source}: more than {_MOST_CATEGORIES} categories cannot be sampled by "
                "their shares. Pass --category-field with the path to a coarser field."
            )


def _num_characters(prompt: Prompt) -> int:
    if prompt.text is not None:
        count = len(prompt.text)
    else:
        count = len(prompt.token_ids or ())
        for message in prompt.messages:
            count += len(message.content)
    for reference in prompt.references:
        count += len(reference)
    return count
