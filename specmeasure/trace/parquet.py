"""Parquet tables: written by row groups, whole or not at all; opened as what they must be."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from specmeasure.errors import UnreadableTrace
from specmeasure.trace.files import partial_path, put_in_place


class TableWriter:
    """Writes a table; it has its name once the ``with`` block has ended without an error.

    Args:
        path: of the table.
        schema: of every row group.
        options: of the writer, e.g. encodings.
    """

    def __init__(self, path: Path, schema: pa.Schema, **options: Any) -> None:
        self._path = path
        self._file = partial_path(path).open("wb")
        self._writer = pq.ParquetWriter(self._file, schema, compression="zstd", **options)

    def __enter__(self) -> Self:
        return self

    def write(self, rows: pa.Table) -> None:
        """Add one row group."""
        self._writer.write_table(rows, row_group_size=max(1, rows.num_rows))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if kind is None:
            put_in_place(self._path)


@contextmanager
def open_table(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    """A table to be read by row groups.

    Raises:
        UnreadableTrace: no parquet file, or one of other columns.
    """
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow
            for field in schema:
                if field.name not in found.names or found.field(field.name).type != field.type:
                    raise UnreadableTrace(f"{path}: no column {field.name} of type {field.type}.")
            yield file
    except pa.ArrowException as error:
        raise UnreadableTrace(f"{path}: damaged: {error}") from error


def read_column(file: pq.ParquetFile, group: int, *names: str) -> pa.Array:
    """One row group of a column, a struct's name before its field's."""
    column = file.read_row_group(group, columns=[".".join(names)]).column(0).combine_chunks()
    for name in names[1:]:
        column = column.flatten()[column.type.get_field_index(name)]
    return column


def has_values(file: pq.ParquetFile, *names: str) -> bool:
    """Whether any row of a column has a value, were it an empty list."""
    columns = (read_column(file, group, *names) for group in range(file.num_row_groups))
    return any(column.null_count < len(column) for column in columns)
