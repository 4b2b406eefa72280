"""Trials from parquet, column by column; what many of them have in common is held once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from specmeasure.errors import UnreadableTrace
from specmeasure.records.machine import Crowding
from specmeasure.records.plan import Sampling, TrialKey
from specmeasure.records.serving import Load
from specmeasure.records.trace import (
    Audit,
    BlockRecord,
    Checks,
    Divergence,
    DraftCounts,
    FinishReason,
    Pull,
    SampledAudit,
    Score,
    SuspectToken,
    TokenProbs,
    TrialRecord,
)
from specmeasure.trace.instances import fill, make_instances
from specmeasure.trace.lists import KeptLists, ListRow, Lists, StoredLists
from specmeasure.trace.parquet import TableWriter, has_values, open_table
from specmeasure.trace.tables import CHECKS, TOKEN_PROBS, TRIAL_SCHEMA
from specmeasure.trace.values import ListMaker, Names, Values

_KINDS: dict[str, Callable[..., Any]] = {
    "finish_reason": FinishReason,
    "load": Load,
    "sampling": Sampling,
    "checks": Checks,
    "audit": Audit,
    "suspects": SuspectToken,
    "divergence": Divergence,
    "sampled_audit": SampledAudit,
    "surprise": Score,
    "score": Score,
    "pull": Pull,
    "token_probs": TokenProbs,
    "crowding": Crowding,
    "counts": DraftCounts,
}
ROW_GROUP = 25_000  # trials; what is made of one while it is read weighs more than it
ROWS_AT_ONCE = 5_000
_KEY = ("prompt_id", "turn", "repeat", "arm", "load")
_TEXT_ALONE = ("token_ids", "prompt_ids")
_IDS: tuple[Names, ...] = tuple((name,) for name in _TEXT_ALONE)
_PROBS, _PIT = ("checks", "token_probs"), ("checks", "sampled_audit", "pit")
_TEXT: tuple[Names, ...] = (*_IDS, *((*_PROBS, field.name) for field in TOKEN_PROBS))
_WITHOUT_TEXT = [name for name in TRIAL_SCHEMA.names if name not in (*_TEXT_ALONE, "checks")] + [
    f"checks.{field.name}" for field in CHECKS if field.name != "token_probs"
]


def read_trials(
    path: Path, blocks_of: Callable[[int], Sequence[Sequence[BlockRecord]]]
) -> list[TrialRecord]:
    """Trials in recorded order; text stays on disk until it is asked for.

    Args:
        path: of the table.
        blocks_of: given the number of trials, the blocks of each.

    Raises:
        UnreadableTrace: a trial that cannot be.
    """
    trials: list[TrialRecord] = []
    with open_table(path, TRIAL_SCHEMA) as file:
        blocks = blocks_of(file.metadata.num_rows)
        has_text = any(has_values(file, *names) for names in (*_IDS, _PROBS))
        names = TRIAL_SCHEMA.names if has_text else _WITHOUT_TEXT
        kept_open = pq.ParquetFile(path) if has_text else None
        stored = {text: StoredLists(kept_open, *text) for text in _TEXT if kept_open}
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=names)
            start = len(trials)
            makers = {text: _rows_of(lists, start) for text, lists in stored.items()}
            try:
                trials += _trials(rows, Values(_KINDS, {**makers, _PIT: _kept}))
            except ValueError as error:
                raise UnreadableTrace(f"{path}: damaged: {error}") from error
    fill(trials, "blocks", blocks)
    return trials


def write_trials(path: Path, trials: Iterable[TrialRecord]) -> None:
    """Write trials without their blocks, by row groups."""
    rest = iter(trials)
    with TableWriter(path, TRIAL_SCHEMA) as table:
        while group := [_rows(some) for some in _parts(islice(rest, ROW_GROUP))]:
            table.write(pa.concat_tables(group))


def _parts(trials: Iterator[TrialRecord]) -> Iterator[list[TrialRecord]]:
    """Few at a time: rows as dictionaries are large."""
    while part := list(islice(trials, ROWS_AT_ONCE)):
        yield part


def _rows(trials: Sequence[TrialRecord]) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for trial in trials:
        row = msgspec.to_builtins(replace(trial, blocks=()), enc_hook=tuple)
        del row["blocks"]
        labels = list(row.pop("labels").items())
        rows.append({**row.pop("key"), "labels": labels, **row})
    return pa.Table.from_pylist(rows, schema=TRIAL_SCHEMA)


def _trials(rows: pa.Table, values: Values) -> list[TrialRecord]:
    """Without their blocks. A trial itself has no invariant; what it holds was checked."""
    columns = {
        name: values.of(rows.column(name).combine_chunks(), name) for name in rows.column_names
    }
    own = {name: columns.pop(name) for name in _KEY}
    keys = make_instances(TrialKey, rows.num_rows, own)
    nothing = {name: repeat(None) for name in _TEXT_ALONE if name not in columns}
    return make_instances(TrialRecord, rows.num_rows, {**columns, **nothing, "key": keys})


def _kept(column: pa.ListArray) -> list[Any]:
    return _rows_of(KeptLists(column), 0)(column)


def _rows_of(lists: Lists, start: int) -> ListMaker:
    """Makes a column's rows out of what holds them, the first of them at ``start``."""

    def rows(column: pa.ListArray) -> list[Any]:
        there = column.is_valid().to_numpy(zero_copy_only=False).tolist()
        return [ListRow(lists, start + i) if known else None for i, known in enumerate(there)]

    return rows
