"""A replay's folder: parts while it is recorded, then sealed parquet tables.

    replay.json         what was asked, of which prompts, where and with what
    parts/              while it is recorded: answers.jsonl with token ids, a table for each batch
    answers.parquet     after sealing: one row per answer
    positions.parquet   one row per token: the target
    scores.parquet      one row per token and candidate
    recording.json      what recording took, what candidates weigh, what steps cost
    sealed.json         digests; its presence seals the replay

A crash loses at most the answer or the batch in flight. Token ids are in ``parts`` alone, which
only its owner can read and which sealing removes, unless text is kept. Sealing holds one row group
in memory, however long the replay was.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from specmeasure.errors import UnreadableTrace, UsageError
from specmeasure.records.costs import CostTable
from specmeasure.records.machine import Fleet, Worker
from specmeasure.records.plan import TrialKey
from specmeasure.records.replay import (
    Answer,
    CandidateFacts,
    CandidateScores,
    RecordingFacts,
    ReplayManifest,
    ReplayTrace,
    TargetScores,
)
from specmeasure.trace import replay_tables
from specmeasure.trace.replay_answers import AnswerFile, read_answers, write_answers
from specmeasure.trace.store import digest_of, plain, with_later, write_whole

REPLAY_SCHEMA_VERSION = 2
MANIFEST, RECORDING, SEAL = "replay.json", "recording.json", "sealed.json"
ANSWERS, POSITIONS, SCORES = "answers.parquet", "positions.parquet", "scores.parquet"
PARTS, ANSWER_PARTS = "parts", "answers.jsonl"
T = TypeVar("T")


class _Recording(msgspec.Struct):
    """Everything recorded beside the tables."""

    recording: RecordingFacts
    candidates: tuple[CandidateFacts, ...]
    costs: CostTable


class ReplayJournal:
    """Writes a replay's parts; holds the folder's lock until closed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts = folder / PARTS
        self._parts.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._answers = AnswerFile(self._parts / ANSWER_PARTS)
        try:
            fcntl.flock(self._answers, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._answers.close()
            raise UsageError(f"{folder}: another process is recording into this replay.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()

    def add_answer(self, answer: Answer) -> None:
        """Keep one answer with its ids; it is on disk when this returns."""
        self._answers.add(answer)

    def answers(self) -> Iterator[Answer]:
        """All that were kept, in the order in which they were finished; a torn line is cut."""
        return self._answers.read()

    def answer(self, key: TrialKey) -> Answer:
        """One that ``answers`` told of, or that was added since, with its ids."""
        return self._answers.answer(key)

    def has_positions(self, batch: int) -> bool:
        """Whether the target was scored along a batch."""
        return self._positions(batch).is_file()

    def add_positions(self, batch: int, scores: Mapping[int, TargetScores]) -> None:
        """Keep the target's scores along the answers of one batch."""
        _write_table(self._positions(batch), replay_tables.position_table(scores))

    def has_scores(self, candidate: int, batch: int) -> bool:
        """Whether a candidate was scored along a batch."""
        return self._scores(candidate, batch).is_file()

    def add_scores(
        self, candidate: int, name: str, batch: int, scores: Mapping[int, CandidateScores]
    ) -> None:
        """Keep one candidate's scores along the answers of one batch."""
        _write_table(self._scores(candidate, batch), replay_tables.score_table(name, scores))

    def note(self, name: str, record: Any) -> None:
        """Keep a record under a name."""
        write_whole(self._parts / f"{name}.json", msgspec.json.encode(record))

    def noted(self, name: str, kind: type[T]) -> T | None:
        """The record of this name, if there is one."""
        path = self._parts / f"{name}.json"
        return msgspec.json.decode(path.read_bytes(), type=kind) if path.is_file() else None

    def seal(
        self,
        answers: Iterable[Answer],
        recording: RecordingFacts,
        candidates: tuple[CandidateFacts, ...],
        costs: CostTable,
    ) -> None:
        """Turn the parts into tables; answers come in the order that scores refer to."""
        _write_file(self._folder / ANSWERS, lambda path: write_answers(path, answers))
        for name, pattern, schema in (
            (POSITIONS, "positions-*.parquet", replay_tables.POSITION_SCHEMA),
            (SCORES, "scores-*.parquet", replay_tables.SCORE_SCHEMA),
        ):
            parts = groupby(sorted(self._parts.glob(pattern)), key=_sequence)
            _write_file(
                self._folder / name,
                lambda path, parts=parts, schema=schema: replay_tables.merge(  # type: ignore[misc]
                    (own for _, own in parts), path, schema
                ),
            )
        facts = _Recording(recording=recording, candidates=candidates, costs=costs)
        write_whole(self._folder / RECORDING, plain(facts))
        sealed = (MANIFEST, ANSWERS, POSITIONS, SCORES, RECORDING)
        digests = {name: digest_of(self._folder / name) for name in sealed}
        write_whole(self._folder / SEAL, plain({"sha256": digests}))
        drop_parts(self._folder)

    def _positions(self, batch: int) -> Path:
        return self._parts / f"positions-{batch:06d}.parquet"

    def _scores(self, candidate: int, batch: int) -> Path:
        return self._parts / f"scores-{candidate:03d}-{batch:06d}.parquet"


def _sequence(part: Path) -> str:
    """What the batches of a part's name are of: a candidate, or the target."""
    return part.name.rpartition("-")[0]


def is_replay(folder: Path) -> bool:
    """Whether the folder holds a replay, finished or not."""
    return (folder / MANIFEST).is_file()


def is_sealed(folder: Path) -> bool:
    """Whether the replay is finished and must not be touched."""
    return is_replay(folder) and (folder / SEAL).is_file()


def drop_parts(folder: Path) -> None:
    """Remove what a crash after sealing left of the recording."""
    shutil.rmtree(folder / PARTS, ignore_errors=True)


def create_replay(folder: Path, manifest: ReplayManifest, *, replace: bool = False) -> None:
    """Start a replay's folder.

    Raises:
        UsageError: it holds a replay that is not to be replaced.
    """
    if is_replay(folder) and not replace:
        refuse_existing(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with ReplayJournal(folder):
        for name in (SEAL, MANIFEST, ANSWERS, POSITIONS, SCORES, RECORDING):
            (folder / name).unlink(missing_ok=True)
        drop_parts(folder)
        write_whole(folder / MANIFEST, plain(manifest))


def add_workers(folder: Path, workers: Sequence[Worker], fleet: Fleet | None = None) -> None:
    """Write workers that came later into the manifest; see ``store.add_workers``.

    Raises:
        UsageError: the replay is sealed, and its manifest with it.
    """
    if is_sealed(folder):
        raise UsageError(f"{folder}: this replay is finished; nothing is added to it.")
    manifest = read_replay_manifest(folder)
    request = manifest.request.request
    asked = replace(manifest.request, request=replace(request, fleet=fleet or request.fleet))
    joined = with_later(manifest.workers, workers)
    changed = replace(manifest, request=asked, workers=joined)
    if changed != manifest:
        write_whole(folder / MANIFEST, plain(changed))


def refuse_existing(folder: Path) -> None:
    """Raise UsageError where the folder already holds a replay."""
    if is_replay(folder):
        raise UsageError(
            f"{folder} already holds a replay. Continue it with --resume {folder}, name another "
            "folder with --out, or replace it with --force."
        )


def read_replay_manifest(folder: Path) -> ReplayManifest:
    """What was asked.

    Raises:
        UnreadableTrace: no replay, a damaged one, or one of another schema.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UnreadableTrace(
            f"{folder}: no {MANIFEST} there; name a folder that a replay or heads profile wrote."
        )
    raw = path.read_bytes()
    try:
        version = msgspec.json.decode(raw).get("schema_version")
        if version != REPLAY_SCHEMA_VERSION:
            raise UnreadableTrace(
                f"{path}: schema version {version}, this specmeasure reads "
                f"{REPLAY_SCHEMA_VERSION}. Use the version named in its environment."
            )
        return msgspec.json.decode(raw, type=ReplayManifest)
    except (msgspec.MsgspecError, ValueError, AttributeError) as error:
        raise UnreadableTrace(f"{path}: damaged: {error}") from error


def read_replay(folder: Path) -> ReplayTrace:
    """A finished replay.

    Raises:
        UnreadableTrace: unfinished, changed since it was sealed, or damaged.
    """
    manifest = read_replay_manifest(folder)
    if not is_sealed(folder):
        raise UnreadableTrace(
            f"{folder}: this replay is not finished. Go on with: specmeasure replay --resume "
            f"{folder}"
        )
    for name, digest in msgspec.json.decode((folder / SEAL).read_bytes())["sha256"].items():
        if not (folder / name).is_file() or digest_of(folder / name) != digest:
            raise UnreadableTrace(f"{folder / name}: missing, or changed since it was sealed.")
    answers = tuple(read_answers(folder / ANSWERS))
    facts = msgspec.json.decode((folder / RECORDING).read_bytes(), type=_Recording)
    positions = replay_tables.read_positions(folder / POSITIONS)
    scores = replay_tables.read_scores(folder / SCORES)
    places = range(len(answers))
    return ReplayTrace(
        manifest=manifest,
        answers=answers,
        target=tuple(positions[place] for place in places),
        scores={name: tuple(own[place] for place in places) for name, own in scores.items()},
        candidates=facts.candidates,
        recording=facts.recording,
        costs=facts.costs,
    )


def _write_table(path: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_whole(path, sink.getvalue().to_pybytes())


def _write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let a file be written beside its place, then put it there; the seal's own sync follows."""
    partial = path.with_suffix(path.suffix + ".partial")
    write(partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
