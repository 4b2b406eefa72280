"""Which column of a table without a header holds the prompts."""

import itertools
from collections import Counter
from dataclasses import replace

from specmeasure.corpus.rows import RowStream
from specmeasure.errors import UnreadableCorpus

_NUM_LOOKED_AT = 100
_SUFFIX = "without header"  # of the formats whose columns are called 1, 2, ...


def decide_column(stream: RowStream, name: str) -> tuple[str | None, RowStream]:
    """The one column whose filled cells are mostly words, and the stream from its start again.

    It holds for the whole file: a blank or a number further down is no reason to take another.
    None where the table has a header, or is none.

    Raises:
        UnreadableCorpus: several columns hold words, or none does.
    """
    if not stream.format.endswith(_SUFFIX):
        return None, stream
    first = list(itertools.islice(stream.rows, _NUM_LOOKED_AT))
    again = replace(stream, rows=itertools.chain(first, stream.rows))
    cells = [row.value for row in first if isinstance(row.value, dict)]
    if not cells:
        return None, again
    filled = [(column, cell) for row in cells for column, cell in row.items() if _is_filled(cell)]
    num_filled = Counter(column for column, _ in filled)
    num_wordy = Counter(column for column, cell in filled if _is_wordy(str(cell)))
    columns = [column for column in cells[0] if num_wordy[column] > num_filled[column] / 2]
    if len(columns) != 1:
        raise UnreadableCorpus(
            f"{name}: this table has no header, and {len(columns)} of its columns hold text. "
            f"Pass --column {next(iter(columns), '1')}, or another number."
        )
    return columns[0], again


def _is_filled(cell: object) -> bool:
    return isinstance(cell, str) and bool(cell.strip())


def _is_wordy(cell: str) -> bool:
    try:
        float(cell.replace(",", ""))
    except ValueError:
        return True
    return False
