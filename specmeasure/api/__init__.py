"""The pipeline, a few calls long; the library's front door.

    trace = start(Request(plan=plan, sources=("prompts/",)), Path("reports/mine"))
    report = conclude(trace)
    write_report(report, Path("reports/mine"))

Nothing here prints, and nothing imports torch until a model is needed.
"""

from specmeasure.api.arms import plan_arms
from specmeasure.api.audits import audit_answers, audit_run, write_audit
from specmeasure.api.candidates import Drafters, NamedHeads, NgramSizes, plan_candidates
from specmeasure.api.comparisons import (
    compare_runs,
    compare_to_baseline,
    write_comparison,
)
from specmeasure.api.looking import Look, look
from specmeasure.api.measurement_plans import Planned, plan_measurement
from specmeasure.api.replay_reports import (
    conclude_replay,
    read_costs,
    write_replay_report,
)
from specmeasure.api.replays import (
    read_replay,
    replay_targets,
    resume_replay,
    start_replay,
)
from specmeasure.api.reports import Report, as_json, beside_one, conclude, write_report
from specmeasure.api.runs import read_trace, resume, start
from specmeasure.api.served_runs import engine_at, told_length
from specmeasure.api.sizes import head_count, layer_count
from specmeasure.api.texts import detokeniser
from specmeasure.api.trees import read_tree
from specmeasure.records.request import Request
from specmeasure.run.watch import SILENT, Watchers

__all__ = [
    "SILENT",
    "Drafters",
    "Look",
    "NamedHeads",
    "NgramSizes",
    "Planned",
    "Report",
    "Request",
    "Watchers",
    "as_json",
    "audit_answers",
    "audit_run",
    "beside_one",
    "compare_runs",
    "compare_to_baseline",
    "conclude",
    "conclude_replay",
    "detokeniser",
    "engine_at",
    "head_count",
    "layer_count",
    "look",
    "plan_arms",
    "plan_candidates",
    "plan_measurement",
    "read_costs",
    "read_replay",
    "read_trace",
    "read_tree",
    "replay_targets",
    "resume",
    "resume_replay",
    "start",
    "start_replay",
    "told_length",
    "write_audit",
    "write_comparison",
    "write_replay_report",
    "write_report",
]
