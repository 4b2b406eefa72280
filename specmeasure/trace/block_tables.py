"""Blocks between parquet and arrays: many trials' blocks are a few columns, shared by them all."""

from array import array
from collections.abc import Sequence
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from specmeasure.errors import UnreadableTrace
from specmeasure.records.blocks import BlockColumns, BlockRows
from specmeasure.records.trace import BlockRecord
from specmeasure.trace.block_buffer import BlockBuffer
from specmeasure.trace.instances import make_instances
from specmeasure.trace.lines import Blocks
from specmeasure.trace.lists import StoredLists
from specmeasure.trace.parquet import TableWriter, has_values, open_table
from specmeasure.trace.tables import BLOCK_SCHEMA

_TYPES: dict[str, Any] = {
    "num_draft_tokens": np.int32,
    "num_accepted_tokens": np.int32,
    "num_emitted_tokens": np.int32,
    "context_length": np.int32,
    "draft_s": np.float64,
    "verify_s": np.float64,
    "truncated": np.bool_,
}
_DEPTH = "draft_depth"
ROW_GROUP = 1_000_000  # blocks
BLOCK_ENCODINGS: dict[str, Any] = {
    "use_dictionary": [
        "num_draft_tokens",
        "num_accepted_tokens",
        "num_emitted_tokens",
        "draft_depth",
    ],
    "column_encoding": {
        "trial_index": "DELTA_BINARY_PACKED",
        "context_length": "DELTA_BINARY_PACKED",
        "draft_s": "BYTE_STREAM_SPLIT",
        "verify_s": "BYTE_STREAM_SPLIT",
    },
}


def read_blocks(path: Path, num_trials: int) -> list[Sequence[BlockRecord]]:
    """The blocks of every trial; ids stay on disk until they are asked for.

    Raises:
        UnreadableTrace: a block that cannot be, or that belongs to no trial.
    """
    with open_table(path, BLOCK_SCHEMA) as file:
        num_blocks = file.metadata.num_rows
        arrays = {name: np.empty(num_blocks, kind) for name, kind in _TYPES.items()}
        depths = _Depths(arrays["num_draft_tokens"])
        sizes = np.zeros(num_trials, np.int64)
        start, last = 0, 0
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=["trial_index", *_TYPES, _DEPTH])
            stop = start + rows.num_rows
            for name, array in arrays.items():
                array[start:stop] = rows.column(name).to_numpy()
            depths.add(rows.column(_DEPTH), start)
            last = _count(path, rows.column("trial_index").to_numpy(), sizes, (start, last))
            start = stop
        ids: dict[str, Any] = {
            name: StoredLists(pq.ParquetFile(path), name) if has_values(file, name) else None
            for name in ("draft_ids", "emitted_ids")
        }
    columns = BlockColumns(
        **arrays,
        most_accepted=depths.most_accepted,
        is_tree=depths.is_tree,
        **ids,
    )
    _refuse_impossible(path, columns)
    return rows_of(columns, np.cumsum([0, *sizes]).tolist())


def rows_of(columns: BlockColumns, bounds: Sequence[int]) -> list[Sequence[BlockRecord]]:
    """Each trial's blocks, those of trial i from the i-th bound to before the next."""
    number = len(bounds) - 1
    own = {"columns": repeat(columns, number), "start": bounds, "stop": bounds[1:]}
    found: list[Sequence[BlockRecord]] = [*make_instances(BlockRows, number, own)]
    for trial, (start, stop) in enumerate(pairwise(bounds)):
        if start == stop:
            found[trial] = ()
    return found


class BlockWriter:
    """Writes blocks by row groups as they come; no more of them are held than one row group.

    Args:
        table: that they go to.
        size: blocks of a row group.
    """

    def __init__(self, table: TableWriter, *, size: int = ROW_GROUP) -> None:
        self._table = table
        self._size = size
        self._buffer = BlockBuffer()
        self._trials = array("i")
        self.num_blocks = 0

    def add(self, trial: int, blocks: Blocks) -> None:
        """Take in those of one trial, by its row in the trials' table."""
        self._buffer.add(blocks)
        self._trials.extend(repeat(trial, len(blocks)))
        if len(self._buffer) >= self._size:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        self._table.write(self._buffer.table(np.asarray(self._trials)))
        self.num_blocks += len(self._buffer)
        self._buffer, self._trials = BlockBuffer(), array("i")


class _Depths:
    """Which blocks were trees, and how many drafts each could have kept.

    Without a tree among them the second is the drafts' own array.
    """

    def __init__(self, num_draft_tokens: np.ndarray[Any, Any]) -> None:
        self._drafted = num_draft_tokens
        self.most_accepted = num_draft_tokens
        self.is_tree = np.broadcast_to(np.False_, num_draft_tokens.shape)

    def add(self, depths: pa.ChunkedArray, start: int) -> None:
        """Take in one row group's depths; the drafts are there already."""
        stop = start + len(depths)
        if depths.null_count == len(depths):
            if self.most_accepted is not self._drafted:
                self.most_accepted[start:stop] = self._drafted[start:stop]
            return
        if self.most_accepted is self._drafted:
            self.most_accepted, self.is_tree = self._drafted.copy(), self.is_tree.copy()
        is_tree = pc.is_valid(depths).to_numpy()
        self.is_tree[start:stop] = is_tree
        known = depths.fill_null(0).to_numpy()
        self.most_accepted[start:stop] = np.where(is_tree, known, self._drafted[start:stop])


def _count(
    path: Path, trials: np.ndarray[Any, Any], sizes: np.ndarray[Any, Any], at: tuple[int, int]
) -> int:
    """Add one row group's blocks to their trials' sizes; returns the last trial."""
    if not len(trials):
        return at[1]
    falls = trials < np.concatenate([trials[:1], trials[:-1]])
    falls[0] = trials[0] < at[1]
    if falls.any() or not trials[-1] < len(sizes):
        place = at[0] + int(np.argmax(falls | (trials >= len(sizes))))
        raise UnreadableTrace(
            f"{path}: row {place}: damaged: blocks of another trial than those around them"
        )
    np.add(sizes, np.bincount(trials, minlength=len(sizes)), out=sizes)
    return int(trials[-1])


def _refuse_impossible(path: Path, columns: Any) -> None:
    """A block that its record would refuse, by row."""
    for start in range(0, len(columns.truncated), ROW_GROUP):
        place = _impossible(columns, slice(start, start + ROW_GROUP))
        if place is None:
            continue
        try:
            columns.record(start + place)
        except ValueError as error:
            raise UnreadableTrace(f"{path}: row {start + place}: damaged: {error}") from error


def _impossible(columns: Any, rows: slice) -> int | None:
    """Which of some rows is the first that cannot be."""
    accepted, most = columns.num_accepted_tokens[rows], columns.most_accepted[rows]
    wrong = (accepted < 0) | (accepted > most)
    if columns.most_accepted is not columns.num_draft_tokens:
        wrong |= most > columns.num_draft_tokens[rows]
    wrong |= columns.num_emitted_tokens[rows] != accepted + ~columns.truncated[rows]
    return int(np.argmax(wrong)) if wrong.any() else None
