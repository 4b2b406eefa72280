"""From parsed options to a replay, and its result on the terminal."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from specmeasure import api
from specmeasure.api import replays
from specmeasure.brief.replay_console import replay_summary
from specmeasure.cli import running
from specmeasure.errors import UsageError
from specmeasure.records.decision import Policy
from specmeasure.records.plan import BASELINE
from specmeasure.records.replay import ReplayRequest, ReplayTrace
from specmeasure.records.request import Request

WITH_RESUME = {"resume", "prompts", "check", "as_json", "costs"}


def replay(context: typer.Context) -> None:
    """Record or finish a replay, write its page, print the result."""
    asked = context.params
    if asked["resume"]:
        running.refuse_beside(context, "--resume", WITH_RESUME)
        folder: Path = asked["resume"]
        with running.watched(folder) as watchers:
            trace = replays.resume_replay(folder, asked["prompts"] or (), watchers=watchers)
    else:
        folder, trace = _start(context)
    conclude(context, folder, trace, policy=None)


def conclude(
    context: typer.Context, folder: Path, trace: ReplayTrace, *, policy: Policy | None
) -> None:
    """Predict, write the page, print the result; exit by the verdict with --check."""
    asked = context.params
    costs = None if asked["costs"] is None else replays.read_costs(asked["costs"])
    report = replays.conclude_replay(trace, folder, policy=policy, costs=costs)
    page = replays.write_replay_report(report, folder)
    if asked["as_json"]:
        print(replays.replay_as_json(report))
    else:
        console = running.wide_console()
        console.print(replay_summary(replays.content_of(report)))
        console.print(f"Page: {page}", soft_wrap=True, highlight=False)
    if asked["check"]:
        raise typer.Exit(running.EXIT_BY_VERDICT[report.verdict])


def _start(context: typer.Context) -> tuple[Path, ReplayTrace]:
    asked = context.params
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")  # noqa: DTZ005 - the user's own clock
    folder: Path = asked["out"] or Path("reports") / f"replay-{stamp}"
    with running.watched(folder) as watchers:
        request = replay_request(context, watchers, asked["prompts"], asked["target"])
        trace = replays.start_replay(
            request, folder, replace_replay=asked["force"], watchers=watchers
        )
    return folder, trace


def replay_request(
    context: typer.Context,
    watchers: api.Watchers,
    sources: list[str] | None,
    target: str | None,
) -> ReplayRequest:
    """What the options ask for, of one target."""
    asked: dict[str, Any] = {**context.params, "target": target}
    if not sources:
        raise UsageError("no prompts: name files, folders or - for stdin (or --resume a replay).")
    if "-" in sources and asked["confirm"]:
        raise UsageError(
            "prompts from stdin are read once, and --confirm reads them again: name a file, or "
            "pass --confirm 0."
        )
    most = asked["max_k"]
    plan = running.plan_for(asked, watchers, lambda candidates: (BASELINE, *candidates), most=most)
    return ReplayRequest(
        request=Request(
            plan=plan,
            sources=tuple(sources),
            options=running.corpus_options(asked),
            policy=running.policy(context, Policy()),
            argv=tuple(sys.argv),
        ),
        use_references=asked["responses"],
        batch_size=asked["batch_size"],
        num_confirmed=asked["confirm"],
    )
