"""JSON text to rows, one object per line."""

import io
import json
from collections.abc import Iterator

import msgspec

from specmeasure.corpus.problems import BadRow, json_type
from specmeasure.corpus.rows import SHORTEN, TOO_LONG, Lines, Row, decode_utf8
from specmeasure.errors import UnreadableCorpus

JSON_SUFFIXES = {".json", ".jsonl", ".ndjson"}
REPAIR = "Write one JSON object on each line, or one array of objects"
_REFUSALS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_decode_fast = msgspec.json.Decoder().decode


def read_json_lines(stream: io.BufferedIOBase, name: str) -> Iterator[Row]:
    """Rows as lines arrive; blank lines are ignored, and a bad line is a row that says why."""
    lines = Lines(stream)
    for line in lines:
        value: object  # decoded here: this loop is where a large corpus spends its time
        try:
            value = (
                _decode_fast(line) if line is not None else BadRow(f"a line {TOO_LONG}", SHORTEN)
            )
        except _REFUSALS:
            value = _read_odd_line(line or b"", lines.offset)
        number = lines.number
        if isinstance(value, dict | BadRow):
            yield Row(source=f"{name}:{number}", number=number, value=value)
        elif value is not _BLANK:
            yield Row(source=f"{name}:{number}", number=number, value=require_object(value))


def parse_json(content: bytes) -> object:
    """One JSON value, NaN and lone surrogates too; BadRow, ValueError or RecursionError."""
    try:
        return _decode_fast(content)
    except _REFUSALS:
        return json.loads(decode_utf8(content))


def explain_json_error(error: Exception, name: str) -> UnreadableCorpus:
    """The error for a whole document, at the line where parsing stopped."""
    place = f"{name}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else name
    return UnreadableCorpus(f"{place}: {describe_json_error(error)}. {REPAIR}.")


def require_object(value: object) -> dict[str, object] | BadRow:
    """The value where it is an object, or why it is no row."""
    if isinstance(value, dict):
        return value
    return BadRow(f"{json_type(value)} where an object is expected", REPAIR)


def describe_json_error(error: Exception) -> str:
    """What is wrong and where in the line, without a word of the line itself."""
    match error:
        case json.JSONDecodeError():
            return f"not JSON ({error.msg}, column {error.colno})"
        case RecursionError():
            return "not JSON that can be read (nested too deeply)"
        case _:
            return "not JSON that can be read (a number with too many digits)"


_BLANK = object()


def _read_odd_line(line: bytes, offset: int) -> object:
    """What the fast parser refuses: blank lines, NaN, lone surrogates, and errors to describe."""
    try:
        text = decode_utf8(line, offset=offset).strip()
        return json.loads(text) if text else _BLANK
    except BadRow as problem:
        return problem
    except (ValueError, RecursionError) as error:
        return BadRow(describe_json_error(error), REPAIR)
