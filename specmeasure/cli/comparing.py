"""Recorded runs beside each other on the terminal, and what a gate makes of a drop."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import typer

from specmeasure.api import comparisons, replay_reports, replays
from specmeasure.brief.comparison import comparison_content
from specmeasure.brief.regression import regression_content
from specmeasure.brief.side_by_side import comparison_tables, regression_table
from specmeasure.cli import replaying, running
from specmeasure.cli.progress import watched
from specmeasure.cli.running import wide_console
from specmeasure.errors import UsageError
from specmeasure.records.comparison import GateOutcome

WITH_FOLDERS = {"sources", "out", "force", "as_json", "quiet", "baseline", "fail_if_lower"}
EXIT_BY_OUTCOME = {GateOutcome.HELD: 0, GateOutcome.FELL: 10, GateOutcome.OPEN: 20}


def compare(context: typer.Context) -> None:
    """Compare recorded runs, or replay drafts on prompts and compare what was run for real."""
    asked = context.params
    sources: list[str] = asked["sources"] or []
    folders = [Path(source) for source in sources]
    old: Path | None = asked["baseline"]
    if asked["fail_if_lower"] is not None and old is None:
        raise UsageError("--fail-if-lower needs --baseline OLD_RUN.")
    if not (sources and all(map(replays.is_recorded, folders))):
        if old is not None:
            raise UsageError("--baseline takes run folders: compare NEW_RUN --baseline OLD_RUN.")
        compare_drafts(context, sources)
        return
    running.refuse_beside(context, "comparing recorded runs", WITH_FOLDERS)
    recorded = [replays.run_folder(folder) for folder in folders]
    if old is None:
        compare_folders(recorded, out=asked["out"], as_json=asked["as_json"])
    elif len(recorded) > 1:
        raise UsageError("--baseline takes one run to compare with it.")
    else:
        check_regression(
            recorded[0],
            replays.run_folder(old),
            fail_if_lower=asked["fail_if_lower"],
            out=asked["out"],
            as_json=asked["as_json"],
        )


def compare_drafts(context: typer.Context, sources: list[str]) -> None:
    """Replay every target's drafts on the same prompts, run the best, compare them all."""
    asked = context.params
    if not asked["confirm"]:
        raise UsageError("compare ranks real runs: --confirm takes 1 or more.")
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")  # noqa: DTZ005 - the user's own clock
    folder: Path = asked["out"] or Path("reports") / f"compare-{stamp}"
    with watched(None, quiet=asked["quiet"]) as watchers:
        requests = [
            replaying.replay_request(context, watchers, sources, target)
            for target in asked["target"] or [None]
        ]
        replayed = replays.replay_targets(
            requests, folder, replace_replays=asked["force"], watchers=watchers
        )
    pages = [
        replay_reports.write_replay_report(replay_reports.conclude_replay(trace, own), own)
        for own, trace in replayed.items()
    ]
    compare_folders(
        [replays.run_folder(own) for own in replayed], out=folder, as_json=asked["as_json"]
    )
    if not asked["as_json"]:
        for page in pages:
            running.wide_console().print(f"Every K: {page}", soft_wrap=True, highlight=False)


def compare_folders(folders: Sequence[Path], *, out: Path | None, as_json: bool) -> None:
    """Compare all speculative arms of these runs; write the page where ``out`` names a folder."""
    report = comparisons.compare_runs(folders)
    page = None if out is None else comparisons.write_comparison(report, out)
    if as_json:
        print(comparisons.comparison_as_json(report))
        return
    content = comparison_content(report.comparison, report.manifests, report.winner.costs)
    wide_console().print(comparison_tables(content))
    _tell_page(page)


def check_regression(
    folder: Path, baseline: Path, *, fail_if_lower: float | None, out: Path | None, as_json: bool
) -> None:
    """Compare a run with an old one; exit 0 held or no gate, 10 fell, 20 open."""
    report = comparisons.compare_to_baseline(folder, baseline, fail_if_lower=fail_if_lower)
    page = None if out is None else comparisons.write_comparison(report, out)
    if as_json:
        print(comparisons.comparison_as_json(report))
    else:
        wide_console().print(
            regression_table(regression_content(report.regression, report.manifests))
        )
        _tell_page(page)
    if report.regression.outcome is not None:
        raise typer.Exit(EXIT_BY_OUTCOME[report.regression.outcome])


def _tell_page(page: Path | None) -> None:
    said = f"Page: {page}" if page else "Add --out FOLDER to write the page and its numbers."
    wide_console().print(said, soft_wrap=True, highlight=False)
