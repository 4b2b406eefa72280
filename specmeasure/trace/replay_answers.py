"""A replay's answers: a line each while it is recorded, rows of a table once it is sealed.

Token ids are nearly all of their size: they stay on disk, and are read where they are needed.
"""

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from specmeasure.errors import UnreadableTrace
from specmeasure.records.plan import TrialKey
from specmeasure.records.replay import Answer

ROWS_PER_GROUP = 4096  # answers, with their ids where these are kept
SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("turn", pa.int32(), nullable=False),
        pa.field("repeat", pa.int32(), nullable=False),
        pa.field("arm", pa.string(), nullable=False),
        pa.field("labels", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("prompt_hash", pa.string(), nullable=False),
        pa.field(
            "sampling",
            pa.struct(
                [("temperature", pa.float64()), ("top_k", pa.int32()), ("top_p", pa.float64())]
            ),
            nullable=False,
        ),
        ("max_new_tokens", pa.int32()),
        pa.field("num_prompt_tokens", pa.int32(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("ids_hash", pa.string(), nullable=False),
        ("token_ids", pa.list_(pa.int32())),
        ("prompt_ids", pa.list_(pa.int32())),
    ]
)


class AnswerFile:
    """Answers in the order in which they were finished, on disk; memory holds where each stands."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] = path.open("ab")
        self._places: dict[TrialKey, int] = {}  # of lines in the file
        self._end = path.stat().st_size

    def fileno(self) -> int:
        """Of the open file, to be locked by."""
        return self._file.fileno()

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

    def add(self, answer: Answer) -> None:
        """Keep one answer; it is on disk when this returns."""
        line = msgspec.json.encode(answer) + b"\n"
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._places[answer.key] = self._end
        self._end += len(line)

    def read(self) -> Iterator[Answer]:
        """All of them, one in memory at a time; a torn line at the end is cut.

        Raises:
            UnreadableTrace: a line is damaged.
        """
        place = 0
        with self._path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    self._file.truncate(place)
                    break
                answer = self._decode(line)
                self._places[answer.key] = place
                place += len(line)
                yield answer
        self._end = place

    def answer(self, key: TrialKey) -> Answer:
        """One that was read or added here."""
        with self._path.open("rb") as file:
            file.seek(self._places[key])
            return self._decode(file.readline())

    def _decode(self, line: bytes) -> Answer:
        try:
            return msgspec.json.decode(line, type=Answer)
        except (msgspec.MsgspecError, ValueError) as error:
            raise UnreadableTrace(f"{self._path}: damaged: {error}") from error


def without_ids(answer: Answer) -> Answer:
    """What is known of an answer beside its tokens."""
    return replace(answer, token_ids=None, prompt_ids=None)


def write_answers(path: Path, answers: Iterable[Answer]) -> None:
    """Write them as a table, some thousands in memory at a time."""
    rows = map(_row, answers)
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        while chunk := list(itertools.islice(rows, ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_pylist(chunk, schema=SCHEMA))


def read_answers(path: Path) -> Iterator[Answer]:
    """Read them back, in their order; equal labels are one object."""
    shared: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_PER_GROUP):
            for row in batch.to_pylist():
                key = {name: row.pop(name) for name in ("prompt_id", "turn", "repeat", "arm")}
                labels = tuple(row.pop("labels"))
                answer = msgspec.convert({"key": key, "labels": {}, **row}, Answer)
                yield replace(answer, labels=shared.setdefault(labels, dict(labels)))


def _row(answer: Answer) -> dict[str, object]:
    row = msgspec.to_builtins(answer)
    row["labels"] = list(row["labels"].items())
    return {**row.pop("key"), **row}
