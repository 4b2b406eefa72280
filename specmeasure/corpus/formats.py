"""Which format a source has: by its content first, by its name where content is ambiguous."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from specmeasure.corpus.columnar import find_columnar, read_columnar
from specmeasure.corpus.foreign import refuse_foreign
from specmeasure.corpus.json_documents import find_rows_field, read_document, read_maybe_document
from specmeasure.corpus.json_rows import JSON_SUFFIXES, parse_json, read_json_lines
from specmeasure.corpus.opening import HEAD_BYTES, Opened, open_source
from specmeasure.corpus.problems import BadRow
from specmeasure.corpus.rows import BOM, RowStream
from specmeasure.corpus.sources import Source
from specmeasure.corpus.table_rows import read_table
from specmeasure.corpus.text_rows import read_text
from specmeasure.records.corpus import CorpusOptions

_TABLE_SUFFIXES = {".csv", ".tsv"}


@contextmanager
def rows_of(
    source: Source, options: CorpusOptions, stdin: IO[bytes] | None = None
) -> Iterator[RowStream]:
    """The rows of one source, read one by one as they are asked for inside the block.

    Raises:
        UnreadableCorpus: bytes that are no prompts, here or while rows are read.
    """
    if source.dataset is not None:
        from specmeasure.corpus.hub import read_dataset

        yield read_dataset(source.dataset)
        return
    with open_source(source, stdin) as opened:
        yield _read(opened, source, options)


def _read(opened: Opened, source: Source, options: CorpusOptions) -> RowStream:
    columnar = find_columnar(opened.head)
    if columnar is not None:
        return read_columnar(opened, columnar, source.name)
    refuse_foreign(opened.head, source)
    found = _recognise(opened.head, source) if options.format == "auto" else options.format
    match found:
        case "jsonl":
            rows = read_json_lines(opened.stream, source.name)
            return RowStream(format="jsonl", rows=rows)
        case "json":
            return read_document(opened.stream, source.name)
        case "csv" | "tsv":
            return read_table(opened, source.name, options, is_tsv=found == "tsv")
        case "text":
            return read_text(opened, source.name, options.text_split)
        case _:
            return read_maybe_document(opened, source, options.text_split)


def _recognise(head: bytes, source: Source) -> str:
    """A format of CorpusOptions, or "maybe json" where only reading on can tell."""
    opening = head.removeprefix(BOM.encode()).lstrip()
    first_line, newline, following = opening.partition(b"\n")
    if opening.startswith(b"{") and (newline or len(head) < HEAD_BYTES):
        value = _parse(first_line)
        if isinstance(value, dict):
            is_alone = len(head) < HEAD_BYTES and not following.strip()
            return "json" if is_alone and find_rows_field(value) else "jsonl"
    if source.suffix in _TABLE_SUFFIXES and not opening[1:].lstrip().startswith(b"{"):
        return source.suffix[1:]
    if opening.startswith((b"{", b"[")):
        return "maybe json"
    return "jsonl" if source.suffix in JSON_SUFFIXES else "text"


def _parse(line: bytes) -> object:
    try:
        return parse_json(line)
    except (ValueError, RecursionError, BadRow):
        return None
