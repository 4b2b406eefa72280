"""What pages of a run on servers show beside what any run has."""

from dataclasses import dataclass

from specmeasure.records.estimates import Estimates
from specmeasure.records.load_curve import LoadCurve


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A run's load curve, and what it is checked against."""

    curve: LoadCurve
    beside: Estimates | None = None  # of a run in process over the same prompts
    cross_checks: tuple[str, ...] = ()  # what the servers' own counts came to, in sentences
