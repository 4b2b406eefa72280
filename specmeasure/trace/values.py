"""From columns of a table to values and records; equal ones are one object."""

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

T = TypeVar("T")
Names = tuple[str, ...]  # of a column, a struct's before its field's
ListMaker = Callable[[pa.ListArray], list[Any]]


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
        if column.null_count == len(column):
            return [None] * len(column)
        if pa.types.is_struct(kind):
            return self._records(column, names)
        if pa.types.is_list(kind):
            make = self._lists.get(names)
            return self._tuples(column, names) if make is None else make(column)
        if pa.types.is_map(kind):
            return _mappings(column)
        if pa.types.is_string(kind) or pa.types.is_int64(kind):
            return _shared(column, self._kinds.get(names[-1]))
        return _numbers(column)

    def _records(self, column: pa.StructArray, names: Names) -> list[Any]:
        make = self._kinds[names[-1]]
        fields = [field.name for field in column.type]
        parts = [
            self.of(part, *names, name) for name, part in zip(fields, column.flatten(), strict=True)
        ]
        marks = zip(*map(_marks, parts, column.type), strict=True)
        made: dict[tuple[Any, ...] | None, Any] = {None: None}
        found = []
        for mark, row in zip(_or_none(column, marks), zip(*parts, strict=True), strict=True):
            if mark not in made:
                made[mark] = make(**dict(zip(fields, row, strict=True)))
            found.append(made[mark])
        return found

    def _tuples(self, column: pa.ListArray, names: Names) -> list[Any]:
        values = self.of(column.flatten(), *names)
        stops = np.cumsum([0, *column.value_lengths().fill_null(0).to_numpy()]).tolist()
        return _or_none(column, (tuple(values[i:j]) for i, j in pairwise(stops)))


def _marks(values: list[Any], field: pa.Field) -> list[Any]:
    """What tells unequal values apart: themselves, or the object where it is a record or a list."""
    return list(map(id, values)) if pa.types.is_nested(field.type) else values


def _or_none(column: pa.Array, rows: Iterable[T]) -> list[T | None]:
    """The rows, None where the column is null."""
    if not column.null_count:
        return list(rows)
    there = column.is_valid().to_numpy(zero_copy_only=False).tolist()
    return [row if known else None for row, known in zip(rows, there, strict=True)]


def _numbers(column: pa.Array) -> list[Any]:
    known = column.fill_null(False if pa.types.is_boolean(column.type) else 0)
    return _or_none(column, known.to_numpy(zero_copy_only=False).tolist())


def _shared(column: pa.Array, make: Callable[..., Any] | None = None) -> list[Any]:
    """Values of which each distinct one is made once."""
    places, words = _coded(column)
    made = [word if make is None else make(word) for word in words]
    return _or_none(column, [made[place] for place in places.tolist()])


def _coded(column: pa.Array) -> tuple["np.ndarray[Any, np.dtype[np.int32]]", list[Any]]:
    """Every row's place among the distinct values, and these; a null is at place 0."""
    coded = column.dictionary_encode()
    return coded.indices.fill_null(0).to_numpy(), coded.dictionary.to_pylist()


def _mappings(column: pa.MapArray) -> list[Any]:
    (names, name_words), (texts, text_words) = _coded(column.keys), _coded(column.items)
    pairs = np.stack([names, texts], axis=1)
    made: dict[bytes, dict[str, str]] = {}
    found = []
    for start, stop in pairwise(column.offsets.to_numpy().tolist()):
        mark = pairs[start:stop].tobytes()
        if mark not in made:
            made[mark] = {name_words[i]: text_words[j] for i, j in pairs[start:stop].tolist()}
        found.append(made[mark])
    return _or_none(column, found)
