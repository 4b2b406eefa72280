"""Trials by columns, so that sums over clusters of many of them are sums of arrays.

A ``Table`` holds each fact of all trials once, read out of the records when it is first asked for.
``Trials`` are some of them in an order, ``Rows`` some of them cluster by cluster; both still look
like sequences of records. A cluster is what is independent of the rest: a prompt, or on a server
the group of prompts that were sent together.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from operator import attrgetter
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray

from specmeasure.estimate.blocks import Blocks, BlockSums, Flags, Floats, Ints, sum_blocks
from specmeasure.records.plan import TrialKey
from specmeasure.records.serving import Load
from specmeasure.records.trace import Audit, TrialRecord

Cluster = str | tuple[Load | None, int]
NO_WORKER = -1


class Table:
    """Every trial's facts as arrays [T]; what is unknown counts 0, as failed trials do."""

    def __init__(self, records: Sequence[TrialRecord]) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def failed(self) -> Flags:
        errors = [record.error for record in self.records]
        return np.array([error is not None for error in errors], dtype=np.bool_)

    @cached_property
    def decode_s(self) -> Floats:
        return self._floats("decode_s")

    @cached_property
    def ttft_s(self) -> Floats:
        return self._floats("ttft_s")

    @cached_property
    def num_emitted(self) -> Floats:
        return self._floats("num_emitted_tokens")

    @cached_property
    def num_asked(self) -> Floats:
        """Tokens of the prompt."""
        return self._floats("num_prompt_tokens")

    @cached_property
    def is_served(self) -> Flags:
        """Whether a server answered."""
        return np.array([key.load is not None for key in self.keys], dtype=np.bool_)

    @cached_property
    def keys(self) -> list[TrialKey]:
        return [record.key for record in self.records]

    @cached_property
    def capture_s(self) -> list[float | None]:
        """Spent on graphs before each trial."""
        return [record.capture_s for record in self.records]

    @cached_property
    def is_greedy(self) -> Flags:
        """Whether the answer was decoded greedily."""
        _, firsts = np.unique(self.sampling, return_index=True)
        greedy = [self.records[place].sampling.is_greedy for place in firsts.tolist()]
        return np.array(greedy, dtype=np.bool_)[self.sampling]

    @cached_property
    def sampling(self) -> Ints:
        """Trials that share a number share how they were sampled; others may do so, too."""
        return numbered([id(record.sampling) for record in self.records])

    @cached_property
    def labels(self) -> Ints:
        """Trials that share a number share their labels; others may do so, too."""
        return numbered([id(record.labels) for record in self.records])

    @cached_property
    def asked_is_known(self) -> Flags:
        """Whether the prompt's tokens were counted."""
        counts = [record.num_prompt_tokens for record in self.records]
        return np.array([count is not None for count in counts], dtype=np.bool_)

    @cached_property
    def audits(self) -> list[Audit | None]:
        every = [record.checks for record in self.records]
        return [None if checks is None else checks.audit for checks in every]

    @cached_property
    def held_bytes(self) -> Ints:
        """Weights and cache; −1 where one is unknown."""
        return np.array(
            [
                -1
                if record.model_bytes is None or record.cache_bytes is None
                else record.model_bytes + record.cache_bytes
                for record in self.records
            ],
            dtype=np.int64,
        )

    @cached_property
    def peak_bytes(self) -> Ints:
        """−1 where unknown."""
        peaks = [record.peak_memory_bytes for record in self.records]
        return np.array([-1 if peak is None else peak for peak in peaks], dtype=np.int64)

    @cached_property
    def arm(self) -> Ints:
        return numbered([key.arm for key in self.keys])

    @cached_property
    def arms(self) -> dict[str, int]:
        """The number of each arm."""
        _, firsts = np.unique(self.arm, return_index=True)
        return {self.keys[place].arm: number for number, place in enumerate(firsts.tolist())}

    @cached_property
    def prompt(self) -> Ints:
        return numbered([key.prompt_id for key in self.keys])

    @cached_property
    def cluster(self) -> Ints:
        return numbered(map(cluster_of, self.records)) if self.is_grouped else self.prompt

    @cached_property
    def is_grouped(self) -> bool:
        """Whether some prompts were sent together."""
        return bool(set(map(attrgetter("group"), self.records)) - {None})

    @cached_property
    def context(self) -> Ints:
        """What is answered: a prompt's turn in one repeat, at a load, on a worker."""
        return numbered_together(
            self.prompt,
            self.turn,
            np.array([key.repeat for key in self.keys], dtype=np.int64),
            numbered([key.load for key in self.keys]),
            self.worker - NO_WORKER,
        )

    @cached_property
    def turn(self) -> Ints:
        return np.array([key.turn for key in self.keys], dtype=np.int64)

    @cached_property
    def worker(self) -> Ints:
        numbers = [record.worker for record in self.records]
        told = [NO_WORKER if number is None else number for number in numbers]
        return np.array(told, dtype=np.int64)

    @cached_property
    def blocks(self) -> Blocks:
        return Blocks.of(self.records)

    @cached_property
    def block_sums(self) -> BlockSums:
        return sum_blocks(self.blocks)

    @cached_property
    def is_uneven(self) -> Flags:
        """Whether a trial's blocks emitted another number of tokens than the trial says."""
        return np.asarray(self.block_sums.num_emitted != self.num_emitted)

    def _floats(self, name: str) -> Floats:
        return np.array([one or 0.0 for one in map(attrgetter(name), self.records)], dtype=float)


