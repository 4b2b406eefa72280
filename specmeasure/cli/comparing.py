"""Recorded runs beside each other on the terminal, and what a gate makes of a drop."""

from collections.abc import Sequence
from pathlib import Path

import typer

from specmeasure.api import comparisons
from specmeasure.brief.comparison import comparison_content
from specmeasure.brief.regression import regression_content
from specmeasure.brief.side_by_side import comparison_tables, regression_table
from specmeasure.cli.running import wide_console
from specmeasure.records.comparison import GateOutcome

EXIT_BY_OUTCOME = {GateOutcome.HELD: 0, GateOutcome.FELL: 10, GateOutcome.OPEN: 20}


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
