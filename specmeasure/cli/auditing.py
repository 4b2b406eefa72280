"""From parsed options to an audit, and its result on the terminal."""

import sys
from pathlib import Path
from typing import Any

import typer

from specmeasure import api
from specmeasure.api import audits, replays
from specmeasure.api.candidates import Drafters, plan_candidates
from specmeasure.brief.audit import audit_summary
from specmeasure.cli import running
from specmeasure.cli.progress import watched
from specmeasure.errors import UsageError
from specmeasure.records.audit import AuditReport
from specmeasure.records.decision import Policy
from specmeasure.records.plan import BASELINE, ModelOptions, Plan
from specmeasure.records.request import Request

WITH_RUN = {"sources", "out", "policy", "max_divergent", "check", "as_json", "quiet"}


def audit(context: typer.Context) -> None:
    """Audit a run's folder or files of answers; write the page, print the result."""
    asked = context.params
    sources: list[str] = asked["sources"] or []
    if not sources:
        raise UsageError("nothing to audit: name a run's folder, or files with recorded answers.")
    out: Path | None = asked["out"]
    if any(replays.is_recorded(Path(source)) for source in sources):
        folder = _run_folder(context, sources)
        report, out = _audit_run(context, folder), out or folder
    else:
        request = _request(context)
        with watched(None, quiet=asked["quiet"]) as watchers:
            report = audits.audit_answers(request, watchers=watchers)
    _conclude(asked, report, out)


def _run_folder(context: typer.Context, sources: list[str]) -> Path:
    if len(sources) > 1:
        raise UsageError("audit takes one run's folder, or files with recorded answers.")
    running.refuse_beside(context, "auditing a recorded run", WITH_RUN)
    return replays.run_folder(Path(sources[0]))


def _audit_run(context: typer.Context, folder: Path) -> AuditReport:
    trace = api.read_trace(folder)
    policy = running.policy(context, trace.manifest.policy)
    return audits.audit_run(trace, subject=str(folder), policy=policy)


def _request(context: typer.Context) -> Request:
    asked = context.params
    if asked["target"] is None:
        raise UsageError("recorded answers need their target: name the model with --target.")
    draft: str | None = asked["draft"]
    options = {name: asked[name] for name in ModelOptions.__dataclass_fields__ if name in asked}
    return Request(
        plan=Plan(
            target=asked["target"],
            arms=(BASELINE, *plan_candidates(Drafters(drafts=[draft] if draft else []), most=1)),
            sampling=running.sampling(asked),
            seed=asked["seed"],
            options=ModelOptions(**options, num_threads=asked["threads"]),
        ),
        sources=tuple(asked["sources"]),
        policy=running.policy(context, Policy()),
        argv=tuple(sys.argv),
    )


def _conclude(asked: dict[str, Any], report: AuditReport, out: Path | None) -> None:
    """Write the page, print the result; exit by the verdict with --check."""
    page = None if out is None else audits.write_audit(report, out)
    if asked["as_json"]:
        print(audits.audit_as_json(report))
    else:
        console = running.wide_console()
        console.print(audit_summary(report))
        said = f"Page: {page}" if page else "Add --out FOLDER to write the page and its numbers."
        console.print(said, soft_wrap=True, highlight=False)
    if asked["check"]:
        raise typer.Exit(running.EXIT_BY_VERDICT[report.verdict])
