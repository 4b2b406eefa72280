"""Parquet and arrow tables to rows, a small batch at a time."""

import datetime as dt
import decimal
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from specmeasure.corpus.opening import Opened
from specmeasure.corpus.rows import Row, RowStream
from specmeasure.errors import UnreadableCorpus

_BATCH_ROWS = 256
_BUFFER_BYTES = 2**20  # parts of a column are read at once, not a whole row group
_MAGICS = ((b"PAR1", "parquet"), (b"ARROW1", "arrow"), (b"\xff\xff\xff\xff", "arrow stream"))


def find_columnar(head: bytes) -> str | None:
    """The kind of table whose magic the bytes start with."""
    return next((kind for magic, kind in _MAGICS if head.startswith(magic)), None)


def read_columnar(opened: Opened, kind: str, name: str) -> RowStream:
    """Rows as dicts of what JSON knows: structs, lists, text, numbers, booleans and null."""
    return RowStream(format=kind, rows=_read_rows(opened, kind, name))


def to_json_row(row: Mapping[str, object]) -> dict[str, object]:
    """The row with dates and decimals as text and numbers, and binary as text or null."""
    return {column: _to_json_value(value) for column, value in row.items()}


def _read_rows(opened: Opened, kind: str, name: str) -> Iterator[Row]:
    index = 0
    with _open_seekable(opened, kind) as file:
        batches = _read_batches(file, kind)
        while True:
            with _explain_damage(kind, f"{name}[{index}]" if index else name):
                batch = next(batches, None)
            if batch is None:
                return
            for value in batch:
                yield Row(source=f"{name}[{index}]", number=index, value=value)
                index += 1


@contextmanager
def _open_seekable(opened: Opened, kind: str) -> Iterator[IO[bytes]]:
    """The file itself, or a temporary copy of what can only be read forwards."""
    if opened.path is not None:
        with opened.path.open("rb") as file:
            yield file
    elif kind == "arrow stream":
        yield opened.stream
    else:
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(opened.stream, copy)
            copy.seek(0)
            yield copy


def _read_batches(file: IO[bytes], kind: str) -> Iterator[list[dict[str, object]]]:
    for batch in _open_batches(file, kind):
        _require_unique(batch.schema.names)
        odd = [field.name for field in batch.schema if not _is_json_type(field.type)]
        for start in range(0, batch.num_rows, _BATCH_ROWS):  # arrow's own batches may be large
            rows = batch.slice(start, _BATCH_ROWS).to_pylist(maps_as_pydicts="lossy")
            for row in rows if odd else ():
                row.update({column: _to_json_value(row[column]) for column in odd})
            yield rows


def _open_batches(file: IO[bytes], kind: str) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    match kind:
        case "parquet":
            table = pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            yield from table.iter_batches(batch_size=_BATCH_ROWS, use_threads=False)
        case "arrow":
            reader = pa.ipc.open_file(file)
            for index in range(reader.num_record_batches):
                yield reader.get_batch(index)
        case _:
            yield from pa.ipc.open_stream(file)


def _require_unique(names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise ValueError("two columns have the same name")


def _is_json_type(kind: Any) -> bool:
    import pyarrow.types as known

    if known.is_struct(kind):
        return all(_is_json_type(field.type) for field in kind.fields)
    if known.is_map(kind):
        return _is_json_type(kind.key_type) and _is_json_type(kind.item_type)
    if known.is_list(kind) or known.is_large_list(kind) or known.is_dictionary(kind):
        return _is_json_type(kind.value_type)
    tests = (known.is_string, known.is_large_string, known.is_boolean, known.is_null)
    return any(test(kind) for test in (*tests, known.is_integer, known.is_floating))


def _to_json_value(value: object) -> object:
    match value:
        case dict():
            return {str(name): _to_json_value(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_to_json_value(inner) for inner in value]
        case bytes():
            return _to_text(value)
        case decimal.Decimal():
            return float(value)
        case None | str() | bool() | int() | float():
            return value
        case _:  # moments print as ISO 8601, the rest as they print
            return value.isoformat() if isinstance(value, dt.date | dt.time) else str(value)


def _to_text(value: bytes) -> str | None:
    """Older writers store text as binary; what is no text, such as an image, is nothing to us."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


@contextmanager
def _explain_damage(kind: str, place: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, ValueError, OverflowError, RecursionError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's own, not pyarrow's
        # pyarrow's words may quote the file: they stay in the chain, out of the message.
        raise UnreadableCorpus(
            f"{place}: the {kind} data cannot be read from here ({type(error).__name__}): damaged, "
            f"cut off, not UTF-8, or with two columns of one name. Write the file again."
        ) from error
