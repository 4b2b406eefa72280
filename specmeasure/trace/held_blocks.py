"""Blocks of a run that is not sealed, held in memory by columns."""

from array import array
from collections.abc import Sequence
from dataclasses import replace

from specmeasure.records.blocks import BlockRows
from specmeasure.records.trace import TrialRecord
from specmeasure.trace.block_buffer import BlockBuffer
from specmeasure.trace.lines import Blocks


class HeldBlocks:
    """All blocks of a run, and which are whose."""

    def __init__(self) -> None:
        self._buffer = BlockBuffer()
        self._trials, self._stops = array("q"), array("q")

    def add(self, trial: int, blocks: Blocks) -> None:
        """Take in those of one trial, by its place in the run."""
        self._buffer.add(blocks)
        self._trials.append(trial)
        self._stops.append(len(self._buffer))

    def join(self, trials: Sequence[TrialRecord]) -> tuple[TrialRecord, ...]:
        """The trials, each with its blocks."""
        columns, found, start = self._buffer.columns(), list(trials), 0
        for trial, stop in zip(self._trials, self._stops, strict=True):
            found[trial] = replace(found[trial], blocks=BlockRows(columns, start, stop))
            start = stop
        return tuple(found)
