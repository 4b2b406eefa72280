"""Trials of an arm beside the baseline's on the same contexts, cluster by cluster.

Both sides of a pair were measured by the same worker, where a run had several.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from specmeasure.estimate.blocks import Ints
from specmeasure.estimate.trials import Rows, Table, Trials, num_distinct
from specmeasure.records.plan import TrialKey
from specmeasure.records.trace import TrialRecord


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """What each of some trials is called."""

    names: tuple[str, ...]
    numbers: Ints  # [T] of each trial's name; −1: it has none

    @classmethod
    def of(cls, called: Sequence[str | None]) -> Self:
        """These names, in order of first appearance."""
        numbers: dict[str | None, int] = {None: -1}
        found = [numbers.setdefault(name, len(numbers) - 1) for name in called]
        del numbers[None]
        return cls(tuple(name for name in numbers if name), np.array(found, dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The trials of each cluster, [clusters][trials]; both sides hold the same contexts."""

    baseline: Rows
    arm: Rows

    def split(self, called: Names) -> dict[str, "Pairs"]:
        """The pairs by what their arm's trials, row after row, are called; some have no name.

        A cluster stands in every part that one of its trials belongs to, with those trials alone.
        """
        narrow = called.numbers.astype(np.min_scalar_type(-1 - len(called.names)))
        order = np.argsort(narrow, kind="stable")  # few bits sort in linear time
        numbers = called.numbers[order]
        ends = np.searchsorted(numbers, np.arange(len(called.names)), side="right")
        starts = np.searchsorted(numbers, np.arange(len(called.names)))
        chosen = {
            name: order[start:end]
            for name, start, end in zip(called.names, starts, ends, strict=True)
            if end > start
        }
        in_turn = sorted(chosen, key=lambda name: chosen[name][0])
        return {name: self._part(chosen[name]) for name in in_turn}

    def by_prompt(self) -> "Pairs":
        """The same trials, prompt by prompt."""
        prompt = self.arm.table.prompt[self.arm.places]
        return Pairs(Rows.grouped(self.baseline.flat, prompt), Rows.grouped(self.arm.flat, prompt))

    def apart_from(self, keys: Container[TrialKey]) -> "Pairs":
        """Without the contexts that either side answered in one of these trials."""
        if not keys:
            return self
        kept = [base.key not in keys and arm.key not in keys for base, arm in self]
        return self._part(np.flatnonzero(kept))

    def __iter__(self) -> Iterator[tuple[TrialRecord, TrialRecord]]:
        """Each trial of the baseline with its partner, row after row."""
        return zip(self.baseline.flat, self.arm.flat, strict=True)

    @property
    def num_prompts(self) -> int:
        return num_distinct(self.arm.table.prompt[self.arm.places])

    def _part(self, chosen: Ints) -> "Pairs":
        return Pairs(self.baseline.part(chosen), self.arm.part(chosen))


def pair_trials(baseline: Sequence[TrialRecord], trials: Sequence[TrialRecord]) -> Pairs:
    """Keep contexts that both answered."""
    base, own = _of_one_table(baseline, trials)
    table = base.table
    partner = np.full(int(table.context.max(initial=-1)) + 1, -1)
    answered = base.answered().places
    partner[table.context[answered]] = answered  # of trials in the same context, the last
    own = own.answered()
    both = Trials(table, own.places[partner[table.context[own.places]] >= 0])
    rows = by_cluster(both)
    return Pairs(Rows(table, partner[table.context[rows.places]], rows.row), rows)


def by_cluster(trials: Sequence[TrialRecord]) -> Rows:
    """Trials of each cluster together, clusters in the order of their first trials."""
    own = Trials.of(trials)
    return Rows.grouped(own, own.table.cluster[own.places])


def _of_one_table(
    one: Sequence[TrialRecord], other: Sequence[TrialRecord]
) -> tuple[Trials, Trials]:
    if isinstance(one, Trials) and isinstance(other, Trials) and one.table is other.table:
        return one, other
    table = Table([*one, *other])
    places = np.arange(len(table))
    return Trials(table, places[: len(one)]), Trials(table, places[len(one) :])
