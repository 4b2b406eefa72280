"""What a file is made of before anyone asks whether it is a prompt."""

from collections.abc import Iterator
from dataclasses import dataclass

from specmeasure.corpus.problems import BadRow

BOM = "\ufeff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line, array item or paragraph."""

    source: str  # "path:line" or "path[index]"
    number: int  # the line from 1, or the index from 0
    value: dict[str, object] | str | BadRow  # an object, plain text, or why it is neither


@dataclass(frozen=True, slots=True, kw_only=True)
class RowStream:
    """The rows of one file, read as they are asked for where the format allows."""

    format: str  # "jsonl", "json array", ...
    rows: Iterator[Row]


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
