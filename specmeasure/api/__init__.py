"""The pipeline, a few calls long; the library's front door.

    trace = start(Request(plan=plan, sources=("prompts/",)), Path("reports/mine"))
    report = conclude(trace)
    write_report(report, Path("reports/mine"))

Nothing here prints, and nothing imports torch until a model is needed.
"""

from specmeasure.api.arms import plan_arms
from specmeasure.api.runs import (
    Look,
    Planned,
    Report,
    as_json,
    conclude,
    look,
    plan_measurement,
    read_trace,
    resume,
    start,
    write_report,
)
from specmeasure.records.request import Request
from specmeasure.run.watch import SILENT, Watchers

__all__ = [
    "SILENT",
    "Look",
    "Planned",
    "Report",
    "Request",
    "Watchers",
    "as_json",
    "conclude",
    "look",
    "plan_arms",
    "plan_measurement",
    "read_trace",
    "resume",
    "start",
    "write_report",
]
