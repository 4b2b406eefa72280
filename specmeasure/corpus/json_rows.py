"""JSON text to rows: one object per line, or one document that is an array or an object."""

import json
from collections.abc import Iterable, Iterator

from specmeasure.corpus.problems import BadRow, json_type
from specmeasure.corpus.rows import Row, RowStream, decode_utf8
from specmeasure.errors import UnreadableCorpus

_REPAIR = "Write one JSON object on each line, or one array of objects"


def is_json(line: bytes) -> bool:
    """Whether a line is a whole JSON value by itself."""
    try:
        json.loads(decode_utf8(line))
    except (ValueError, RecursionError, BadRow):
        return False
    return True


def read_json_lines(lines: Iterable[bytes], name: str) -> Iterator[Row]:
    """Rows as lines arrive; blank lines are ignored, and a bad line is a row that says why."""
    offset = 0
    for number, line in enumerate(lines, start=1):
        value = _read_line(line, offset)
        offset += len(line)
        if value is not None:
            yield Row(source=f"{name}:{number}", number=number, value=value)


def read_json_document(document: object, name: str) -> RowStream:
    """The items of an array, or one object as the only row."""
    items = document if isinstance(document, list) else [document]
    rows = (
        Row(source=f"{name}[{index}]", number=index, value=_require_object(item))
        for index, item in enumerate(items)
    )
    return RowStream(format="json array" if items is document else "json object", rows=rows)


def explain_json_error(error: Exception, name: str) -> UnreadableCorpus:
    """The error for a whole document, at the line where parsing stopped."""
    place = f"{name}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else name
    return UnreadableCorpus(f"{place}: {_describe(error)}. {_REPAIR}.")


def _read_line(line: bytes, offset: int) -> dict[str, object] | BadRow | None:
    try:
        text = decode_utf8(line, offset=offset).strip()
        return _require_object(json.loads(text)) if text else None
    except BadRow as problem:
        return problem
    except (ValueError, RecursionError) as error:
        return BadRow(_describe(error), _REPAIR)


def _require_object(value: object) -> dict[str, object] | BadRow:
    if isinstance(value, dict):
        return value
    return BadRow(f"{json_type(value)} where an object is expected", _REPAIR)


def _describe(error: Exception) -> str:
    match error:
        case json.JSONDecodeError():
            return f"not JSON ({error.msg}, column {error.colno})"
        case RecursionError():
            return "not JSON that can be read (nested too deeply)"
        case _:
            return "not JSON that can be read (a number with too many digits)"
