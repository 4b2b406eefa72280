"""What a file is made of before anyone asks whether it is a prompt."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

from specmeasure.corpus.problems import BadRow

BOM = "\ufeff"
LONGEST_ROW_BYTES = 64 * 2**20  # what one row may hold in memory; prompts are far shorter
_SKIPPED_PIECE_BYTES = 2**20
TOO_LONG = f"longer than {LONGEST_ROW_BYTES // 2**20} MiB"
SHORTEN = "Leave it out, or write one prompt on each line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line, array item, table row or paragraph."""

    source: str  # "path:line" or "path[index]"
    number: int  # the line from 1, or the index from 0
    value: dict[str, object] | str | BadRow  # an object, plain text, or why it is neither


@dataclass(frozen=True, slots=True, kw_only=True)
class RowStream:
    """The rows of one file, read as they are asked for."""

    format: str  # "jsonl", "json array", "csv", ...
    rows: Iterator[Row]
    revision: str | None = None  # of a dataset on a hub


class Lines:
    """The lines of a stream with their place; memory is bounded whatever a line's length."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self.number = 0  # of the last line, from 1
        self.offset = 0  # where the last line starts, in bytes
        self.ended = False  # whether a line was asked for after the last one
        self._stream = stream
        self._next_offset = 0

    def __iter__(self) -> Iterator[bytes | None]:
        """Each line with its end, or None for one that is too long.

        Lines end at a newline byte only: a U+2028 inside a JSON string is no end.
        """
        readline = self._stream.readline
        while line := readline(LONGEST_ROW_BYTES + 1):
            self.number += 1
            self.offset = self._next_offset
            self._next_offset += len(line)
            if len(line) <= LONGEST_ROW_BYTES:
                yield line
            else:
                self._skip_rest(line)
                yield None
        self.ended = True

    def _skip_rest(self, piece: bytes) -> None:
        while piece and not piece.endswith(b"\n"):
            piece = self._stream.readline(_SKIPPED_PIECE_BYTES)
            self._next_offset += len(piece)


def decode_utf8(
    content: bytes,
    *,
    offset: int = 0,  # where content starts in its file
) -> str:
    """The text without a byte order mark, or BadRow with the offset of the first wrong byte."""
    try:
        return content.decode().removeprefix(BOM)
    except UnicodeDecodeError as error:
        raise BadRow(
            f"not UTF-8 at byte offset {offset + error.start}",
            "Convert it, e.g. iconv -f LATIN1 -t UTF-8",
        ) from error
