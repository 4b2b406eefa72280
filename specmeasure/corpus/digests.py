"""Which contents were seen before, in 8 bytes each."""

import numpy as np
from numpy.typing import NDArray

Digests = NDArray[np.uint64]
_GROWTH = 4  # a run is merged into the one before it unless that is this many times longer


class DigestSet:
    """A growing set of 64-bit digests, asked in batches.

    Sorted runs whose lengths grow geometrically, so that n digests cost O(n log n) in all. Two
    contents of the same digest would be taken for one: a chance of 3e-6 among ten million.
    """

    def __init__(self) -> None:
        self._runs: list[Digests] = []

    def add(self, digests: Digests) -> NDArray[np.bool_]:
        """Add a batch [n]; which of it were new [n], the first of equals alone."""
        distinct, first_places = np.unique(digests, return_index=True)
        unseen = np.ones(len(distinct), dtype=np.bool_)
        for run in self._runs:
            places = np.searchsorted(run, distinct).clip(max=len(run) - 1)
            unseen &= run[places] != distinct
        is_new = np.zeros(len(digests), dtype=np.bool_)
        is_new[first_places[unseen]] = True
        self._append(distinct[unseen])
        return is_new

    def _append(self, run: Digests) -> None:
        if not len(run):
            return
        while self._runs and len(self._runs[-1]) < _GROWTH * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]))
        self._runs.append(run)
