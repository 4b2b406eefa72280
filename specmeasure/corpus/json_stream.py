"""A JSON document of any length to rows, in bounded memory.

The standard parser reads one item after the other from a window of text that moves over the file.
An event parser such as ijson would do the same, but replaces lone surrogates with question marks,
refuses NaN, and keeps a path as long as the nesting is deep: 100,000 brackets cost it gigabytes.
"""

import codecs
import io
import json
from collections.abc import Iterator

from specmeasure.corpus.json_rows import REPAIR, describe_json_error, require_object
from specmeasure.corpus.problems import BadRow
from specmeasure.corpus.rows import BOM, LONGEST_ROW_BYTES, SHORTEN, TOO_LONG, Row, RowStream
from specmeasure.errors import UnreadableCorpus

ROWS_FIELDS = ("data", "rows", "examples")  # where documents keep their rows
_PIECE_BYTES = 2**20
_NEAR_END = 16  # an error this close to the window's end may only be a cut: "nul", "\ud8"
_BLANKS = " \t\r\n"

_decode_at = json.JSONDecoder().raw_decode


def stream_document(stream: io.BufferedIOBase, name: str) -> RowStream:
    """Rows of an array, or of the one array that an object holds under a known name."""
    window = _Window(stream, name)
    opening = window.peek()
    if opening == "[":
        return RowStream(format="json array", rows=_read_array(window, name))
    return RowStream(format="json object with rows in a field", rows=_read_object(window, name))


def _read_array(window: "_Window", name: str) -> Iterator[Row]:
    yield from _read_items(window, name)
    if window.peek():
        raise window.refuse("not JSON (Extra data)")


def _read_object(window: "_Window", name: str) -> Iterator[Row]:
    rows_field: str | None = None
    window.take("{")
    while window.peek() != "}":
        field = window.read_value()
        window.take(":")
        if field not in ROWS_FIELDS or window.peek() != "[":
            window.read_value()
        elif rows_field is not None:
            raise window.refuse(f"both {rows_field} and {field} hold rows")
        else:
            rows_field = str(field)
            yield from _read_items(window, name)
        if window.peek() != "}":
            window.take(",")
    window.take("}")
    if window.peek():
        raise window.refuse("not JSON (Extra data)")
    if rows_field is None:
        raise window.refuse(f"one long object without rows in {' or '.join(ROWS_FIELDS)}")


def _read_items(window: "_Window", name: str) -> Iterator[Row]:
    window.take("[")
    index = 0
    while window.peek() != "]":
        value = require_object(window.read_value())
        yield Row(source=f"{name}[{index}]", number=index, value=value)
        index += 1
        if window.peek() != "]":
            window.take(",")
    window.take("]")


class _Window:
    """The part of the text that is being parsed."""

    def __init__(self, stream: io.BufferedIOBase, name: str) -> None:
        self._stream = stream
        self._name = name
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0  # where the next value starts in the text
        self._line = 1  # of the text's first character
        self._num_bytes = 0  # read so far
        self._ended = False
        self._move()
        self._at = len(BOM) if self._text.startswith(BOM) else 0

    def peek(self) -> str:
        """The next character that is not blank, or "" at the end."""
        while True:
            while self._at < len(self._text):
                character = self._text[self._at]
                if character not in _BLANKS:
                    return character
                self._at += 1
            if self._ended:
                return ""
            self._move()

    def take(self, character: str) -> None:
        """Step over this character; anything else is an error."""
        if self.peek() != character:
            raise self.refuse(f"not JSON (Expecting {character!r})")
        self._at += 1

    def read_value(self) -> object:
        """The next value, however many pieces of the file it spans."""
        self.peek()
        while True:
            try:
                value, end = _decode_at(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended or not self._may_be_cut(error):
                    raise self._explain(error) from error
            except (ValueError, RecursionError) as error:
                raise self.refuse(describe_json_error(error)) from error
            else:
                if end < len(self._text) or self._ended:  # else a number may go on
                    self._at = end
                    return value
            if len(self._text) - self._at > LONGEST_ROW_BYTES:
                raise self.refuse(f"a value {TOO_LONG}", SHORTEN)
            self._move()

    def refuse(self, found: str, remedy: str = REPAIR) -> UnreadableCorpus:
        """The error at the place where the next value starts."""
        line = self._line + self._text.count("\n", 0, self._at)
        return UnreadableCorpus(f"{self._name}:{line}: {found}. {remedy}.")

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        return error.msg.startswith("Unterminated") or error.pos > len(self._text) - _NEAR_END

    def _explain(self, error: json.JSONDecodeError) -> UnreadableCorpus:
        line = self._line + self._text.count("\n", 0, error.pos)
        return UnreadableCorpus(f"{self._name}:{line}: not JSON ({error.msg}). {REPAIR}.")

    def _move(self) -> None:
        """Forget what was read and append more: as much as is pending, so that retries stay few."""
        self._line += self._text.count("\n", 0, self._at)
        pending = self._text[self._at :]
        piece = self._stream.read(max(_PIECE_BYTES, len(pending)))
        self._ended = not piece
        self._text = pending + self._decode(piece)
        self._at = 0
        self._num_bytes += len(piece)

    def _decode(self, piece: bytes) -> str:
        num_held = len(self._decoder.getstate()[0])  # bytes of a character cut in two
        try:
            return self._decoder.decode(piece, final=self._ended)
        except UnicodeDecodeError as error:
            offset = self._num_bytes - num_held + error.start
            problem = BadRow(
                f"not UTF-8 at byte offset {offset}", "Convert it, e.g. iconv -f LATIN1 -t UTF-8"
            )
            raise UnreadableCorpus(f"{self._name}: {problem}") from error
