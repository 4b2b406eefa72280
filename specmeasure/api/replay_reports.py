"""A recorded replay read to its conclusion: predictions, what real runs made of them, the page."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from specmeasure.api import reports
from specmeasure.api.replays import CONFIRMED
from specmeasure.decide import screen
from specmeasure.errors import UsageError
from specmeasure.estimate.agreement import find_agreement
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.prediction import predict
from specmeasure.records.agreement import Agreement
from specmeasure.records.costs import CostTable
from specmeasure.records.decision import Policy, Screening, Verdict
from specmeasure.records.prediction import Predictions
from specmeasure.records.replay import ReplayTrace
from specmeasure.trace import store

if TYPE_CHECKING:
    from specmeasure.brief.replay import ReplayContent


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """One replay, read to its conclusion."""

    trace: ReplayTrace
    predictions: Predictions
    screening: Screening  # what predictions alone say
    confirmation: reports.Report | None  # the real run of the best, if there was one
    agreements: tuple[Agreement, ...]  # of the real run's arms
    policy: Policy
    costs: CostTable | None  # another machine's, that predictions were made at; None: its own

    @property
    def verdict(self) -> Verdict:
        """Of the real run where there was one, else what predictions allow."""
        real = self.confirmation
        return self.screening.verdict if real is None else real.decision.verdict


def read_costs(path: Path) -> CostTable:
    """Another machine's costs from a JSON file, such as a replay's costs.json.

    Raises:
        UsageError: unreadable, or not a cost table; names the field.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=CostTable)
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise UsageError(
            f"--costs {path}: {error}. It takes a JSON object as a replay writes it to costs.json: "
            "machine, context_lengths, num_rows, num_drafts and rounds of step_s, verify_s, drafts."
        ) from error


def conclude_replay(
    trace: ReplayTrace,
    folder: Path | None = None,
    *,
    policy: Policy | None = None,
    costs: CostTable | None = None,
    seed: int = 0,
) -> ReplayReport:
    """Predict, and read the real run in ``folder`` where it is finished.

    Args:
        trace: the replay.
        folder: of the replay; None looks at no real run.
        policy: instead of the replay's own.
        costs: of another machine; the real run then says nothing about speed there.
        seed: of the halves that K is chosen on.
    """
    intervals = Intervals(seed=seed)
    predictions = predict(trace, intervals, costs=costs, seed=seed)
    stated = policy or trace.manifest.request.request.policy
    confirmed = None if folder is None else folder / CONFIRMED
    confirmation, agreements = None, []
    if confirmed is not None and store.is_sealed(confirmed):
        run = store.read_trace(confirmed)
        confirmation = reports.conclude(run, policy=stated, seed=seed)
        agreements = [
            find_agreement(trace, predictions, run, arm, intervals)
            for arm in confirmation.estimates.arms
        ]
    return ReplayReport(
        trace=trace,
        predictions=predictions,
        screening=screen(predictions, stated),
        confirmation=confirmation,
        agreements=tuple(agreements),
        policy=stated,
        costs=costs,
    )


def content_of(report: ReplayReport) -> "ReplayContent":
    """Everything that the page and the terminal say."""
    from specmeasure.brief.replay import ConfirmedRun, replay_content

    real = report.confirmation
    return replay_content(
        report.trace,
        report.predictions,
        report.screening,
        report.agreements,
        None
        if real is None
        else ConfirmedRun(
            manifest=real.trace.manifest, estimates=real.estimates, decision=real.decision
        ),
        is_elsewhere=report.costs is not None,
        machine=None if report.costs is None else report.costs.machine,
    )


def write_replay_report(report: ReplayReport, folder: Path) -> Path:
    """Write replay.md, its figures and predictions.json; returns the page's path.

    At another machine's costs the names end in ``-elsewhere``, so that both pages stand.
    """
    from specmeasure.brief.exit_plots import exits_figure
    from specmeasure.brief.exits import exits_of, with_the_best_exit
    from specmeasure.brief.replay import render_replay
    from specmeasure.brief.replay_plots import lengths_figure

    shown = with_the_best_exit(report.trace, report.predictions)
    pictures = {
        "lengths": lengths_figure(
            shown, report.agreements, demanded=report.policy.min_decode_speedup
        ),
        "exits": exits_figure(exits_of(report.trace, report.predictions)),
    }
    drawn = {name: picture for name, picture in pictures.items() if picture is not None}
    suffix = "" if report.costs is None else "-elsewhere"
    figures = {name: f"{name}{suffix}.svg" for name in drawn}
    for name, picture in drawn.items():
        (folder / figures[name]).write_bytes(picture)
    (folder / f"predictions{suffix}.json").write_bytes(replay_as_json(report).encode())
    page = folder / f"replay{suffix}.md"
    page.write_text(render_replay(content_of(report), figures=figures), encoding="utf-8")
    return page


def replay_as_json(report: ReplayReport) -> str:
    """The verdict, predictions and what real runs made of them, as one document."""
    return store.plain(
        {
            "verdict": report.verdict,
            "screening": report.screening,
            "agreements": report.agreements,
            "predictions": report.predictions,
        }
    ).decode()
