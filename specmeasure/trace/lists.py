"""Lists of numbers that a trace holds by columns, read as tuples where they are needed."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from specmeasure.trace.parquet import read_column


class Lists(ABC):
    """A column of lists; by place, each is a tuple, or None where there is none."""

    @abstractmethod
    def row(self, place: int) -> pa.Array | None:
        """The numbers of one row; None where it has none."""

    @abstractmethod
    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> tuple[Any, ...] | None:
        found = self.row(place)
        return None if found is None else tuple(found.to_pylist())


class KeptLists(Lists):
    """A column of lists in memory."""

    def __init__(self, column: pa.ListArray) -> None:
        self._column = column

    def row(self, place: int) -> pa.Array | None:
        return self._column[place].values

    def __len__(self) -> int:
        return len(self._column)


class StoredLists(Lists):
    """A column of lists that stays on disk; the row group last asked for is kept.

    Args:
        file: that holds it, and stays open: what is read later is what was checked.
        names: of the column, a struct's before its field's.
    """

    def __init__(self, file: pq.ParquetFile, *names: str) -> None:
        self._file = file
        self._names = names
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])
        self._group = -1
        self._column: pa.ListArray | None = None

    def row(self, place: int) -> pa.Array | None:
        group = int(np.searchsorted(self._starts, place, side="right")) - 1
        if group != self._group or self._column is None:
            self._group = group
            self._column = read_column(self._file, group, *self._names)
        return self._column[place - int(self._starts[group])].values

    def __len__(self) -> int:
        return int(self._starts[-1])


class ListRow(Sequence[Any]):
    """One row of a column of lists; equal to a tuple of the same numbers."""

    __slots__ = ("_lists", "_place")

    def __init__(self, lists: Lists, place: int) -> None:
        self._lists = lists
        self._place = place

    def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> np.ndarray[Any, Any]:
        found = self._values().to_numpy(zero_copy_only=False)
        return np.array(found, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self._values())

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Any, ...]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return tuple(self)[place]
        return self._values()[place].as_py()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values().to_pylist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def _values(self) -> pa.Array:
        found = self._lists.row(self._place)
        if found is None:
            raise ValueError(f"row {self._place} has no list")
        return found
