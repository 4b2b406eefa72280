"""From parsed options to a replay, and its result on the terminal."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from specmeasure import api
from specmeasure.api import replay_reports, replays
from specmeasure.brief.replay_console import replay_summary
from specmeasure.cli import fleets, running
from specmeasure.cli.progress import watched
from specmeasure.errors import UsageError
from specmeasure.records.costs import CostTable
from specmeasure.records.decision import Policy
from specmeasure.records.plan import BASELINE
from specmeasure.records.replay import ReplayRequest, ReplayTrace
from specmeasure.records.request import Request
from specmeasure.trace.replays import read_replay_manifest

WITH_RESUME = {
    *("resume", "prompts", "check", "as_json", "quiet", "costs"),
    *("ray", *fleets.COMPANIONS),
}


def replay(context: typer.Context) -> None:
    """Record or finish a replay, write its page, print the result."""
    asked = context.params
    costs = _costs(context)  # before anything is recorded
    if asked["resume"]:
        running.refuse_beside(context, "--resume", WITH_RESUME)
        folder: Path = asked["resume"]
        with watched(folder, quiet=asked["quiet"]) as watchers:
            begun = read_replay_manifest(folder).request.request
            trace = replays.resume_replay(
                folder,
                asked["prompts"] or (),
                fleet=fleets.fleet(asked, begun.fleet),
                watchers=watchers,
            )
    else:
        folder, trace = _start(context)
    _conclude(context, folder, replay_reports.conclude_replay(trace, folder, costs=costs))


def render(context: typer.Context, folder: Path) -> None:
    """Conclude a finished replay again, under the policy and the costs that the options name."""
    trace = replays.read_replay(folder)
    stated = running.policy(context, trace.manifest.request.request.policy)
    report = replay_reports.conclude_replay(trace, folder, policy=stated, costs=_costs(context))
    _conclude(context, folder, report)


def _costs(context: typer.Context) -> CostTable | None:
    path: Path | None = context.params["costs"]
    return None if path is None else replay_reports.read_costs(path)


def _conclude(context: typer.Context, folder: Path, report: replay_reports.ReplayReport) -> None:
    """Write the page, print the result; exit by the verdict with --check."""
    asked = context.params
    page = replay_reports.write_replay_report(report, folder)
    if asked["as_json"]:
        print(replay_reports.replay_as_json(report))
    else:
        console = running.wide_console()
        console.print(replay_summary(replay_reports.content_of(report)))
        console.print(f"Page: {page}", soft_wrap=True, highlight=False)
    if asked["check"]:
        raise typer.Exit(running.EXIT_BY_VERDICT[report.verdict])


def _start(context: typer.Context) -> tuple[Path, ReplayTrace]:
    asked = context.params
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")  # noqa: DTZ005 - the user's own clock
    folder: Path = asked["out"] or Path("reports") / f"replay-{stamp}"
    with watched(folder, quiet=asked["quiet"]) as watchers:
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
            fleet=fleets.fleet(asked),
            argv=tuple(sys.argv),
        ),
        use_references=asked["responses"],
        batch_size=asked["batch_size"],
        num_confirmed=asked["confirm"],
    )
