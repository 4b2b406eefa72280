"""Which format a byte stream has: by its content first, by its name where content is ambiguous.

Lines end at a newline byte only: str.splitlines would also cut at U+2028 inside a JSON string.
"""

import io
import itertools
import json

from specmeasure.corpus.foreign import refuse_foreign
from specmeasure.corpus.json_rows import (
    explain_json_error,
    is_json,
    read_json_document,
    read_json_lines,
)
from specmeasure.corpus.problems import BadRow
from specmeasure.corpus.rows import BOM, RowStream, decode_utf8
from specmeasure.corpus.sources import Source
from specmeasure.corpus.text_rows import read_text
from specmeasure.errors import UnreadableCorpus

_HEAD_BYTES = 8192
_JSON_SUFFIXES = {".json", ".jsonl", ".ndjson"}


def read_rows(stream: io.BufferedReader, source: Source) -> RowStream:
    """Recognise the format and start reading; json lines are streamed, the rest is read whole."""
    refuse_foreign(stream.peek(_HEAD_BYTES)[:_HEAD_BYTES], source)
    opening = _read_opening(stream)  # blank lines, then the first filled one
    first_line = opening[-1].removeprefix(BOM.encode()).strip()
    if first_line.startswith(b"{") and is_json(first_line):
        lines = itertools.chain(opening, stream)
        return RowStream(format="jsonl", rows=read_json_lines(lines, source.name))
    content = b"".join(opening) + stream.read()
    if first_line.startswith((b"{", b"[")):
        return _read_document(content, first_line, source)
    return _read_lines(content, source)


def _read_opening(stream: io.BufferedReader) -> list[bytes]:
    opening: list[bytes] = []
    for line in stream:
        opening.append(line)
        if line.removeprefix(BOM.encode()).strip():
            return opening
    return [*opening, b""]


def _read_document(content: bytes, first_line: bytes, source: Source) -> RowStream:
    """A JSON document, unless it turns out to be lines that only start like one."""
    try:
        document = json.loads(decode_utf8(content))
    except BadRow as problem:
        if _looks_like_lines(problem, first_line, source):
            return _read_lines(content, source)
        raise UnreadableCorpus(f"{source.name}: {problem}") from problem
    except (ValueError, RecursionError) as error:
        if _looks_like_lines(error, first_line, source):
            return _read_lines(content, source)
        raise explain_json_error(error, source.name) from error
    if isinstance(document, list) and not (
        source.suffix in _JSON_SUFFIXES or any(isinstance(item, dict) for item in document)
    ):
        return _read_lines(content, source)  # a text file with a prompt such as "[1, 2, 3]"
    return read_json_document(document, source.name)


def _looks_like_lines(error: Exception, first_line: bytes, source: Source) -> bool:
    if first_line.startswith(b"["):  # outside JSON files: "[INST] ...", or a log line
        return source.suffix not in _JSON_SUFFIXES or str(error).startswith("Extra data")
    return source.suffix == ".txt" or first_line != b"{"


def _read_lines(content: bytes, source: Source) -> RowStream:
    opens_object = content.removeprefix(BOM.encode()).lstrip().startswith(b"{")
    if source.suffix in _JSON_SUFFIXES or (opens_object and source.suffix != ".txt"):
        lines = read_json_lines(io.BytesIO(content), source.name)
        return RowStream(format="jsonl", rows=lines)
    return read_text(content, source.name)
