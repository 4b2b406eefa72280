"""From columns of a table to values and records; equal ones are one object."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Names = tuple[str, ...]  # of a column, a struct's before its field's
ListMaker = Callable[[pa.ListArray], list[Any]]


@dataclass(frozen=True, slots=True)
class _Coded:
    """The values of a column, and where among them each row has its own."""

    places: NDArray[Any]  # [rows]
    values: Sequence[Any]

    def rows(self) -> list[Any]:
        if len(self.values) == 1:
            return [self.values[0]] * len(self.places)
        return list(map(self.values.__getitem__, self.places.tolist()))


class Values:
    """Makes Python values of columns; null is None, a list a tuple, a struct a record.

    Args:
        kinds: of record or of enumeration, by the name of the column.
        lists: what makes the values of certain columns of lists instead.
    """

    def __init__(
        self, kinds: Mapping[str, Callable[..., Any]], lists: Mapping[Names, ListMaker]
    ) -> None:
        self._kinds = kinds
        self._lists = lists

    def of(self, column: pa.Array, *names: str) -> list[Any]:
        """The values of one column.

        Raises:
            ValueError: a record that cannot be.
        """
        kind = column.type
        if pa.types.is_floating(kind) and not column.null_count:
            measured: list[Any] = column.to_numpy().tolist()
            return measured
        return self._coded(column, names).rows()

    def _coded(self, column: pa.Array, names: Names) -> _Coded:
        kind = column.type
        if column.null_count == len(column):
            return _Coded(np.zeros(len(column), np.int64), [None])
        if pa.types.is_struct(kind):
            return self._records(column, names)
        if pa.types.is_map(kind):
            return _mappings(column)
        if pa.types.is_list(kind):
            return self._tuples(column, names)
        return _distinct(column, self._kinds.get(names[-1]))

    def _records(self, column: pa.StructArray, names: Names) -> _Coded:
        """One record for all rows whose fields are the same."""
        make = self._kinds[names[-1]]
        fields = [field.name for field in column.type]
        known = column.is_valid().to_numpy(zero_copy_only=False)
        parts = {
            name: self._coded(part, (*names, name))
            for name, part in zip(fields, column.flatten(), strict=True)
        }
        places, rows = _combined([_Coded(known, (False, True)), *parts.values()])
        own = [[part.values[i] for i in part.places[rows].tolist()] for part in parts.values()]
        values = [
            make(**dict(zip(fields, row, strict=True))) if there else None
            for there, row in zip(known[rows].tolist(), zip(*own, strict=True), strict=True)
        ]
        return _Coded(places, values)

    def _tuples(self, column: pa.ListArray, names: Names) -> _Coded:
        """A tuple for each row that has any values; empty ones are one anyway."""
        make = self._lists.get(names)
        if make is not None:
            return _Coded(np.arange(len(column)), make(column))
        values = self.of(column.flatten(), *names)
        lengths = column.value_lengths().fill_null(0).to_numpy()
        some = np.flatnonzero(lengths)
        stops = np.cumsum([0, *lengths[some]]).tolist()
        places = column.is_null().to_numpy(zero_copy_only=False).astype(np.int64)
        places[some] = np.arange(2, 2 + len(some))
        return _Coded(places, [(), None, *(tuple(values[i:j]) for i, j in pairwise(stops))])


def _combined(parts: Sequence[_Coded]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Every row's place among the distinct rows, and for each of these a row that it stands in."""
    codes = np.zeros(len(parts[0].places), np.int64)
    for part in parts:
        if len(part.values) > 1:
            codes = _renumbered(codes * len(part.values) + part.places)
    rows = np.zeros(int(codes.max(initial=0)) + 1, np.int64)
    rows[codes] = np.arange(len(codes))
    return codes, rows


def _renumbered(codes: NDArray[Any]) -> NDArray[Any]:
    """Distinct codes as numbers from 0, so that no product of sizes grows beyond the rows."""
    found: NDArray[Any] = pa.array(codes).dictionary_encode().indices.to_numpy()
    return found.astype(np.int64)


def _distinct(column: pa.Array, make: Callable[..., Any] | None = None) -> _Coded:
    """Each distinct value is made once."""
    coded = column.dictionary_encode()
    words = coded.dictionary.to_pylist()
    values = words if make is None else list(map(make, words))
    if not column.null_count:
        return _Coded(coded.indices.to_numpy(), values)
    return _Coded(coded.indices.fill_null(len(values)).to_numpy(), [*values, None])


def _mappings(column: pa.MapArray) -> _Coded:
    names, texts = _distinct(column.keys), _distinct(column.items)
    pairs = np.stack([names.places, texts.places], axis=1)
    raw, width = pairs.tobytes(), pairs.itemsize * 2
    made: dict[bytes, int] = {}
    bounds = (column.offsets.to_numpy().astype(np.int64) * width).tolist()
    found = [made.setdefault(raw[i:j], len(made)) for i, j in pairwise(bounds)]
    marks = (np.frombuffer(mark, pairs.dtype).reshape(-1, 2).tolist() for mark in made)
    values: list[Any] = [{names.values[i]: texts.values[j] for i, j in mark} for mark in marks]
    places = np.array(found, np.int64)
    if column.null_count:
        places[column.is_null().to_numpy(zero_copy_only=False)] = len(values)
        values.append(None)
    return _Coded(places, values)
