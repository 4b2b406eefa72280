"""A program that records windows into a folder, for test_crash_windows to kill.

It goes on with what it finds there, says "recording" when the first window is about to start, and
"sealed" at the end. Its servers' time is virtual; each window takes a moment of real time besides.
"""

import sys
import time
from pathlib import Path

from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Plan
from specmeasure.records.serving import Load
from specmeasure.run.load_recorder import LoadRecorder
from specmeasure.trace import store
from tests.fake_servers import FakeContexts, FakeFleet, clock, run, serving_plan
from tests.fakes import make_chat, make_manifest, make_prompts

WINDOW_S = 0.01


def crash_plan() -> Plan:
    """Three arms at two loads."""
    return serving_plan(
        loads=(Load(concurrency=2), Load(rate=4.0)), num_windows=12, max_new_tokens=12
    )


def crash_prompts() -> list[Prompt]:
    """Prompts and talks for 72 windows."""
    return [*make_prompts(10), *(make_chat(f"talk{i}", 2) for i in range(3))]


class SlowJournal:
    """A journal that is written to at a human pace."""

    def __init__(self, journal: store.Journal) -> None:
        self._journal = journal
        self.add_checks = journal.add_checks

    def add_window(self, window, trials) -> None:
        time.sleep(WINDOW_S)
        self._journal.add_window(window, trials)


def main(folder: Path) -> None:
    """Start or resume, then seal."""
    plan, prompts = crash_plan(), crash_prompts()
    if not (folder / store.MANIFEST).exists():
        store.create_run(folder, make_manifest(plan, prompts))
    with store.Journal(folder) as journal:
        journal.drop_torn_line()
        recorder = LoadRecorder(
            plan=plan,
            fleet=FakeFleet(plan=plan),
            contexts=FakeContexts(),
            journal=SlowJournal(journal),
            folder=folder,
            recorded=store.read_trace(folder).trials,
            clock=clock,
        )
        print("recording", flush=True)  # noqa: T201
        run(recorder.record(prompts))
        store.seal_run(folder)
    print("sealed", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
