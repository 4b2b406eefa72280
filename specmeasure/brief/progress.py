"""How a run goes, on a terminal while it goes on. Numbers so far have no intervals, and say so."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from specmeasure.brief.names import shortened
from specmeasure.brief.numbers import NOT_APPLICABLE, TIMES, count
from specmeasure.records.running import RunningArm

NAME_WIDTH = 32


def progress_table(arms: Sequence[RunningArm]) -> Table:
    """One line an arm: trials, τ and speedup so far."""
    table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False)
    table.add_column("Arm, so far", no_wrap=True)
    for name in ("Trials", "τ", "Speedup"):
        table.add_column(name, justify="right", no_wrap=True)
    for arm in arms:
        table.add_row(*(Text(cell) for cell in _row(arm)))
    return table


def _row(arm: RunningArm) -> tuple[str, ...]:
    tau, speedup = arm.mean_acceptance_length, arm.decode_speedup
    failed = f" ({count(arm.num_failed_trials)} failed)" if arm.num_failed_trials else ""
    return (
        shortened(arm.name, at_most=NAME_WIDTH),
        f"{count(arm.num_trials)}{failed}",
        NOT_APPLICABLE if tau is None else f"{tau:.2f}",
        NOT_APPLICABLE if speedup is None else f"{speedup:.2f}{TIMES}",
    )
