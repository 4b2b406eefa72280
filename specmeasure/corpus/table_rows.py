"""csv and tsv to rows: a dict by the header's names, or by "1", "2", ... where there is none."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Literal

from specmeasure.corpus.opening import HEAD_BYTES, Opened
from specmeasure.corpus.problems import BadRow
from specmeasure.corpus.rows import BOM, LONGEST_ROW_BYTES, SHORTEN, TOO_LONG, Lines, Row, RowStream
from specmeasure.corpus.text_rows import read_text_lines
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import CorpusOptions

_KNOWN_COLUMNS = {
    *("prompt", "prompts", "instruction", "question", "input", "context", "content", "text"),
    *("turn", "turns", "message", "messages", "conversation", "conversations", "query", "user"),
}
_IDENTIFIER = re.compile(r"(?=.{1,40}$)[A-Za-z_][\w.\-]*(?: [\w.\-]+)?")
_DELIMITERS = ",;\t"
_QUOTED = re.compile(r'"[^"]*"')


def read_table(opened: Opened, name: str, options: CorpusOptions, *, is_tsv: bool) -> RowStream:
    """Rows in order; the first record decides whether there is a header."""
    dialect = _find_dialect(opened.head, is_tsv=is_tsv)
    records = _Records(opened, name, dialect)
    kind = "tsv" if is_tsv else "csv"
    first = records.next_filled()
    if first is None:
        return RowStream(format=kind, rows=iter(()))
    if isinstance(first, list) and _is_header(first, options):
        return RowStream(format=kind, rows=_read_rows(records, _name_columns(first, records), None))
    columns = [str(index) for index in range(1, len(first) + 1)] if isinstance(first, list) else []
    return RowStream(format=f"{kind} without header", rows=_read_rows(records, columns, first))


class _Records:
    """The records of a table with the line where each starts."""

    def __init__(self, opened: Opened, name: str, dialect: type[csv.Dialect]) -> None:
        self.name = name
        self.line = 0  # where the last record starts
        self._lines = Lines(opened.stream)
        # The limit belongs to the process; the default of 128 KiB is less than long prompts hold.
        csv.field_size_limit(LONGEST_ROW_BYTES)
        self._reader = csv.reader(self._read_lines(), dialect)

    def next_filled(self) -> list[str] | BadRow | None:
        """The next record that is no blank line; None at the end."""
        while True:
            self.line = self._lines.number + 1
            try:
                cells = next(self._reader, None)
            except csv.Error as error:
                return self._explain(error)
            if cells is not None and self._lines.ended:  # it was still inside quotes
                raise self._unclosed()
            if cells != []:
                return cells

    def _explain(self, error: csv.Error) -> BadRow:
        if "field larger" in str(error):
            raise self._unclosed() from error
        return BadRow("a carriage return in an unquoted cell", "End lines with a newline")

    def _unclosed(self) -> UnreadableCorpus:
        return UnreadableCorpus(
            f"{self.name}:{self.line}: a quoted cell of the row that starts here is never closed. "
            f"Double the quotes inside a quoted cell, and close every quote."
        )

    def _read_lines(self) -> Iterator[str]:
        for line in read_text_lines(self._lines, self.name, keep_ends=True):
            if line is None:
                raise UnreadableCorpus(
                    f"{self.name}:{self._lines.number}: a line {TOO_LONG}. {SHORTEN}."
                )
            yield line


def _read_rows(
    records: _Records,
    columns: Sequence[str],
    first: list[str] | BadRow | None,  # a record already read that is no header
) -> Iterator[Row]:
    cells = records.next_filled() if first is None else first
    while cells is not None:
        if isinstance(cells, list) and not columns:
            columns = [str(index) for index in range(1, len(cells) + 1)]
        value = cells if isinstance(cells, BadRow) else _match_cells(cells, columns)
        yield Row(source=f"{records.name}:{records.line}", number=records.line, value=value)
        cells = records.next_filled()


def _match_cells(cells: list[str], columns: Sequence[str]) -> dict[str, object] | BadRow:
    if len(cells) == len(columns):
        return dict(zip(columns, cells, strict=True))
    return BadRow(
        f"a row of {len(cells)} cells where the first row has {len(columns)}",
        "Quote cells that hold the separator",
    )


def _find_dialect(head: bytes, *, is_tsv: bool) -> type[csv.Dialect]:
    text = head.removeprefix(BOM.encode()).lstrip(b"\r\n").decode(errors="replace")
    header = _QUOTED.sub("", text.partition("\n")[0])
    by_count = max(_DELIMITERS, key=header.count)  # the first of equals: a comma
    if is_tsv:
        is_quoted = _is_quoted(text, is_cut=len(head) >= HEAD_BYTES)
        return _new_dialect("\t", csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE)
    return _new_dialect(by_count, csv.QUOTE_MINIMAL)


def _new_dialect(separator: str, quotes: Literal[0, 3]) -> type[csv.Dialect]:
    class Dialect(csv.Dialect):
        delimiter = separator
        quoting = quotes
        lineterminator = "\n"
        quotechar = '"'
        doublequote = True

    return Dialect


def _is_quoted(text: str, *, is_cut: bool) -> bool:
    """Whether quotes in a tsv enclose cells; in many they are text like any other."""
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter="\t", strict=True)
    widths: list[int] = []
    try:
        widths.extend(len(cells) for cells in reader if cells)
    except csv.Error:
        return is_cut and reader.line_num >= text.count("\n")
    return len(set(widths[: -1 if is_cut else None])) <= 1


def _is_header(cells: list[str], options: CorpusOptions) -> bool:
    names = [cell.strip() for cell in cells]
    asked = (options.field, options.response_field, options.category_field, *options.slice_by)
    if any(name and name in {path, _root(path)} for path in asked if path for name in names):
        return True
    if any(name.casefold() in _KNOWN_COLUMNS for name in names):
        return True
    are_unique = len({name.casefold() for name in names}) == len(names) > 1
    return are_unique and all(_IDENTIFIER.fullmatch(name) for name in names)


def _root(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _name_columns(cells: list[str], records: _Records) -> list[str]:
    names = [cell.strip() or str(index) for index, cell in enumerate(cells, start=1)]
    if len(set(names)) < len(names):
        raise UnreadableCorpus(
            f"{records.name}:{records.line}: two columns have the same name. Rename one of them."
        )
    return names
