"""Journals: what a run appends to while it goes on, and how they are read.

A run in one process has ``journal.jsonl``. Over workers, each has a file of its own,
``journal-0.jsonl`` and so on, written by the process that leads them. Worker by worker their trials
are one run. A turn of a prompt that was begun several times, because a worker died at it, counts
as it was begun last; within that, a trial that stands twice counts as it stands last. What is void
is passed over.
"""

import fcntl
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Self

from specmeasure.errors import UsageError
from specmeasure.records.plan import TrialKey
from specmeasure.records.trace import Checks, TrialRecord, WindowRecord
from specmeasure.trace.files import sync_folder
from specmeasure.trace.lines import (
    BEGUN,
    begun_line,
    checks_line,
    trial_line,
    whole_lines,
    window_line,
)

JOURNAL = "journal.jsonl"


class Journal:
    """Appends to the journal of a run in one process; holds the folder's lock until closed."""

    def __init__(self, folder: Path) -> None:
        self._file = _Appended(folder / JOURNAL)
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
        self._file.drop_torn_line()

    def add_trial(self, trial: TrialRecord) -> None:
        """Keep one finished trial."""
        self._file.append(trial_line(trial))

    def add_checks(self, checks: Mapping[TrialKey, Checks]) -> None:
        """Keep the checks of one turn's trials."""
        self._file.append(checks_line(checks))

    def add_window(self, window: WindowRecord, trials: Sequence[TrialRecord]) -> None:
        """Keep a finished window and its trials: all of it, or after a crash nothing."""
        self._file.append(window_line(window, trials))


class WorkerJournals:
    """Appends to the journals of a run's workers; holds the folder's lock until closed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = Journal(folder)
        self._files: dict[int, _Appended] = {}
        self._at: dict[int, tuple[str, int]] = {}  # turn that a worker is at
        self._num_begun = _num_begun(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the folder go."""
        for file in self._files.values():
            file.close()
        self._lock.close()

    def begin(self, worker: int, prompt_id: str, turn: int) -> None:
        """From here on the worker tells of this turn, and what was told of it before is void.

        A worker's first trial of another turn than its last one's begins that turn by itself.
        """
        self._file(worker).append(begun_line(self._num_begun, prompt_id, turn))
        self._num_begun += 1
        self._at[worker] = (prompt_id, turn)

    def add_trial(self, worker: int, trial: TrialRecord) -> None:
        """Keep one finished trial."""
        turn = (trial.key.prompt_id, trial.key.turn)
        if self._at.get(worker) != turn:
            self.begin(worker, *turn)
        self._file(worker).append(trial_line(replace(trial, worker=worker)))

    def add_checks(self, worker: int, checks: Mapping[TrialKey, Checks]) -> None:
        """Keep the checks of one turn's trials."""
        self._file(worker).append(checks_line(checks))

    def _file(self, worker: int) -> "_Appended":
        if worker not in self._files:
            file = self._files[worker] = _Appended(worker_journal(self._folder, worker))
            file.drop_torn_line()
            sync_folder(self._folder)
        return self._files[worker]


class _Appended:
    """A file whose lines are on disk when they are added."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] = path.open("ab")
        self.fileno, self.close = self._file.fileno, self._file.close
        self.truncate = self._file.truncate

    def append(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())

    def drop_torn_line(self) -> None:
        """Cut what a crash left after the last whole line."""
        whole = _end_of_whole_lines(self._path)
        if whole < self._path.stat().st_size:
            self._file.truncate(whole)


def worker_journal(folder: Path, worker: int) -> Path:
    """Where the trials of a worker are kept."""
    return folder / f"journal-{worker}.jsonl"


def worker_journals(folder: Path) -> list[tuple[int, Path]]:
    """The workers' journals that there are, by number."""
    found = []
    for path in folder.glob("journal-*.jsonl"):
        number = path.stem.removeprefix("journal-")
        if number.isdecimal():
            found.append((int(number), path))
    return sorted(found)


def drop_journals(folder: Path) -> None:
    """Delete them all; the one that holds the lock goes last."""
    for _, path in worker_journals(folder):
        path.unlink()
    (folder / JOURNAL).unlink(missing_ok=True)


def _num_begun(folder: Path) -> int:
    """Turns that were begun, over all workers and sessions."""
    lines = (line for _, path in worker_journals(folder) for _, line in whole_lines(path))
    return sum(line.startswith(BEGUN) for line in lines)


def _end_of_whole_lines(path: Path, *, chunk: int = 1 << 20) -> int:
    """Bytes up to the last line's end, read from behind: a journal can be large."""
    with path.open("rb") as file:
        stop = file.seek(0, os.SEEK_END)
        while stop > 0:
            start = max(0, stop - chunk)
            file.seek(start)
            found = file.read(stop - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            stop = start
    return 0
