"""What audits of answers found, as tables: places, tests of sampled tokens, drift, grades.

Rows come as pairs of an arm's name and what was found of it; an arm without a finding has no row.
"""

from collections.abc import Callable, Sequence

from specmeasure.brief.names import plain
from specmeasure.brief.numbers import (
    NOT_APPLICABLE,
    chance,
    count,
    gap,
    nats,
    points,
    rate,
    share,
)
from specmeasure.brief.tables import Footnotes, Table
from specmeasure.records.estimates import (
    Accuracy,
    Drift,
    Losslessness,
    SampledLosslessness,
    Unmeasured,
)

_ENDED = "ended"


def greedy_table(found: Sequence[tuple[str, object]]) -> Table:
    """The greedy audit, in answers and tokens; the baseline's own near-ties are the yardstick."""
    columns = ("Arm", "Answers", "Tokens", "Identical", "Near-tie", "Divergent")
    return Table(
        columns=(*columns, "Differ from baseline", "Worst gap (noise)"),
        rows=tuple(
            (
                plain(name),
                count(one.num_trials),
                count(one.num_checked_tokens),
                count(one.num_identical),
                count(one.num_near_tie),
                count(one.num_divergent),
                count(one.num_differing_from_baseline),
                gap(one.worst_delta, one.worst_noise),
            )
            for name, one in found
            if isinstance(one, Losslessness) and one.num_trials
        ),
    )


def divergence_table(found: Sequence[tuple[str, object]]) -> Table:
    """Where answers first left the baseline's, and by how much the target preferred either."""
    return Table(
        columns=("Arm", "Where", "Token", "Baseline's", "Gap (noise)"),
        rows=tuple(
            (
                plain(name),
                plain(one.place),
                _token(one.token_id),
                _token(one.baseline_token_id),
                gap(one.gap, one.noise),
            )
            for name, audit in found
            if isinstance(audit, Losslessness)
            for one in audit.first_divergences
        ),
    )


def near_tie_table(found: Sequence[tuple[str, object]]) -> Table:
    """Where a rival scored within the noise."""
    return Table(
        columns=("Arm", "Where", "Gap (noise)"),
        rows=tuple(
            (plain(name), plain(one.place), gap(one.delta, one.noise))
            for name, audit in found
            if isinstance(audit, Losslessness)
            for one in audit.near_ties
        ),
    )


def sampled_table(found: Sequence[tuple[str, object]]) -> Table:
    """Every test of sampled tokens against the target's own distribution."""
    columns = ("Arm", "Answers", "Tokens", "Impossible", "p", "p uniform", "p against baseline")
    return Table(
        columns=(*columns, "p surprise", "p pull", "Excess, nats", "Draft's share"),
        rows=tuple(
            (
                plain(name),
                count(one.num_trials),
                count(one.num_tokens),
                count(one.num_impossible),
                chance(one.p_value),
                chance(one.p_uniform),
                _maybe(chance, one.p_baseline),
                chance(one.p_surprise),
                _maybe(chance, one.p_pull),
                f"{one.excess_nats:+.4f}",
                _maybe(share, one.pull_share),
            )
            for name, one in found
            if isinstance(one, SampledLosslessness)
        ),
    )


def drift_table(found: Sequence[tuple[str, object]], notes: Footnotes) -> Table:
    """How far lossy arms are from the target."""
    return Table(
        columns=("Lossy arm", "Tokens", "Drift, nats per token", "Tokens changed"),
        rows=tuple(
            (plain(name), *_drift_cells(drift, notes))
            for name, drift in found
            if isinstance(drift, Drift | Unmeasured)
        ),
    )


def accuracy_table(found: Sequence[tuple[str, object]], notes: Footnotes) -> Table:
    """Right answers beside the baseline's."""
    return Table(
        columns=("Arm", "Check", "Answers", "Right", "Baseline's", "Difference"),
        rows=tuple(
            (
                plain(name),
                plain(one.check),
                count(one.num_answers),
                notes.cell(rate, one.arm),
                notes.cell(rate, one.baseline),
                notes.cell(points, one.difference),
            )
            for name, one in found
            if isinstance(one, Accuracy)
        ),
    )


def _drift_cells(drift: Drift | Unmeasured, notes: Footnotes) -> tuple[str, str, str]:
    if isinstance(drift, Unmeasured):
        why = notes.cell(nats, drift)
        return NOT_APPLICABLE, why, why
    moved, changed = drift.nats_per_token, drift.changed_share
    return count(drift.num_tokens), notes.cell(nats, moved), notes.cell(rate, changed)


def _token(token_id: int | None) -> str:
    return _ENDED if token_id is None else str(token_id)


def _maybe(speak: Callable[[float], str], value: float | None) -> str:
    return NOT_APPLICABLE if value is None else speak(value)
