"""Trials of an arm beside the baseline's on the same contexts, cluster by cluster.

A cluster is what is independent of the rest: a prompt, or on a server the group of prompts that
were sent together.
"""

from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from specmeasure.records.plan import TrialKey
from specmeasure.records.serving import Load
from specmeasure.records.trace import TrialRecord

Cluster = str | tuple[Load | None, int]


@dataclass(frozen=True, slots=True)
class Pairs:
    """The trials of each cluster, [clusters][trials]; both sides hold the same contexts."""

    baseline: list[list[TrialRecord]]
    arm: list[list[TrialRecord]]

    def split(self, name_of: Callable[[TrialRecord], str | None]) -> dict[str, "Pairs"]:
        """The pairs by what their arm's trial is called; those without a name are left out.

        A cluster stands in every part that one of its trials belongs to, with those trials alone.
        """
        parts: dict[str, Pairs] = {}
        for row in zip(self.baseline, self.arm, strict=True):
            by_name: dict[str, list[tuple[TrialRecord, TrialRecord]]] = defaultdict(list)
            for base, arm in zip(*row, strict=True):
                name = name_of(arm)
                if name is not None:
                    by_name[name].append((base, arm))
            for name, own in by_name.items():
                part = parts.setdefault(name, Pairs([], []))
                part.baseline.append([base for base, _ in own])
                part.arm.append([arm for _, arm in own])
        return parts

    def by_prompt(self) -> "Pairs":
        """The same trials, prompt by prompt."""
        rows: dict[str, list[tuple[TrialRecord, TrialRecord]]] = defaultdict(list)
        for row in zip(self.baseline, self.arm, strict=True):
            for base, arm in zip(*row, strict=True):
                rows[arm.key.prompt_id].append((base, arm))
        return Pairs(
            [[base for base, _ in row] for row in rows.values()],
            [[arm for _, arm in row] for row in rows.values()],
        )

    def apart_from(self, keys: Container[TrialKey]) -> "Pairs":
        """Without the contexts that either side answered in one of these trials."""
        rows = [
            [(base, arm) for base, arm in zip(*row, strict=True) if not _among(keys, base, arm)]
            for row in zip(self.baseline, self.arm, strict=True)
        ]
        rows = [row for row in rows if row]
        return Pairs(
            [[base for base, _ in row] for row in rows], [[arm for _, arm in row] for row in rows]
        )

    @property
    def num_prompts(self) -> int:
        return len({trial.key.prompt_id for row in self.arm for trial in row})


def pair_trials(baseline: Sequence[TrialRecord], trials: Sequence[TrialRecord]) -> Pairs:
    """Keep contexts that both answered."""
    base = {_context(trial.key): trial for trial in baseline if not trial.failed}
    both = [trial for trial in trials if not trial.failed and _context(trial.key) in base]
    rows = by_cluster(both)
    return Pairs([[base[_context(trial.key)] for trial in row] for row in rows], rows)


def by_cluster(trials: Sequence[TrialRecord]) -> list[list[TrialRecord]]:
    """Trials of each cluster together, clusters in the order of their first trials."""
    rows: dict[Cluster, list[TrialRecord]] = defaultdict(list)
    for trial in trials:
        rows[cluster_of(trial)].append(trial)
    return list(rows.values())


def cluster_of(trial: TrialRecord) -> Cluster:
    """The prompt, or on a server the group at one load."""
    if trial.group is None:
        return trial.key.prompt_id
    return trial.key.load, trial.group


def _among(keys: Container[TrialKey], base: TrialRecord, arm: TrialRecord) -> bool:
    return base.key in keys or arm.key in keys


def _context(key: TrialKey) -> tuple[str, int, int, Load | None]:
    return key.prompt_id, key.turn, key.repeat, key.load