class Trials(Sequence[TrialRecord]):
    """Some trials of a table, in this order."""

    __slots__ = ("places", "table")

    def __init__(self, table: Table, places: Ints) -> None:
        self.table = table
        self.places = places  # in the table

    @classmethod
    def of(cls, records: Sequence[TrialRecord]) -> "Trials":
        """These records, as all of a table, unless they are of one already."""
        if isinstance(records, Trials):
            return records
        return cls.all_of(Table(records))

    @classmethod
    def all_of(cls, table: Table) -> "Trials":
        return cls(table, np.arange(len(table)))

    @classmethod
    def joined(cls, parts: Sequence["Trials"]) -> "Trials":
        """One part after the other."""
        if len({id(part.table) for part in parts}) == 1:
            return cls(parts[0].table, np.concatenate([part.places for part in parts]))
        return cls.of([trial for part in parts for trial in part])

    def where(self, flags: Flags) -> "Trials":
        """Those that flags [T] of the table say."""
        return Trials(self.table, self.places[flags[self.places]])

    @property
    def are_served(self) -> bool:
        """Whether a server answered one of them."""
        return bool(self.table.is_served[self.places].any())

    def answered(self) -> "Trials":
        """Those that did not fail."""
        return self.where(~self.table.failed)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, place: int) -> TrialRecord: ...
    @overload
    def __getitem__(self, place: slice) -> "Trials": ...
    def __getitem__(self, place: int | slice) -> "TrialRecord | Trials":
        if isinstance(place, slice):
            return Trials(self.table, self.places[place])
        return self.table.records[int(self.places[place])]

    def __iter__(self) -> Iterator[TrialRecord]:
        return map(self.table.records.__getitem__, self.places.tolist())


