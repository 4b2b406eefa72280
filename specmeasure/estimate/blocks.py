"""Blocks of many trials as arrays, a part of them at a time, and their sums by trial.

A large trace holds its blocks by columns (``records.blocks``); trials that were made one by one are
turned into such columns first. Whatever needs all blocks of a run goes over them in parts of about
a million, so that memory grows with trials and not with blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from specmeasure.records.blocks import BlockColumns, BlockRows
from specmeasure.records.trace import BlockRecord, TrialRecord

PART = 1_000_000  # blocks looked at together
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Blocks of neighbouring trials, [B] each, and where each trial's begin."""

    first_trial: int
    starts: Ints  # [T] of each trial's first block; that of a trial without blocks is the next's
    sizes: Ints  # [T]
    num_drafted: Ints
    num_accepted: Ints
    num_emitted: Ints
    most_accepted: Ints  # drafts that could have been kept: all of a chain, a tree's depth
    draft_s: Floats
    verify_s: Floats

    @property
    def trial(self) -> Ints:
        """Each block's trial, from 0 within the part."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @property
    def is_prefill(self) -> Flags:
        """The first block of each trial."""
        flags = np.zeros(len(self.num_drafted), dtype=np.bool_)
        flags[self.starts[self.sizes > 0]] = True
        return flags

    @property
    def num_judged(self) -> Ints:
        """Drafts whose fate is known: up to the first rejection, or the EOS that cut the block.

        A block that emits its accepted drafts alone was cut.
        """
        is_cut = self.num_emitted == self.num_accepted
        up_to_rejection = np.minimum(self.num_accepted + 1, self.most_accepted)
        return np.where(is_cut, self.num_accepted, up_to_rejection)

    def sums(self, values: NDArray[np.generic]) -> NDArray[Any]:
        """Σ values [B] over each trial's blocks, [T]; 0 where it has none."""
        return self.reduced(np.add, values)

    def reduced(self, of_two: np.ufunc, values: NDArray[np.generic]) -> NDArray[Any]:
        """Values [B] of each trial's blocks reduced to one, [T]; 0 where it has none."""
        kind = np.float64 if values.dtype.kind == "f" else np.int64
        found = np.zeros(len(self.sizes), dtype=kind)
        has_blocks = self.sizes > 0
        if has_blocks.any():
            found[has_blocks] = of_two.reduceat(values, self.starts[has_blocks], dtype=kind)
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blocks:
    """Where the blocks of some trials stand in columns that they share."""

    columns: BlockColumns
    starts: Ints  # [T]
    sizes: Ints  # [T]

    @classmethod
    def of(cls, trials: Sequence[TrialRecord]) -> Self:
        """Those of these trials; blocks that were made one by one are put into columns."""
        held = list(map(attrgetter("blocks"), trials))
        if set(map(type, held)) == {BlockRows}:
            columns = held[0].columns
            if len(set(map(id, map(attrgetter("columns"), held)))) == 1:
                starts = np.fromiter(map(attrgetter("start"), held), np.int64, len(held))
                stops = np.fromiter(map(attrgetter("stop"), held), np.int64, len(held))
                return cls(columns=columns, starts=starts, sizes=stops - starts)
        sizes = np.array(list(map(len, held)), dtype=np.int64)
        columns = columns_of([block for blocks in held for block in blocks])
        return cls(columns=columns, starts=sizes.cumsum() - sizes, sizes=sizes)

    def at(self, places: Ints) -> "Blocks":
        """Of these trials alone."""
        return Blocks(columns=self.columns, starts=self.starts[places], sizes=self.sizes[places])

    def parts(self, *, size: int = PART) -> Iterator[Part]:
        """About so many at a time, whole trials each; a longer trial is a part of its own."""
        ends = self.sizes.cumsum()
        first = 0
        while first < len(ends):
            most = size + (int(ends[first - 1]) if first else 0)
            last = max(first + 1, int(np.searchsorted(ends, most, side="right")))
            own = slice(first, last)
            yield _part(self.columns, first, self.starts[own], self.sizes[own])
            first = last


def columns_of(blocks: Sequence[BlockRecord]) -> BlockColumns:
    """These blocks by columns, without their ids."""

    def column(name: str, kind: type) -> NDArray[np.generic]:
        return np.fromiter(map(attrgetter(name), blocks), kind, len(blocks))

    return BlockColumns(
        num_draft_tokens=column("num_draft_tokens", np.int64),
        num_accepted_tokens=column("num_accepted_tokens", np.int64),
        num_emitted_tokens=column("num_emitted_tokens", np.int64),
        context_length=column("context_length", np.int64),
        draft_s=column("draft_s", np.float64),
        verify_s=column("verify_s", np.float64),
        truncated=column("truncated", np.bool_),
        most_accepted=column("most_accepted", np.int64),
        is_tree=np.array([block.draft_depth is not None for block in blocks], dtype=np.bool_),
    )


