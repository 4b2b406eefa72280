"""A run folder: manifest.json, then a journal while it runs, then sealed parquet tables.

    manifest.json      plan, corpus facts, environment, models
    journal.jsonl      one line per trial or audit, on disk before the next trial starts; of a run
                       on servers one per window, with its trials and their audits
    trials.parquet     after sealing: one row per trial
    blocks.parquet     after sealing: one row per block, joined by trial_index
    windows.parquet    after sealing a run on servers: one row per window
    sealed.json        row counts and digests; its presence seals the run

A crash loses at most the line being written. A sealed run is never modified.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Self

import msgspec

from specmeasure.errors import UnreadableTrace, UsageError
from specmeasure.records.plan import TrialKey
from specmeasure.records.serving import ServerFacts
from specmeasure.records.trace import (
    Checks,
    Manifest,
    Trace,
    TrialRecord,
    WindowKey,
    WindowRecord,
)
from specmeasure.trace import tables

SCHEMA_VERSION = 7
MANIFEST, JOURNAL, SEAL = "manifest.json", "journal.jsonl", "sealed.json"


class _Window(msgspec.Struct, forbid_unknown_fields=True):
    """A window, and the trials that ran in it with their checks."""

    record: WindowRecord
    trials: tuple[TrialRecord, ...]


class _Line(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """One journal line: a trial, a window, or checks of trials in lines above."""

    trial: TrialRecord | None = None
    checks: tuple[tuple[TrialKey, Checks], ...] | None = None
    window: _Window | None = None

    def __post_init__(self) -> None:
        if [self.trial, self.checks, self.window].count(None) != 2:
            raise ValueError("a line holds a trial, a window or checks")


class _Seal(msgspec.Struct, omit_defaults=True):
    """Row counts, and a digest of every sealed file."""

    num_trials: int
    num_blocks: int
    sha256: dict[str, str]
    num_windows: int = 0


@dataclass(slots=True)
class _Recorded:
    """What a journal holds, line by line."""

    trials: dict[TrialKey, TrialRecord] = field(default_factory=dict)
    windows: dict[WindowKey, WindowRecord] = field(default_factory=dict)

    def add(self, line: _Line) -> None:
        """Take in one line; a ValueError says why it cannot follow the lines before it."""
        if line.trial is not None:
            self._add_trial(line.trial)
        if line.window is not None:
            self._add_window(line.window)
        for key, found in line.checks or ():
            if key not in self.trials:
                raise ValueError(f"check of an unknown trial {key}.")
            self.trials[key] = replace(self.trials[key], checks=found)

    def _add_window(self, window: _Window) -> None:
        key = window.record.key
        if key in self.windows:
            raise ValueError(f"window {key} stands twice.")
        self.windows[key] = window.record
        for trial in window.trials:
            self._add_trial(trial)

    def _add_trial(self, trial: TrialRecord) -> None:
        if trial.key in self.trials:
            raise ValueError(f"trial {trial.key} stands twice.")
        self.trials[trial.key] = trial


class Journal:
    """Appends to a run's journal; holds the folder's lock until closed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL
        self._file: IO[bytes] = self._path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UsageError(f"{folder}: another process is recording into this run.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the folder go."""
        self._file.close()

    def clear(self) -> None:
        """Forget what an earlier run left."""
        self._file.truncate(0)

    def drop_torn_line(self) -> None:
        """Cut what a crash left after the last whole line."""
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)

    def add_trial(self, trial: TrialRecord) -> None:
        """Keep one finished trial."""
        self._append(_Line(trial=trial))

    def add_checks(self, checks: Mapping[TrialKey, Checks]) -> None:
        """Keep the checks of one turn's trials."""
        self._append(_Line(checks=tuple(checks.items())))

    def add_window(self, window: WindowRecord, trials: Sequence[TrialRecord]) -> None:
        """Keep a finished window and its trials: all of it, or after a crash nothing."""
        self._append(_Line(window=_Window(record=window, trials=tuple(trials))))

    def _append(self, line: _Line) -> None:
        self._file.write(msgspec.json.encode(line) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


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


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    write_whole(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2))


def _remove_run(folder: Path) -> None:
    """Delete what a run consists of but its locked journal; the manifest goes last."""
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
    """A run, sealed or as far as it got."""
    manifest = read_manifest(folder)
    if not is_sealed(folder):
        recorded = _read_journal(folder / JOURNAL)
        return Trace(
            manifest=manifest,
            trials=tuple(recorded.trials.values()),
            sealed=False,
            windows=tuple(recorded.windows.values()),
        )
    digests = _read_seal(folder / SEAL).sha256
    for name, digest in digests.items():
        if not (folder / name).is_file() or digest_of(folder / name) != digest:
            raise UnreadableTrace(f"{folder / name}: missing, or changed since it was sealed.")
    return Trace(
        manifest=manifest,
        trials=tuple(tables.read(folder)),
        sealed=True,
        windows=tuple(tables.read_windows(folder)) if tables.WINDOWS in digests else (),
    )


def seal_run(folder: Path) -> None:
    """Turn a finished journal into parquet tables. Safe to repeat, also after a crash."""
    if is_sealed(folder):
        (folder / JOURNAL).unlink(missing_ok=True)
        return
    recorded = _read_journal(folder / JOURNAL)
    num_blocks = tables.write(folder, tuple(recorded.trials.values()))
    sealed = [MANIFEST, tables.TRIALS, tables.BLOCKS]
    if recorded.windows:
        tables.write_windows(folder, tuple(recorded.windows.values()))
        sealed.append(tables.WINDOWS)
    seal = _Seal(
        num_trials=len(recorded.trials),
        num_blocks=num_blocks,
        sha256={name: digest_of(folder / name) for name in sealed},
        num_windows=len(recorded.windows),
    )
    write_whole(folder / SEAL, msgspec.json.format(msgspec.json.encode(seal), indent=2))
    (folder / JOURNAL).unlink()


def plain(record: Any) -> bytes:
    """A record as indented JSON, for estimates.json and --json."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2)


def _read_journal(path: Path) -> _Recorded:
    """Trials in order with their checks, and windows; a torn last line is as if never written."""
    recorded = _Recorded()
    for number, line in _whole_lines(path):
        try:
            entry = msgspec.json.decode(line, type=_Line)
        except (msgspec.MsgspecError, ValueError) as error:
            raise UnreadableTrace(f"{path}:{number}: damaged: {error}") from error
        try:
            recorded.add(entry)
        except ValueError as error:
            raise UnreadableTrace(f"{path}:{number}: {error}") from error
    return recorded


def _read_seal(path: Path) -> _Seal:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Seal)
    except (msgspec.MsgspecError, ValueError) as error:
        raise UnreadableTrace(f"{path}: damaged: {error}") from error


def _whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    if path.is_file():
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield number, line


def write_whole(path: Path, content: bytes) -> None:
    """Write all of it or nothing, also where the power is cut."""
    partial = path.with_suffix(path.suffix + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
