"""Blocks by columns: how a large trace holds them, looking like records one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, overload

from specmeasure.records.trace import BlockRecord

T_co = TypeVar("T_co", covariant=True)
Ids = tuple[int, ...]


class Column(Protocol[T_co]):
    """One field of many blocks, e.g. a numpy array."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> T_co: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockColumns:
    """The blocks of many trials, one after the other; each column [B]."""

    num_draft_tokens: Column[int]
    num_accepted_tokens: Column[int]
    num_emitted_tokens: Column[int]
    context_length: Column[int]
    draft_s: Column[float]
    verify_s: Column[float]
    truncated: Column[bool]
    most_accepted: Column[int]  # drafts that could have been kept
    is_tree: Column[bool]
    draft_ids: Column[Ids | None] | None = None  # None: no text was kept
    emitted_ids: Column[Ids | None] | None = None

    def record(self, place: int) -> BlockRecord:
        """One block."""
        return BlockRecord(
            num_draft_tokens=int(self.num_draft_tokens[place]),
            num_accepted_tokens=int(self.num_accepted_tokens[place]),
            num_emitted_tokens=int(self.num_emitted_tokens[place]),
            context_length=int(self.context_length[place]),
            draft_s=float(self.draft_s[place]),
            verify_s=float(self.verify_s[place]),
            truncated=bool(self.truncated[place]),
            draft_depth=int(self.most_accepted[place]) if self.is_tree[place] else None,
            draft_ids=None if self.draft_ids is None else self.draft_ids[place],
            emitted_ids=None if self.emitted_ids is None else self.emitted_ids[place],
        )


class BlockRows(Sequence[BlockRecord]):
    """One trial's blocks: the rows from ``start`` to before ``stop`` of ``columns``."""

    __slots__ = ("columns", "start", "stop")

    def __init__(self, columns: BlockColumns, start: int, stop: int) -> None:
        self.columns = columns
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return self.stop - self.start

    @overload
    def __getitem__(self, place: int) -> BlockRecord: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[BlockRecord, ...]: ...
    def __getitem__(self, place: int | slice) -> BlockRecord | tuple[BlockRecord, ...]:
        rows = range(self.start, self.stop)[place]
        if isinstance(rows, range):
            return tuple(map(self.columns.record, rows))
        return self.columns.record(rows)

    def __iter__(self) -> Iterator[BlockRecord]:
        return map(self.columns.record, range(self.start, self.stop))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))
