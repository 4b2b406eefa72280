"""One request at a time in this process beside servers at each load: the same arms by name."""

from collections.abc import Sequence

from specmeasure.brief.joined import published_speedup
from specmeasure.brief.load_table import arms_at
from specmeasure.brief.names import plain
from specmeasure.brief.numbers import quantity, speedup
from specmeasure.brief.tables import Footnotes, Table
from specmeasure.records.estimates import ArmEstimates, Estimates
from specmeasure.records.load_curve import LoadCurve


def beside_table(
    in_process: Estimates | None, curve: LoadCurve, names: Sequence[str], notes: Footnotes
) -> Table:
    """Decode speedup and τ of each arm, in process first, then load by load.

    Arms that either run lacks have no rows. Does not know whether both ran the same prompts.
    """
    found = {arm.name: arm for arm in in_process.arms} if in_process else {}
    rows: list[tuple[str, ...]] = []
    for name in names:
        served = {
            str(point.load): arms_at(point)[name].estimates
            for point in curve.points
            if name in arms_at(point)
        }
        if name in found and served:
            places = {"in process, one request": found[name], **served}
            rows += [_row(where, arm, notes) for where, arm in places.items()]
    return Table(columns=("Arm", "Where", "Decode speedup", "τ"), rows=tuple(rows))


def _row(where: str, arm: ArmEstimates, notes: Footnotes) -> tuple[str, ...]:
    return (
        plain(arm.name),
        where,
        notes.cell(speedup, published_speedup(arm)),
        notes.cell(quantity, arm.mean_acceptance_length),
    )
