"""Plain text to rows: a line is a prompt, or a paragraph is where blank lines separate them."""

from collections.abc import Iterator
from itertools import groupby

from specmeasure.corpus.problems import BadRow
from specmeasure.corpus.rows import Row, RowStream, decode_utf8
from specmeasure.errors import UnreadableCorpus


def read_text(content: bytes, name: str) -> RowStream:
    """Rows with their indentation and inner newlines; line ends become a newline."""
    try:
        text = decode_utf8(content)
    except BadRow as problem:
        raise UnreadableCorpus(f"{name}: {problem}") from problem
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    numbered = enumerate(lines, start=1)
    paragraphs = [
        list(group)
        for filled, group in groupby(numbered, lambda line: bool(line[1].strip()))
        if filled
    ]
    if len(paragraphs) > 1:
        return RowStream(format="text, one prompt per paragraph", rows=_rows(paragraphs, name))
    one_each = [[line] for paragraph in paragraphs for line in paragraph]
    return RowStream(format="text, one prompt per line", rows=_rows(one_each, name))


def _rows(blocks: list[list[tuple[int, str]]], name: str) -> Iterator[Row]:
    for block in blocks:
        first_line = block[0][0]
        text = "\n".join(line for _, line in block)
        yield Row(source=f"{name}:{first_line}", number=first_line, value=text)