@dataclass(frozen=True, slots=True, eq=False)
class Rows(Sequence[Sequence[TrialRecord]]):
    """Some trials of a table, cluster by cluster."""

    table: Table
    places: Ints  # [T] in the table
    row: Ints  # [T] the number of each one's cluster, rising from 0 without a gap

    @classmethod
    def of(cls, rows: Sequence[Sequence[TrialRecord]]) -> "Rows":
        """These rows of records, unless they are of a table already."""
        if isinstance(rows, Rows):
            return rows
        table = Table([trial for row in rows for trial in row])
        sizes = np.array(list(map(len, rows)), dtype=np.int64)
        return cls(table, np.arange(len(table)), np.repeat(np.arange(len(rows)), sizes))

    @classmethod
    def grouped(cls, trials: Trials, group: Ints) -> Self:
        """Trials of each group [T] together, groups in the order of their first trials."""
        row = renumbered(group)
        order = np.argsort(row, kind="stable")
        return cls(trials.table, trials.places[order], row[order])

    def __len__(self) -> int:
        return int(self.row[-1]) + 1 if len(self.row) else 0

    @property
    def flat(self) -> Trials:
        """All their trials, row after row."""
        return Trials(self.table, self.places)

    def one_by_one(self) -> "Rows":
        """The same trials in the same order, each in a row of its own."""
        return Rows(self.table, self.places, np.arange(len(self.places)))

    def part(self, chosen: Ints | Flags) -> "Rows":
        """Of these trials alone, by their places in ``flat``; rows that lose all are gone."""
        return Rows(self.table, self.places[chosen], renumbered(self.row[chosen]))

    def sums(self, values: NDArray[np.generic]) -> Floats:
        """Σ over each row's trials of values [T], or [T, K], of the table."""
        own = values[self.places]
        if own.ndim == 1:
            return np.bincount(self.row, weights=own, minlength=len(self)).astype(np.float64)
        columns = [np.bincount(self.row, weights=one, minlength=len(self)) for one in own.T]
        return np.stack(columns, axis=1) if columns else np.zeros((len(self), 0))

    @property
    def sizes(self) -> Ints:
        return np.bincount(self.row, minlength=len(self))

    def firsts(self, values: NDArray[np.int64]) -> Ints:
        """Of each row, what values [T] of the table say of its first trial."""
        starts = np.flatnonzero(np.diff(self.row, prepend=-1))
        return values[self.places[starts]]

    @overload
    def __getitem__(self, place: int) -> Trials: ...
    @overload
    def __getitem__(self, place: slice) -> list[Trials]: ...
    def __getitem__(self, place: int | slice) -> Trials | list[Trials]:
        numbers = range(len(self))[place]
        if isinstance(numbers, range):
            return [self[number] for number in numbers]
        first, last = np.searchsorted(self.row, (numbers, numbers + 1))
        return Trials(self.table, self.places[first:last])

    def __iter__(self) -> Iterator[Trials]:
        ends = [0, *self.sizes.cumsum().tolist()]
        for start, end in pairwise(ends):
            yield Trials(self.table, self.places[start:end])


def strata_of(rows: Sequence[Sequence[TrialRecord]]) -> Ints:
    """The worker of each row, which one worker measured whole."""
    own = Rows.of(rows)
    return own.firsts(own.table.worker)


def cluster_of(trial: TrialRecord) -> Cluster:
    """The prompt, or on a server the group at one load."""
    if trial.group is None:
        return trial.key.prompt_id
    return trial.key.load, trial.group


def numbered(names: Iterable[Hashable]) -> Ints:
    """The number of each name, in order of first appearance."""
    found = list(names)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(found))}
    return np.fromiter(map(numbers.__getitem__, found), np.int64, len(found))


def numbered_together(*columns: Ints) -> Ints:
    """The number of each row of columns [T] of numbers from 0, in order of first appearance."""
    found = renumbered(columns[0])
    for column in columns[1:]:
        if column.any():
            found = renumbered(found * (int(column.max()) + 1) + column)
    return found


def num_distinct(numbers: Ints) -> int:
    """How many different ones there are among small numbers from 0."""
    return int(np.count_nonzero(np.bincount(numbers)))


def renumbered(numbers: Ints) -> Ints:
    """The same groups, numbered from 0 in order of first appearance without a gap."""
    steps = np.diff(numbers, prepend=numbers[:1])
    if (steps >= 0).all():
        return np.asarray((steps > 0).cumsum())
    _, firsts, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    ranks = np.empty(len(firsts), dtype=np.int64)
    ranks[np.argsort(firsts)] = np.arange(len(firsts))
    return ranks[inverse]
