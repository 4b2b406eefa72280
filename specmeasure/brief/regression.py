"""What changed since an old run, as finished strings; nothing is computed here."""

from collections.abc import Sequence
from dataclasses import dataclass

from specmeasure.brief.compared_runs import RunNotes, write_pairing, write_runs
from specmeasure.brief.comparison_tables import change_in_points, points
from specmeasure.brief.evidence import levels
from specmeasure.brief.names import listed, plain
from specmeasure.brief.numbers import NOT_APPLICABLE, count, quantity, reason, speedup
from specmeasure.brief.servers import write_transfers
from specmeasure.brief.tables import Footnotes, Table
from specmeasure.records.comparison import ArmChange, GateOutcome, Regression
from specmeasure.records.estimates import Interval
from specmeasure.records.trace import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionContent:
    """One regression check."""

    outcome: GateOutcome | None
    headline: str
    arms: tuple[str, ...]  # what changed, a sentence each
    changes: Table
    transfer: tuple[str, ...]  # to what the numbers do not
    evidence: tuple[str, ...]
    footnotes: tuple[str, ...]
    runs: tuple[RunNotes, ...]


def regression_content(
    regression: Regression,
    manifests: Sequence[Manifest],  # the new run's and the old one's
) -> RegressionContent:
    """Everything that a regression check says."""
    notes = Footnotes()
    runs = (regression.new, regression.old)
    return RegressionContent(
        outcome=regression.outcome,
        headline=_headline(regression),
        arms=tuple(map(_sentence, regression.changes)),
        changes=_change_table(regression.changes, notes),
        transfer=write_transfers(manifests),
        evidence=(
            *write_pairing(runs, manifests),
            _correction(regression.changes),
            *_alone(regression),
        ),
        footnotes=notes.lines,
        runs=write_runs(runs, manifests),
    )


def _headline(regression: Regression) -> str:
    if regression.fail_if_lower is None:
        return f"{plain(regression.new.name)} against {plain(regression.old.name)}"
    bar = f"{100 * regression.fail_if_lower:g} points"
    names = listed(
        [plain(one.arm) for one in regression.changes if one.outcome is regression.outcome]
    )
    match regression.outcome:
        case GateOutcome.FELL:
            return f"acceptance fell by more than {bar} with {names}"
        case GateOutcome.OPEN:
            return f"whether acceptance fell by more than {bar} is open with {names}"
        case _:
            return f"acceptance did not fall by more than {bar} with {names}"


def _sentence(change: ArmChange) -> str:
    found = change.difference.acceptance
    moved = f"was not compared ({reason(found)})"
    if isinstance(found, Interval):
        moved = change_in_points(
            found, up="rose {} points", down="fell {} points", same="shows no change, {} points"
        )
    decision = f"unchanged ({change.verdict.value})"
    if change.verdict is not change.old_verdict:
        decision = f"changed from {change.old_verdict.value} to {change.verdict.value}"
    return f"{_named(change)}: acceptance {moved}; decision {decision}"


def _named(change: ArmChange) -> str:
    name, old = plain(change.arm), plain(change.old_arm)
    return name if name == old else f"{name} (was {old})"


def _change_table(changes: Sequence[ArmChange], notes: Footnotes) -> Table:
    columns = ("Arm", "Acceptance, points", "τ", "Speed, new / old", "Was", "Is", "Gate")
    rows = tuple(
        (
            _named(one),
            notes.cell(points, one.difference.acceptance),
            notes.cell(quantity, one.difference.length),
            notes.cell(speedup, one.difference.speedup_ratio),
            one.old_verdict.value,
            one.verdict.value,
            NOT_APPLICABLE if one.outcome is None else one.outcome.value,
        )
        for one in changes
    )
    return Table(columns=columns, rows=rows)


def _correction(changes: Sequence[ArmChange]) -> str:
    at = levels(one.difference.acceptance for one in changes) or "no level: none was measured"
    arms = count(len(changes), "arm")
    return (
        f"Differences are new − old, speed new / old, at {at}, corrected for {arms}. The gate "
        "looks at the acceptance rate alone."
    )


def _alone(regression: Regression) -> tuple[str, ...]:
    sides = ((regression.new, regression.only_new), (regression.old, regression.only_old))
    return tuple(
        f"Only in {plain(run.name)}, and not compared: {listed([plain(arm) for arm in arms])}."
        for run, arms in sides
        if arms
    )
