"""A run folder: manifest.json, then a journal while it runs, then sealed parquet tables.

    manifest.json      plan, corpus facts, environment, models
    journal.jsonl      one line per trial or audit, on disk before the next trial starts; of a run
                       on servers one per window, with its trials and their audits
    journal-N.jsonl    of a run over workers: the same, for each worker
    trials.parquet     after sealing: one row per trial
    blocks.parquet     after sealing: one row per block, joined by trial_index
    windows.parquet    after sealing a run on servers: one row per window
    sealed.json        row counts and digests; its presence seals the run

A crash loses at most the line being written. A sealed run is never modified.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from specmeasure.errors import UnreadableTrace, UsageError
from specmeasure.records.machine import Fleet, Worker
from specmeasure.records.serving import ServerFacts
from specmeasure.records.trace import Manifest, Trace
from specmeasure.trace import tables
from specmeasure.trace.block_tables import BLOCK_ENCODINGS, BlockWriter, read_blocks
from specmeasure.trace.files import digest_of, write_whole
from specmeasure.trace.held_blocks import HeldBlocks
from specmeasure.trace.journal import (
    JOURNAL,
    Journal,
    WorkerJournals,
    drop_journals,
    worker_journals,
)
from specmeasure.trace.parquet import TableWriter
from specmeasure.trace.recorded import read_journals
from specmeasure.trace.trial_tables import read_trials, write_trials

__all__ = [
    "JOURNAL",
    "MANIFEST",
    "SCHEMA_VERSION",
    "SEAL",
    "Journal",
    "WorkerJournals",
    "add_servers",
    "add_workers",
    "create_run",
    "digest_of",
    "is_sealed",
    "next_worker",
    "plain",
    "read_manifest",
    "read_trace",
    "refuse_busy",
    "refuse_existing",
    "seal_run",
    "with_later",
    "write_whole",
]
SCHEMA_VERSION = 7
MANIFEST, SEAL = "manifest.json", "sealed.json"


class _Seal(msgspec.Struct, omit_defaults=True):
    """Row counts, and a digest of every sealed file."""

    num_trials: int
    num_blocks: int
    sha256: dict[str, str]
    num_windows: int = 0
    num_void: int = 0  # trials measured again, since their worker died before their turn was whole


def refuse_existing(folder: Path) -> None:
    """Raise UsageError where the folder already holds a run."""
    if (folder / MANIFEST).exists():
        raise UsageError(
            f"{folder} already holds a run. Continue it with --resume {folder}, name another "
            "folder with --out, or replace it with --force."
        )


def refuse_busy(folder: Path) -> None:
    """Raise UsageError where another process is recording into the folder's run."""
    if (folder / JOURNAL).exists():
        Journal(folder).close()


