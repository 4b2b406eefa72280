"""Trials of an arm beside the baseline's on the same contexts, prompt by prompt."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from specmeasure.records.trace import TrialRecord


@dataclass(frozen=True, slots=True)
class Pairs:
    """The trials of each prompt, [prompts][trials]; both sides hold the same contexts."""

    baseline: list[list[TrialRecord]]
    arm: list[list[TrialRecord]]

    def split(self, name_of: Callable[[TrialRecord], str | None]) -> dict[str, "Pairs"]:
        """The pairs by what their arm's trial is called; those without a name are left out.

        A prompt stands in every part that one of its trials belongs to, with those trials alone.
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


def pair_trials(baseline: Sequence[TrialRecord], trials: Sequence[TrialRecord]) -> Pairs:
    """Keep contexts that both answered."""
    base = {_context(trial): trial for trial in baseline if not trial.failed}
    both = [trial for trial in trials if not trial.failed and _context(trial) in base]
    rows = by_prompt(both)
    return Pairs([[base[_context(trial)] for trial in row] for row in rows], rows)


def by_prompt(trials: Sequence[TrialRecord]) -> list[list[TrialRecord]]:
    """Trials of each prompt together, prompts in the order of their first trials."""
    rows: dict[str, list[TrialRecord]] = defaultdict(list)
    for trial in trials:
        rows[trial.key.prompt_id].append(trial)
    return list(rows.values())


def _context(trial: TrialRecord) -> tuple[str, int, int]:
    return trial.key.prompt_id, trial.key.turn, trial.key.repeat
