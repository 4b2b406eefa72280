"""What a caller may want to hear while something long goes on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from specmeasure.estimate.running import RunningSums
from specmeasure.records.plan import TrialKey
from specmeasure.records.running import RunningArm
from specmeasure.records.trace import Checks, TrialRecord, WindowRecord
from specmeasure.run.crowding import CrowdingWatch
from specmeasure.trace.store import Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchers:
    """Called as things happen, between trials and never during one; each does nothing unless given.

    Args:
        stage: told what begins now.
        warning: told what the user should know.
        planned: told the number of trials, or of answers, at most.
        trial: called after each, and for each that an earlier session recorded.
        running: told every arm's numbers so far, after each trial.
    """

    stage: Callable[[str], None] = lambda _: None
    warning: Callable[[str], None] = lambda _: None
    planned: Callable[[int], None] = lambda _: None
    trial: Callable[[], None] = lambda: None
    running: Callable[[tuple[RunningArm, ...]], None] = lambda _: None


SILENT = Watchers()


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedJournal:
    """A journal whose trials are summed up as they are kept, and looked at for other work."""

    journal: Journal
    sums: RunningSums
    watchers: Watchers
    crowding: CrowdingWatch | None = None

    def add_trial(self, trial: TrialRecord) -> None:
        """Keep one finished trial and tell the numbers so far."""
        self.journal.add_trial(trial)
        if self.crowding is not None:
            self.crowding.see(trial)
        self.sums.add(trial)
        self.watchers.running(self.sums.arms)

    def add_checks(self, checks: Mapping[TrialKey, Checks]) -> None:
        """Keep the checks of one turn's trials."""
        self.journal.add_checks(checks)

    def add_window(self, window: WindowRecord, trials: Sequence[TrialRecord]) -> None:
        """Keep a window with its trials and tell the numbers so far."""
        self.journal.add_window(window, trials)
        for trial in trials:
            self.sums.add(trial)
        self.watchers.running(self.sums.arms)