def create_run(folder: Path, manifest: Manifest, *, replace_run: bool = False) -> None:
    """Start a run folder, under the lock that recorders take.

    Raises:
        UsageError: it holds a run that is not to be replaced, or one is being recorded there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with Journal(folder) as journal:
        if not replace_run:
            refuse_existing(folder)
        _remove_run(folder)
        journal.clear()
        _write_manifest(folder, manifest)


def add_servers(folder: Path, servers: Sequence[ServerFacts]) -> None:
    """Write servers that were not there when the run began into its manifest."""
    manifest = read_manifest(folder)
    if servers:
        _write_manifest(folder, replace(manifest, servers=(*manifest.servers, *servers)))


def add_workers(folder: Path, workers: Sequence[Worker], fleet: Fleet | None = None) -> None:
    """Write workers that were not there when the run began into its manifest.

    One that is known by its number stays as it is. The caller holds the folder's lock.

    Args:
        folder: of the run.
        workers: all that are known.
        fleet: the workers asked for now; None: as before.

    Raises:
        UsageError: the run is sealed, and its manifest with it.
    """
    if is_sealed(folder):
        raise UsageError(f"{folder}: this run is finished; nothing is added to it.")
    manifest = read_manifest(folder)
    joined = with_later(manifest.workers, workers)
    changed = replace(manifest, workers=joined, fleet=fleet or manifest.fleet)
    if changed != manifest:
        _write_manifest(folder, changed)


def with_later(known: Sequence[Worker], workers: Sequence[Worker]) -> tuple[Worker, ...]:
    """Workers that are known, and those of other numbers."""
    numbers = {one.number for one in known}
    return (*known, *(one for one in workers if one.number not in numbers))


def next_worker(folder: Path, known: Sequence[Worker]) -> int:
    """The first number that no worker of the run has, neither a known one's nor a journal's."""
    numbers = [one.number for one in known]
    numbers += [number for number, _ in worker_journals(folder)]
    return max(numbers, default=-1) + 1


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    write_whole(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2))


def _remove_run(folder: Path) -> None:
    """Delete what a run consists of but its locked journal; the manifest goes last."""
    for _, path in worker_journals(folder):
        path.unlink()
    for name in (SEAL, tables.TRIALS, tables.BLOCKS, tables.WINDOWS, MANIFEST):
        (folder / name).unlink(missing_ok=True)


def is_sealed(folder: Path) -> bool:
    """Whether the run is finished and must not be touched."""
    return (folder / SEAL).is_file()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a run.

    Raises:
        UnreadableTrace: no run, a damaged one, or one of another schema.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UnreadableTrace(f"{folder}: no {MANIFEST} there; name a folder that a run wrote.")
    raw = path.read_bytes()
    try:
        version = msgspec.json.decode(raw).get("schema_version")
        if version != SCHEMA_VERSION:
            raise UnreadableTrace(
                f"{path}: schema version {version}, this specmeasure reads {SCHEMA_VERSION}. Use "
                "the version named in the manifest's environment."
            )
        return msgspec.json.decode(raw, type=Manifest)
    except (msgspec.MsgspecError, ValueError, AttributeError) as error:
        raise UnreadableTrace(f"{path}: damaged: {error}") from error


def read_trace(folder: Path) -> Trace:
    """A run, sealed or as far as it got. Its blocks are columns; kept text is read when asked for.

    Raises:
        UnreadableTrace: no run, one that changed since it was sealed, or a damaged one.
    """
    manifest = read_manifest(folder)
    with _no_collecting():
        return _read_sealed(folder, manifest) if is_sealed(folder) else _read_open(folder, manifest)


def _read_open(folder: Path, manifest: Manifest) -> Trace:
    blocks = HeldBlocks()
    recorded = read_journals(folder, blocks)
    return Trace(
        manifest=manifest,
        trials=blocks.join(tuple(recorded.trials.values())),
        sealed=False,
        windows=tuple(recorded.windows.values()),
        num_void=recorded.num_void,
    )


def _read_sealed(folder: Path, manifest: Manifest) -> Trace:
    seal = _read_seal(folder / SEAL)
    for name, digest in seal.sha256.items():
        if not (folder / name).is_file() or digest_of(folder / name) != digest:
            raise UnreadableTrace(f"{folder / name}: missing, or changed since it was sealed.")
    blocks_of = partial(read_blocks, folder / tables.BLOCKS)
    return Trace(
        manifest=manifest,
        trials=tuple(read_trials(folder / tables.TRIALS, blocks_of)),
        sealed=True,
        windows=tuple(tables.read_windows(folder)) if tables.WINDOWS in seal.sha256 else (),
        num_void=seal.num_void,
    )


@contextmanager
def _no_collecting() -> Iterator[None]:
    """Records make no rings; looking for some among so many takes longer than reading."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not gc.get_freeze_count():  # else another's would be thawed
                gc.freeze()
                gc.unfreeze()  # they are old now, and no collection of the young looks through them
            gc.enable()


def seal_run(folder: Path) -> None:
    """Turn finished journals into parquet tables. Safe to repeat, also after a crash.

    Blocks are written as they are read; trials are held, without their blocks.
    """
    if is_sealed(folder):
        drop_journals(folder)
        return
    with (
        _no_collecting(),
        TableWriter(folder / tables.BLOCKS, tables.BLOCK_SCHEMA, **BLOCK_ENCODINGS) as table,
    ):
        blocks = BlockWriter(table)
        recorded = read_journals(folder, blocks)
        blocks.flush()
    write_trials(folder / tables.TRIALS, recorded.trials.values())
    sealed = [MANIFEST, tables.TRIALS, tables.BLOCKS]
    if recorded.windows:
        tables.write_windows(folder, tuple(recorded.windows.values()))
        sealed.append(tables.WINDOWS)
    seal = _Seal(
        num_trials=len(recorded.trials),
        num_blocks=blocks.num_blocks,
        sha256={name: digest_of(folder / name) for name in sealed},
        num_windows=len(recorded.windows),
        num_void=recorded.num_void,
    )
    write_whole(folder / SEAL, msgspec.json.format(msgspec.json.encode(seal), indent=2))
    drop_journals(folder)


def plain(record: Any) -> bytes:
    """A record as indented JSON, for estimates.json and --json."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2)


def _read_seal(path: Path) -> _Seal:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Seal)
    except (msgspec.MsgspecError, ValueError) as error:
        raise UnreadableTrace(f"{path}: damaged: {error}") from error
