"""A program that records into a folder as ``api`` does, for test_crash to kill.

It goes on with what it finds there, says "recording" when the first trial is about to start, and
"sealed" at the end.
"""

import sys
from pathlib import Path

from specmeasure import api
from specmeasure.api import runs
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Plan
from specmeasure.trace import store
from tests.fakes import FakeEngine, make_chat, make_manifest, make_plan, make_prompts

OBSERVE_S = 0.008


def crash_plan() -> Plan:
    """Two arms and the A/A baseline, greedy."""
    return make_plan(max_new_tokens=60)


def crash_prompts() -> list[Prompt]:
    """Fifty single turns and ten conversations of two: 210 trials, 1.7 s of decoding at least."""
    return [*make_prompts(50), *(make_chat(f"talk{i}", 2) for i in range(10))]


def main(folder: Path) -> None:
    """Start or resume, then seal."""
    plan, prompts = crash_plan(), crash_prompts()
    engine = FakeEngine(plan=plan, observe_sleep_s=OBSERVE_S)
    if not (folder / store.MANIFEST).exists():
        store.create_run(folder, make_manifest(plan, prompts, models=engine.models))
    watchers = api.Watchers(planned=lambda _: print("recording", flush=True))  # noqa: T201
    runs._record(store.read_manifest(folder), engine, tuple(prompts), folder, watchers)
    print("sealed", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
