"""One JSON document to rows: an array, an object that holds an array, or a single object."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from specmeasure.corpus.json_rows import (
    JSON_SUFFIXES,
    explain_json_error,
    parse_json,
    read_json_lines,
    require_object,
)
from specmeasure.corpus.json_stream import ROWS_FIELDS, stream_document
from specmeasure.corpus.opening import Opened, rejoin
from specmeasure.corpus.problems import BadRow
from specmeasure.corpus.rows import BOM, LONGEST_ROW_BYTES, Row, RowStream
from specmeasure.corpus.sources import Source
from specmeasure.corpus.text_rows import read_text
from specmeasure.errors import UnreadableCorpus

_OPENING_BYTES = 2**10
_WHOLE_BYTES = 32 * 2**20  # a document up to here is parsed at once, a longer one is streamed

TextSplit = Literal["auto", "line", "blank", "file"]


def find_rows_field(document: Mapping[str, object]) -> str | None:
    """The one field that holds the rows, or None where the object is a row itself."""
    found = [name for name in ROWS_FIELDS if _is_list_of_objects(document.get(name))]
    return found[0] if len(found) == 1 else None


def read_document(stream: io.BufferedReader, name: str) -> RowStream:
    """Rows of what must be one document; in bounded memory where it is long."""
    content, is_whole = _read_whole(stream)
    if not is_whole:
        return stream_document(rejoin(content, stream), name)
    try:
        return _open_document(parse_json(content), name)
    except BadRow as problem:
        raise UnreadableCorpus(f"{name}: {problem}") from problem
    except (ValueError, RecursionError) as error:
        raise explain_json_error(error, name) from error


def read_maybe_document(opened: Opened, source: Source, text_split: TextSplit) -> RowStream:
    """Rows of what opens a bracket: a document, unless it turns out to be lines."""
    content, is_whole = _read_whole(opened.stream)
    if not is_whole:
        stream = rejoin(content, opened.stream)
        if _opens_long_document(opened.head, source.suffix):
            return stream_document(stream, source.name)
        return _read_lines(opened.head, stream, source, text_split)
    try:
        document = parse_json(content)
    except (BadRow, ValueError, RecursionError) as error:
        if _looks_like_lines(error, opened.head, source.suffix):
            return _read_lines(opened.head, _reopen(content), source, text_split)
        if isinstance(error, BadRow):
            raise UnreadableCorpus(f"{source.name}: {error}") from error
        raise explain_json_error(error, source.name) from error
    if source.suffix not in JSON_SUFFIXES and not _holds_object(document):
        # A text file with a prompt such as "[1, 2, 3]".
        return _read_lines(opened.head, _reopen(content), source, text_split)
    return _open_document(document, source.name)


def _read_whole(stream: io.BufferedReader) -> tuple[bytes, bool]:
    """All bytes, or the first ones of a document that is to be streamed."""
    content = stream.read(_WHOLE_BYTES + 1)
    limit = _WHOLE_BYTES
    if _strip(content[:_OPENING_BYTES]).startswith(b"{"):  # may be one row: as long as rows can be
        content += stream.read(LONGEST_ROW_BYTES - _WHOLE_BYTES)
        limit = LONGEST_ROW_BYTES
    return content, len(content) <= limit


def _open_document(document: object, name: str) -> RowStream:
    if isinstance(document, list):
        return RowStream(format="json array", rows=_number(document, name))
    field = find_rows_field(document) if isinstance(document, dict) else None
    if isinstance(document, dict) and field is not None:
        items = document[field]
        return RowStream(format=f"json object with rows in {field}", rows=_number(items, name))
    return RowStream(format="json object", rows=_number([document], name))


def _number(items: Sequence[object], name: str) -> Iterator[Row]:
    for index, item in enumerate(items):
        yield Row(source=f"{name}[{index}]", number=index, value=require_object(item))


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _holds_object(document: object) -> bool:
    items = document if isinstance(document, list) else [document]
    return any(isinstance(item, dict) for item in items)


def _looks_like_lines(error: Exception, head: bytes, suffix: str) -> bool:
    opening = _strip(head)
    if opening.startswith(b"["):  # outside JSON files: "[INST] ...", or a log line
        return suffix not in JSON_SUFFIXES or str(error).startswith("Extra data")
    return suffix == ".txt" or opening.partition(b"\n")[0].strip() != b"{"


def _opens_long_document(head: bytes, suffix: str) -> bool:
    """A guess from the first megabyte of many."""
    opening = _strip(head)
    if opening.startswith(b"["):
        return suffix in JSON_SUFFIXES or opening[1:].lstrip().startswith(b"{")
    first_line, newline, _ = opening.partition(b"\n")
    if newline:
        return not first_line.rstrip().endswith(b"}")
    field = opening[1:].lstrip().partition(b":")[0].strip().strip(b'"')
    return suffix == ".json" or field in {name.encode() for name in ROWS_FIELDS}


def _read_lines(
    head: bytes, stream: io.BufferedReader, source: Source, text_split: TextSplit
) -> RowStream:
    opens_object = _strip(head).startswith(b"{")
    if source.suffix in JSON_SUFFIXES or (opens_object and source.suffix != ".txt"):
        return RowStream(format="jsonl", rows=read_json_lines(stream, source.name))
    return read_text(Opened(head=head, stream=stream, path=None), source.name, text_split)


def _reopen(content: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(content))


def _strip(head: bytes) -> bytes:
    return head.removeprefix(BOM.encode()).lstrip()
