"""What a test's workers hold: fake engines, in real processes, one of which may end itself."""

import os
import pickle
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specmeasure.api import fleets, runs
from specmeasure.errors import ModelNotFound
from specmeasure.records.plan import Plan
from specmeasure.run.crew import Facts, Share
from specmeasure.run.crowding import Unmetered
from specmeasure.run.measuring import Measure, MeasuringStation
from tests.fakes import FakeEngine, make_environment


@dataclass(frozen=True, kw_only=True)
class FakesModels:
    """Makes stations without models.

    Args:
        plan: that they measure by.
        mark: a file that the process makes before it ends itself, the first time.
        fatal_prompt: at whose third trial it does.
        observe_sleep_s: seconds that a trial takes.
    """

    plan: Plan
    mark: Path | None = None
    fatal_prompt: str = ""
    observe_sleep_s: float = 0.0

    def __call__(self, share: Share) -> "MortalStation":
        engine = FakeEngine(plan=self.plan, observe_sleep_s=self.observe_sleep_s)
        facts = Facts(environment=share.seen(make_environment(), ()), models=engine.models)
        station = MeasuringStation(self.plan, engine, facts, meter=Unmetered())
        return MortalStation(station, self)


class MortalStation:
    """Measures until it is told to end its process."""

    def __init__(self, station: MeasuringStation, made: FakesModels) -> None:
        self.facts = station.facts
        self._station = station
        self._made = made

    def work(self, task: Any) -> Iterator[Any]:
        is_fatal = isinstance(task, Measure) and task.prompt.prompt_id == self._made.fatal_prompt
        for number, finding in enumerate(self._station.work(task)):
            if is_fatal and number == 2 and self._made.mark and not self._made.mark.exists():
                self._made.mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield finding


def lacks_models(_: Share) -> MortalStation:
    raise ModelNotFound("no folder /models/target. Give one that exists on every node.")


def fails_with_text(_: Share) -> MortalStation:
    raise KeyError("a private prompt")


def slow_fakes(*, plan: Plan, **_: Any) -> FakesModels:
    """In the place of ``LoadsModels``, slow enough to be interrupted."""
    return FakesModels(plan=plan, observe_sleep_s=0.05)


if __name__ == "__main__":  # a driver that a test kills
    from tests.e2e import ray_workers

    fleets.LoadsModels = ray_workers.slow_fakes  # type: ignore[assignment, misc]
    runs.start(pickle.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))  # noqa: S301
