"""Positions and scores as parquet tables: one row for each token of each answer.

Rows stand in groups of about ``ROWS_PER_GROUP``, each of one candidate and of whole answers, so
that writing and reading hold one group beside what is read.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from specmeasure.records.replay import (
    TOKEN_CLASSES,
    CandidateScores,
    DraftScores,
    HeadScores,
    LookupScores,
    TargetScores,
)

ROWS_PER_GROUP = 1 << 20
_TYPES = {"f": pa.float32(), "b": pa.int8(), "h": pa.int16(), "i": pa.int32()}
_CODES: dict[type, dict[str, str]] = {  # of the arrays of each record
    TargetScores: {"token_class": "b", "entropy": "f", "token_prob": "f", "token_rank": "i"},
    DraftScores: {
        "accept_chance": "f",
        "argmax_hit": "b",
        "entropy": "f",
        "total_variation": "f",
        "token_rank": "i",
    },
    LookupScores: {"num_drafts": "h", "num_matching": "h"},
    HeadScores: {"rank": "i", "accept_chance": "f"},
}
_HEAD_COLUMNS = {"rank": "head_ranks", "accept_chance": "head_accept_chances"}  # lists, by head
_PLACE = [
    pa.field("answer_index", pa.int32(), nullable=False),  # row in answers.parquet
    pa.field("position", pa.int32(), nullable=False),  # token of the answer, from 0
]
_CLASS_NAMES = pa.dictionary(pa.int8(), pa.string())
POSITION_SCHEMA = pa.schema(
    [
        *_PLACE,
        *(
            pa.field(name, _CLASS_NAMES if name == "token_class" else _TYPES[code])
            for name, code in _CODES[TargetScores].items()
        ),
    ]
)
SCORE_SCHEMA = pa.schema(
    [
        pa.field("candidate", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        *_PLACE,
        *(  # null where the candidate is of another kind
            pa.field(name, _TYPES[code])
            for name, code in (_CODES[DraftScores] | _CODES[LookupScores]).items()
        ),
        *(
            pa.field(_HEAD_COLUMNS[name], pa.list_(_TYPES[code]))
            for name, code in _CODES[HeadScores].items()
        ),
    ]
)


def position_table(scores: Mapping[int, TargetScores]) -> pa.Table:
    """The target along answers, by the answers' places."""
    columns = _columns(scores)
    names = pa.array([name.value for name in TOKEN_CLASSES])
    classes = pa.DictionaryArray.from_arrays(columns.pop("token_class"), names)
    return (
        pa.table({**columns, "token_class": classes})
        .select(POSITION_SCHEMA.names)
        .cast(POSITION_SCHEMA)
    )


def score_table(candidate: str, scores: Mapping[int, CandidateScores]) -> pa.Table:
    """One candidate along answers."""
    columns = _columns(scores)
    num_rows = len(columns["position"])
    indices = pa.array(np.zeros(num_rows, dtype=np.int8))
    absent = {
        field.name: pa.nulls(num_rows, field.type)
        for field in SCORE_SCHEMA
        if field.name not in columns
    }
    absent["candidate"] = pa.DictionaryArray.from_arrays(indices, pa.array([candidate]))
    return pa.table({**columns, **absent}).select(SCORE_SCHEMA.names).cast(SCORE_SCHEMA)


def read_positions(path: Path) -> dict[int, TargetScores]:
    """The target's scores, by answer."""
    found: dict[int, TargetScores] = {}
    for table in _groups(path):
        for answer, arrays in _arrays_by_answer(table, _CODES[TargetScores]).items():
            _add(found, answer, TargetScores(**arrays))
    return found


def read_scores(path: Path) -> dict[str, dict[int, CandidateScores]]:
    """Every candidate's scores, by name and answer."""
    found: dict[str, dict[int, CandidateScores]] = {}
    for table in _groups(path):
        for name in pc.unique(table["candidate"]).to_pylist():
            own = found.setdefault(str(name), {})
            for answer, scores in _candidate(table, name):
                _add(own, answer, scores)
    return found


def _candidate(table: pa.Table, name: str) -> Iterator[tuple[int, CandidateScores]]:
    """One candidate's scores in a table, with their answers."""
    own = table.filter(pc.equal(table["candidate"], name))
    if not own[_HEAD_COLUMNS["rank"]].null_count:
        yield from _heads_by_answer(own).items()
        return
    kind = LookupScores if own["accept_chance"].null_count else DraftScores
    for answer, arrays in _arrays_by_answer(own, _CODES[kind]).items():
        yield answer, kind(**arrays)


