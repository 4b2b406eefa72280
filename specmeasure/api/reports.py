"""From a trace to its report: estimates, decision, pages and figures."""

from dataclasses import dataclass, replace
from pathlib import Path

from specmeasure.api.looking import Look
from specmeasure.api.schema import estimates_document
from specmeasure.api.sequential import LEVEL, estimate_run
from specmeasure.api.told_drafts import count_checks, told_evidence
from specmeasure.brief import glossary
from specmeasure.brief.figures import FIGURE_FILES, draw_figures
from specmeasure.brief.served import Served
from specmeasure.brief.tokens import Detokenise, show_trials
from specmeasure.decide import decide, decide_under_load
from specmeasure.errors import UsageError
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.load_curve import load_curve
from specmeasure.estimate.summary import estimate
from specmeasure.records.decision import Decision, Policy
from specmeasure.records.estimates import Estimates
from specmeasure.records.trace import Trace
from specmeasure.trace import store

AUDIT_FILES = ("audit.md", "audit.json")  # of `specmeasure audit` on the folder
PAGES = ("brief.md", "details.md", glossary.FILE, "report.html")
NUMBERS = ("estimates.json", "decision.json", "load.json")
REPORT_FILES = (*PAGES, *FIGURE_FILES, *NUMBERS, *AUDIT_FILES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run, read to its conclusion."""

    trace: Trace
    estimates: Estimates  # of a run on servers: at the load that decides
    decision: Decision
    served: Served | None = None  # of a run on servers


def conclude(
    trace: Trace,
    *,
    policy: Policy | None = None,
    seed: int = 0,
    level: float | None = None,
    pools_hardware: bool = False,
) -> Report:
    """Estimate and decide, under the run's own policy unless another is given.

    A run with looks is read at its last complete look, see ``sequential.read_at_last_look``.

    Args:
        trace: what was recorded.
        policy: in place of the one that was stated before the run.
        seed: of the medians' resamples.
        level: of the intervals, of a trace that was read at a look before; None: 95 %, or the
            level of the last complete look.
        pools_hardware: one speedup over workers of unlike hardware, though the run did not ask
            for it.

    Raises:
        InsufficientEvidence: the trace is too small, or its workers are unlike.
    """
    fleet = trace.manifest.fleet
    if pools_hardware and fleet is not None:
        pooled = replace(fleet, pools_hardware=True)
        trace = replace(trace, manifest=replace(trace.manifest, fleet=pooled))
    if trace.manifest.plan.serving:
        return _conclude_served(trace, policy or trace.manifest.policy, seed=seed)
    if level is None:
        estimates = estimate_run(trace, seed=seed)
    else:
        estimates = estimate(trace, Intervals(level=level, seed=seed))
    decision = decide(estimates, policy or trace.manifest.policy)
    return Report(trace=trace, estimates=estimates, decision=decision)


def beside_one(report: Report, in_process: Trace, *, name: str) -> Report:
    """A report of a run on servers beside what the same arms do one request at a time.

    Args:
        report: of the run on servers.
        in_process: another run's trace.
        name: of the other run, for messages.

    Raises:
        UsageError: the runs are not of these two kinds, or not over the same prompts.
    """
    if report.served is None:
        raise UsageError(f"--beside {name}: is for runs on servers; this one was in process.")
    if in_process.manifest.plan.serving:
        raise UsageError(f"--beside {name}: is a run on servers, too; name one in process.")
    ours, theirs = (
        {trial.prompt_hash for trial in one.trials} for one in (report.trace, in_process)
    )
    if not ours <= theirs:
        raise UsageError(
            f"--beside {name}: lacks {len(ours - theirs)} of the {len(ours)} prompts of this run; "
            "record it over the same files, with the same --limit."
        )
    return replace(report, served=replace(report.served, beside=estimate_run(in_process)))


def _conclude_served(trace: Trace, policy: Policy, *, seed: int) -> Report:
    curve = load_curve(trace, seed=seed, level=LEVEL)
    decision = decide_under_load(curve, policy)
    point = next(point for point in curve.points if point.load == decision.load)
    served = Served(curve=curve, cross_checks=tuple(count_checks(trace)))
    return Report(trace=trace, estimates=point.estimates, decision=decision, served=served)


def write_report(report: Report, folder: Path, *, detokenise: Detokenise | None = None) -> Path:
    """Write the brief, what it links to, and the numbers behind it; returns the brief's path.

    Args:
        report: what is written.
        folder: of the run.
        detokenise: text of ids that the trace kept, for report.html; None shows the ids.
    """
    from specmeasure.brief.content import brief_content
    from specmeasure.brief.html import render_html
    from specmeasure.brief.markdown import render_details, render_markdown

    for name in FIGURE_FILES:
        (folder / name).unlink(missing_ok=True)  # one that was drawn before may have nothing now
    served = report.served
    drawn = draw_figures(report.estimates, report.decision, served.curve if served else None)
    figures = {name: f"{name}.svg" for name in drawn}
    for name, picture in drawn.items():
        (folder / f"{name}.svg").write_bytes(picture.svg)
        (folder / f"{name}.png").write_bytes(picture.png())
    (folder / "estimates.json").write_bytes(store.plain(estimates_document(report.estimates)))
    (folder / "decision.json").write_bytes(store.plain(report.decision))
    (folder / "load.json").unlink(missing_ok=True)
    if served is not None:
        (folder / "load.json").write_bytes(store.plain(served.curve))
    records = (told_evidence(report.trace), report.estimates, report.decision)
    pages = {
        "brief.md": render_markdown(*records, figures=figures, served=served),
        "details.md": render_details(*records, figures=figures, served=served),
        glossary.FILE: glossary.glossary(),
        "report.html": render_html(
            brief_content(*records, served), drawn, show_trials(report.trace, detokenise)
        ),
    }
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder / "brief.md"


def as_json(shown: Report | Look) -> str:
    """Estimates and decision, or a look at a corpus, as one document."""
    if isinstance(shown, Look):
        return store.plain(shown).decode()
    estimates = estimates_document(shown.estimates)
    document = {"decision": shown.decision, "estimates": estimates}
    if shown.served is not None:
        document["load_curve"] = shown.served.curve
    return store.plain(document).decode()