def _part(columns: BlockColumns, first_trial: int, starts: Ints, sizes: Ints) -> Part:
    """Neighbours in the columns are views of them; others are gathered."""
    places = _places(starts, sizes)

    def whole(column: object) -> Ints:
        return np.asarray(column)[places]

    return Part(
        first_trial=first_trial,
        starts=sizes.cumsum() - sizes,
        sizes=sizes,
        num_drafted=whole(columns.num_draft_tokens),
        num_accepted=whole(columns.num_accepted_tokens),
        num_emitted=whole(columns.num_emitted_tokens),
        most_accepted=whole(columns.most_accepted),
        draft_s=np.asarray(columns.draft_s)[places],
        verify_s=np.asarray(columns.verify_s)[places],
    )


def _places(starts: Ints, sizes: Ints) -> slice | Ints:
    starts, sizes = starts[sizes > 0], sizes[sizes > 0]
    if not len(starts):
        return slice(0, 0)
    if (starts[1:] == (starts + sizes)[:-1]).all():
        return slice(int(starts[0]), int(starts[-1] + sizes[-1]))
    ends = sizes.cumsum()
    return np.arange(ends[-1]) + np.repeat(starts - (ends - sizes), sizes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockSums:
    """Of each trial, [T]: what its blocks add up to; and by draft position, [T, K]."""

    num_passes: Ints
    num_accepted: Ints
    num_drafted: Ints  # of trees the nodes
    num_drafted_blocks: Ints
    num_emitted: Ints
    num_reached: Ints  # [T, K] blocks that kept i drafts and had a judged draft i + 1
    num_kept: Ints  # [T, K] of those, the blocks that kept it
    later_draft_s: Floats  # of passes after the prefill, as the next three
    later_verify_s: Floats
    num_later_drafted: Ints
    num_later_emitted: Ints
    most_drafted: Ints  # in one block
    least_s: Floats  # of all parts of all passes; below 0 a clock went back; 0 without blocks


def sum_blocks(blocks: Blocks) -> BlockSums:
    """What the blocks of each trial add up to; K is the most that any could keep."""
    found = [_sum_part(part) for part in blocks.parts()]
    most = max((one.num_kept.shape[1] for one in found), default=0)
    empty = np.zeros(0, dtype=np.int64)

    def together(name: str) -> NDArray[Any]:
        return np.concatenate([empty, *(getattr(one, name) for one in found)])

    def by_position(name: str) -> Ints:
        parts = [np.zeros((0, most), dtype=np.int64)]
        for one in found:
            counts = getattr(one, name)
            parts.append(np.pad(counts, ((0, 0), (0, most - counts.shape[1]))))
        return np.concatenate(parts)

    names = [name for name in BlockSums.__slots__ if name not in ("num_reached", "num_kept")]
    return BlockSums(
        **{name: together(name) for name in names},
        num_reached=by_position("num_reached"),
        num_kept=by_position("num_kept"),
    )


def _sum_part(part: Part) -> BlockSums:
    later = ~part.is_prefill
    most = int(part.most_accepted.max(initial=0))
    has_drafts = np.flatnonzero(part.num_drafted)
    num_drafted_blocks = part.sums(part.num_drafted > 0)
    trial = np.repeat(np.arange(len(part.sizes)), num_drafted_blocks)
    return BlockSums(
        num_passes=part.sizes,
        num_accepted=part.sums(part.num_accepted),
        num_drafted=part.sums(part.num_drafted),
        num_drafted_blocks=num_drafted_blocks,
        num_emitted=part.sums(part.num_emitted),
        num_reached=_at_least(trial, part.num_judged[has_drafts], len(part.sizes), most),
        num_kept=_at_least(trial, part.num_accepted[has_drafts], len(part.sizes), most),
        later_draft_s=part.sums(part.draft_s * later),
        later_verify_s=part.sums(part.verify_s * later),
        num_later_drafted=part.sums(part.num_drafted * later),
        num_later_emitted=part.sums(part.num_emitted * later),
        most_drafted=part.reduced(np.maximum, part.num_drafted),
        least_s=part.reduced(np.minimum, np.minimum(part.draft_s, part.verify_s)),
    )


def _at_least(trial: Ints, lengths: Ints, num_trials: int, most: int) -> Ints:
    """Of each trial's blocks, how many have a length of at least i + 1, [T, most]."""
    width = most + 1
    exactly = np.bincount(trial * width + lengths, minlength=num_trials * width)
    exactly = exactly.reshape(num_trials, width)
    return np.asarray(exactly[:, :0:-1].cumsum(axis=1)[:, ::-1], dtype=np.int64)
