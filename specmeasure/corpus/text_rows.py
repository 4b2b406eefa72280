"""Plain text to rows: a prompt is a line, a paragraph between blank lines, or the whole file."""

import io
import re
from collections.abc import Iterator
from typing import Literal

from specmeasure.corpus.foreign import refuse_nul
from specmeasure.corpus.opening import Opened
from specmeasure.corpus.problems import BadRow
from specmeasure.corpus.rows import (
    BOM,
    LONGEST_ROW_BYTES,
    SHORTEN,
    TOO_LONG,
    Lines,
    Row,
    RowStream,
    decode_utf8,
)
from specmeasure.errors import UnreadableCorpus

_BLANK_BETWEEN_FILLED = re.compile(rb"\S[^\S\n]*\n(?:[^\S\n]*\n)+[^\S\n]*\S")


def read_text(
    opened: Opened, name: str, split: Literal["auto", "line", "blank", "file"]
) -> RowStream:
    """Rows with their indentation and inner newlines; line ends become a newline."""
    if split == "auto":
        has_blank = _BLANK_BETWEEN_FILLED.search(opened.head.removeprefix(BOM.encode()))
        split = "blank" if has_blank else "line"
    match split:
        case "file":
            return RowStream(format="text, one prompt", rows=_read_file(opened.stream, name))
        case "blank":
            rows = _read_paragraphs(opened.stream, name)
            return RowStream(format="text, one prompt per paragraph", rows=rows)
        case _:
            rows = _read_lines(opened.stream, name)
            return RowStream(format="text, one prompt per line", rows=rows)


def read_text_lines(lines: Lines, name: str, *, keep_ends: bool = False) -> Iterator[str | None]:
    """Each line without its end, or None for one that is too long; not UTF-8 is an error."""
    for line in lines:
        if line is None:
            yield None
            continue
        refuse_nul(line, name, offset=lines.offset)
        try:
            text = decode_utf8(line, offset=lines.offset)
        except BadRow as problem:
            raise UnreadableCorpus(f"{name}: {problem}") from problem
        yield text if keep_ends else text.removesuffix("\n").removesuffix("\r")


def _read_lines(stream: io.BufferedIOBase, name: str) -> Iterator[Row]:
    lines = Lines(stream)
    for text in read_text_lines(lines, name):
        if text is None or text.strip():
            yield _row(name, lines.number, text)


def _read_paragraphs(stream: io.BufferedIOBase, name: str) -> Iterator[Row]:
    lines = Lines(stream)
    first = 0  # the line where the paragraph starts
    paragraph: list[str] = []
    num_characters = 0
    for text in read_text_lines(lines, name):
        if text is not None and not text.strip():
            if first:
                yield _row(name, first, _join(paragraph, num_characters))
            first, paragraph, num_characters = 0, [], 0
            continue
        first = first or lines.number
        num_characters += LONGEST_ROW_BYTES + 1 if text is None else len(text) + 1
        if num_characters <= LONGEST_ROW_BYTES:
            paragraph.append(text or "")
        else:
            paragraph.clear()
    if first:
        yield _row(name, first, _join(paragraph, num_characters))


def _read_file(stream: io.BufferedIOBase, name: str) -> Iterator[Row]:
    content = stream.read(LONGEST_ROW_BYTES + 1)
    if len(content) > LONGEST_ROW_BYTES:
        yield _row(name, 1, None)
        return
    lines = Lines(io.BytesIO(content))
    text = "\n".join(line or "" for line in read_text_lines(lines, name))
    if text.strip():
        yield _row(name, 1, text)


def _join(paragraph: list[str], num_characters: int) -> str | None:
    return "\n".join(paragraph) if num_characters <= LONGEST_ROW_BYTES else None


def _row(name: str, number: int, text: str | None) -> Row:
    value = BadRow(f"a prompt {TOO_LONG}", SHORTEN) if text is None else text
    return Row(source=f"{name}:{number}", number=number, value=value)