def _groups(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group)


def _add(found: dict[int, Any], answer: int, scores: Any) -> None:
    """Keep what was read of an answer; a file written in other groups has it in pieces."""
    if (begun := found.get(answer)) is not None:
        whole = {name: getattr(begun, name) + getattr(scores, name) for name in _CODES[type(begun)]}
        scores = replace(begun, **whole)
    found[answer] = scores


def _columns(scores: Mapping[int, Any]) -> dict[str, pa.Array]:
    first = next(iter(scores.values()))
    codes = _CODES[type(first)]
    per_row = first.num_heads if isinstance(first, HeadScores) else 1
    lengths = [len(getattr(one, next(iter(codes)))) // per_row for one in scores.values()]
    columns = {}
    for name in codes:
        values = np.concatenate([_as_numpy(getattr(one, name)) for one in scores.values()])
        if isinstance(first, HeadScores):
            ends = np.arange(sum(lengths) + 1, dtype=np.int32) * per_row
            columns[_HEAD_COLUMNS[name]] = pa.ListArray.from_arrays(ends, values)
        else:
            columns[name] = pa.array(values)
    columns["answer_index"] = pa.array(np.repeat(np.fromiter(scores, dtype=np.int32), lengths))
    columns["position"] = pa.array(
        np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
    )
    return columns


def _as_numpy(values: "array[Any]") -> np.ndarray[Any, Any]:
    return np.frombuffer(values, dtype=values.typecode) if values else np.empty(0, values.typecode)


def _arrays_by_answer(table: pa.Table, codes: Mapping[str, str]) -> dict[int, dict[str, Any]]:
    columns = {
        name: np.ascontiguousarray(_plain(table[name]).astype(code)) for name, code in codes.items()
    }
    return {
        answer: {
            name: array(codes[name], values[rows].tobytes()) for name, values in columns.items()
        }
        for answer, rows in _rows_by_answer(table)
    }


def _heads_by_answer(table: pa.Table) -> dict[int, CandidateScores]:
    num_heads = len(table[_HEAD_COLUMNS["rank"]][0])
    columns = {
        name: np.asarray(pc.list_flatten(table[_HEAD_COLUMNS[name]])).reshape(-1, num_heads)
        for name in _CODES[HeadScores]
    }
    return {
        answer: HeadScores(
            num_heads=num_heads,
            rank=array("i", columns["rank"][rows].tobytes()),
            accept_chance=array("f", columns["accept_chance"][rows].tobytes()),
        )
        for answer, rows in _rows_by_answer(table)
    }


def _rows_by_answer(table: pa.Table) -> Iterator[tuple[int, slice]]:
    """Rows of one answer stand together, in order; so they were written."""
    answers = table["answer_index"].to_numpy()
    starts = np.flatnonzero(np.diff(answers, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(answers)], strict=True):
        yield int(answers[start]), slice(start, end)


def _plain(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    if not pa.types.is_dictionary(column.type):
        return np.asarray(column.to_numpy())
    whole = column.unify_dictionaries().combine_chunks()
    places = {name.value: place for place, name in enumerate(TOKEN_CLASSES)}
    known = np.array([places[name] for name in whole.dictionary.to_pylist()], dtype=np.int8)
    return np.asarray(known[whole.indices.to_numpy()])


def merge(parts: Iterable[Iterable[Path]], path: Path, schema: pa.Schema) -> None:
    """Write parts one after the other into one table; no row group holds rows of two sequences."""
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for own in parts:
            for table in _gathered(own, schema):
                writer.write_table(table, row_group_size=max(1, table.num_rows))


def _gathered(parts: Iterable[Path], schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables of ``ROWS_PER_GROUP`` rows or a part more, the last one smaller."""
    held: list[pa.Table] = []
    for path in parts:
        held.append(pq.read_table(path).cast(schema))
        if sum(table.num_rows for table in held) >= ROWS_PER_GROUP:
            yield pa.concat_tables(held).unify_dictionaries().combine_chunks()
            held = []
    if held:
        yield pa.concat_tables(held).unify_dictionaries().combine_chunks()
