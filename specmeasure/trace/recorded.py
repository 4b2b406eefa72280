"""What journals hold, taken in line by line; blocks go where the reader wants them."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from specmeasure.errors import UnreadableTrace
from specmeasure.records.plan import TrialKey
from specmeasure.records.trace import TrialRecord, WindowKey, WindowRecord
from specmeasure.trace.journal import JOURNAL, worker_journals
from specmeasure.trace.lines import (
    LINE,
    SKIMMED,
    Begun,
    Blocks,
    Line,
    Skimmed,
    Window,
    whole_lines,
)

Turn = tuple[str, int]  # of a prompt
T = TypeVar("T")


class BlockSink(Protocol):
    """Where blocks go."""

    def add(self, trial: int, blocks: Blocks) -> None:
        """Take in those of one trial, by its place in the run; trials come in order."""


@dataclass(slots=True)
class Recorded:
    """What the journals of a run hold, without blocks.

    Args:
        sink: where the blocks go.
        num_void: trials that were measured again.
    """

    sink: BlockSink
    trials: dict[TrialKey, TrialRecord] = field(default_factory=dict)
    windows: dict[WindowKey, WindowRecord] = field(default_factory=dict)
    num_void: int = 0
    _texts: dict[str, str] = field(default_factory=dict)
    _labels: dict[tuple[str, ...], dict[str, str]] = field(default_factory=dict)

    def add(self, line: Line) -> None:
        """Take in one line; a ValueError says why it cannot follow the lines before it."""
        if line.trial is not None:
            self._add_trial(line.trial, line.blocks)
        if line.window is not None:
            self._add_window(line.window)
        for key, found in line.checks or ():
            if key not in self.trials:
                raise ValueError(f"check of an unknown trial {key}.")
            self.trials[key] = replace(self.trials[key], checks=found)

    def _add_window(self, window: Window) -> None:
        key = window.record.key
        if key in self.windows:
            raise ValueError(f"window {key} stands twice.")
        self.windows[key] = window.record
        blocks = window.blocks or (None,) * len(window.trials)
        for trial, own in zip(window.trials, blocks, strict=True):
            self._add_trial(trial, own)

    def _add_trial(self, trial: TrialRecord, blocks: Blocks | None) -> None:
        if trial.key in self.trials:
            raise ValueError(f"trial {trial.key} stands twice.")
        if blocks is not None:
            self.sink.add(len(self.trials), blocks)
        self.trials[trial.key] = self._shared(trial)

    def _shared(self, trial: TrialRecord) -> TrialRecord:
        """The same trial; what it has in common with others is held once."""
        labels = tuple(text for pair in trial.labels.items() for text in pair)
        return replace(
            trial,
            prompt_hash=self._texts.setdefault(trial.prompt_hash, trial.prompt_hash),
            ids_hash=trial.ids_hash and self._texts.setdefault(trial.ids_hash, trial.ids_hash),
            labels=self._labels.setdefault(labels, trial.labels),
        )


def read_journals(folder: Path, sink: BlockSink) -> Recorded:
    """All trials of a run that count, worker by worker, each worker's in the order they ran.

    Raises:
        UnreadableTrace: a damaged line, or one that cannot follow those before it.
    """
    recorded = Recorded(sink)
    for place, line in _lines(folder / JOURNAL, LINE):
        _take_in(recorded, line, place)
    journals = [path for _, path in worker_journals(folder)]
    counting = Counting()
    for path in journals:
        for place, skimmed in _lines(path, SKIMMED):
            counting.skim(place, skimmed)
    for path in journals:
        for place, line in _lines(path, LINE):
            _take_in(recorded, counting.kept(place, line), place)
    recorded.num_void = counting.num_void
    return recorded


@dataclass(slots=True)
class Counting:
    """Which of the workers' lines count: all journals are skimmed, then read in the same order.

    A turn counts as it was begun last, whoever began it; within that a trial as it stands last.
    """

    num_void: int = 0
    _latest: dict[Turn, int] = field(default_factory=dict)  # number of the turn's last beginning
    _doubles: dict[tuple[int, TrialKey], str] = field(default_factory=dict)  # where they stand last
    _seen: set[TrialKey] = field(default_factory=set)  # since the last beginning
    _begun: Begun | None = None

    def skim(self, place: str, line: Skimmed) -> None:
        """Note what a line is about."""
        if line.begun is not None:
            self._begin(line.begun)
            turn, number = self._turn_of(line.begun), line.begun.number
            self._latest[turn] = max(number, self._latest.get(turn, number))
        elif line.trial is not None:
            key, begun = line.trial.key, self._at(line.trial.key, place)
            if key in self._seen:
                self._doubles[begun.number, key] = place
            self._seen.add(key)

    def kept(self, place: str, line: Line) -> Line:
        """What of a line counts."""
        if line.begun is not None:
            self._begin(line.begun)
        if line.checks is not None:
            return Line(checks=tuple(pair for pair in line.checks if self._stands(place, pair[0])))
        if line.trial is None:
            return line
        key, begun = line.trial.key, self._at(line.trial.key, place)
        if self._is_void(begun) or self._doubles.get((begun.number, key), place) != place:
            self.num_void += 1
            return Line(begun=begun)
        self._seen.add(key)
        return line

    def _begin(self, begun: Begun) -> None:
        self._begun = begun
        self._seen.clear()

    def _stands(self, place: str, key: TrialKey) -> bool:
        """Whether checks are of a trial that counts, not of one that is void."""
        begun = self._at(key, place)
        is_told_later = (begun.number, key) in self._doubles and key not in self._seen
        return not (self._is_void(begun) or is_told_later)

    def _is_void(self, begun: Begun) -> bool:
        return begun.number != self._latest[self._turn_of(begun)]

    def _at(self, key: TrialKey, place: str) -> Begun:
        begun = self._begun
        if begun is None or self._turn_of(begun) != (key.prompt_id, key.turn):
            raise UnreadableTrace(f"{place}: damaged: a trial of a turn that was not begun")
        return begun

    @staticmethod
    def _turn_of(begun: Begun) -> Turn:
        return begun.prompt_id, begun.turn


def _lines(path: Path, decoder: msgspec.json.Decoder[T]) -> Iterator[tuple[str, T]]:
    """Every whole line with its place, for messages."""
    for number, line in whole_lines(path):
        try:
            yield f"{path}:{number}", decoder.decode(line)
        except (msgspec.MsgspecError, ValueError) as error:
            raise UnreadableTrace(f"{path}:{number}: damaged: {error}") from error


def _take_in(recorded: Recorded, line: Line, place: str) -> None:
    try:
        recorded.add(line)
    except ValueError as error:
        raise UnreadableTrace(f"{place}: {error}") from error
