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

    def where(self, belongs: Callable[[TrialRecord], bool]) -> "Pairs":
        """The pairs whose arm's trial belongs; prompts of which none does are left out."""
        rows = [
            [(base, arm) for base, arm in zip(*row, strict=True) if belongs(arm)]
            for row in zip(self.baseline, self.arm, strict=True)
        ]
        kept = [row for row in rows if row]
        return Pairs(
            [[base for base, _ in row] for row in kept], [[arm for _, arm in row] for row in kept]
        )


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
