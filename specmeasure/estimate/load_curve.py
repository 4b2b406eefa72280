"""What servers did at each load, and what the loads say together.

Windows are the clusters: the requests of a window share the machine, its queue and its luck. On
simulated runs of ten windows with heavy-tailed lengths, 95 % intervals over windows hold the true
speedup in 95 to 97 % of runs; taking requests for independent would hold it in 66 to 92 %.
"""

from collections.abc import Sequence
from dataclasses import replace

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.batch_sizes import batch_sizes
from specmeasure.estimate.crossover import crossovers
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.summary import estimate
from specmeasure.estimate.throughput import arm_under_load
from specmeasure.records.load_curve import ArmUnderLoad, LoadCurve, LoadPoint
from specmeasure.records.plan import Arm
from specmeasure.records.serving import Load
from specmeasure.records.trace import Trace, WindowRecord


def at_load(trace: Trace, load: Load) -> Trace:
    """The part of a run that was measured at one load, planned as a run of its own.

    Raises:
        InsufficientEvidence: the plan has no such load.
    """
    plan = trace.manifest.plan
    loads = plan.serving.loads if plan.serving else ()
    if plan.serving is None or load not in loads:
        raise InsufficientEvidence(
            f"the run has no load of {load}; it has {', '.join(map(str, loads)) or 'no server'}."
        )
    return Trace(
        manifest=replace(
            trace.manifest,
            plan=replace(plan, serving=replace(plan.serving, loads=(load,))),
            num_planned_trials=_num_planned(trace, load, loads),
            planned_by_load=(),
        ),
        trials=tuple(trial for trial in trace.trials if trial.key.load == load),
        sealed=trace.sealed,
        windows=tuple(window for window in trace.windows if window.key.load == load),
    )


def load_curve(trace: Trace, *, seed: int, level: float) -> LoadCurve:
    """Every load that was begun, lightest first, with intervals over windows.

    A load at which no baseline request succeeded is left out: an interrupted run has such.

    Raises:
        InsufficientEvidence: there is no load with a baseline, or counts do not add up.
    """
    serving = trace.manifest.plan.serving
    if serving is None:
        raise InsufficientEvidence("a load curve needs a run on a server; this one was in process.")
    intervals = Intervals(seed=seed, level=level, cluster="window")
    baseline = trace.manifest.plan.arms[0].name
    begun = {t.key.load for t in trace.trials if t.key.arm == baseline and not t.failed}
    points = tuple(
        _point(at_load(trace, load), load, intervals) for load in serving.loads if load in begun
    )
    if not points:
        raise InsufficientEvidence(
            f"no baseline request succeeded among {len(trace.trials)} recorded, at any load."
        )
    arms = trace.manifest.plan.speculative_arms
    return LoadCurve(
        points=points,
        slo=serving.slo,
        crossovers=crossovers(points),
        batch_sizes=batch_sizes(points, arms),
        foreign_share=foreign_share(trace.windows),
    )


def foreign_share(windows: Sequence[WindowRecord]) -> float | None:
    """Of the tokens that servers counted, those that this run did not receive.

    None where no server counts its tokens. Tokens of requests that failed midway are among them;
    windows in which nothing came back say nothing.
    """
    told = [
        (window.num_counted_tokens, window.num_emitted_tokens)
        for window in windows
        if window.num_counted_tokens is not None and window.num_emitted_tokens
    ]
    num_counted = sum(counted for counted, _ in told)
    if not num_counted:
        return None
    return max(0, num_counted - sum(emitted for _, emitted in told)) / num_counted


def _num_planned(trace: Trace, load: Load, loads: Sequence[Load]) -> int:
    """As the manifest says; manifests that do not had as many trials at every load."""
    by_load = trace.manifest.planned_by_load
    if by_load:
        return by_load[loads.index(load)]
    return trace.manifest.num_planned_trials // len(loads)


def _point(trace: Trace, load: Load, intervals: Intervals) -> LoadPoint:
    plan = trace.manifest.plan

    def under_load(arm: Arm) -> ArmUnderLoad:
        return arm_under_load(trace, arm, intervals)

    return LoadPoint(
        load=load,
        estimates=estimate(trace, intervals),
        baseline=under_load(plan.arms[0]),
        arms=tuple(map(under_load, plan.speculative_arms)),
    )
