"""Heads or a draft model? The fastest arm of each way to draft, and by how much it leads.

Lossy arms are left out: they do not give the same answers. Nothing is said of servers.
"""

from collections import defaultdict
from collections.abc import Sequence

from specmeasure.estimate.comparison import compare, enter
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.shared_prompts import Run
from specmeasure.records.estimates import ArmEstimates, Interval, Way
from specmeasure.records.plan import Arm, Method
from specmeasure.records.trace import Trace

WAYS = {
    Method.DRAFT_MODEL: "draft model",
    Method.MEDUSA: "heads",
    Method.EARLY_EXIT: "early exit",
    Method.NGRAM: "lookup",
    Method.SUFFIX: "lookup",
}


def compare_ways(
    trace: Trace, estimates: Sequence[ArmEstimates], intervals: Intervals
) -> tuple[Way, ...]:
    """Ways to draft, fastest first; empty where a run in process did not measure two.

    Each way's arm was picked after looking, so that leads hold at the level of all pairs of arms.
    """
    arms = {arm.name: arm for arm in trace.manifest.plan.speculative_arms}
    measured = [
        (arms[one.name], one, speed)
        for one in estimates
        if arms[one.name].lossy is None and (speed := _speed(one)) is not None
    ]
    by_way: dict[str, list[tuple[Arm, ArmEstimates, Interval]]] = defaultdict(list)
    for entry in sorted(measured, key=lambda entry: -entry[2].value):
        by_way[WAYS.get(entry[0].method, "")].append(entry)
    by_way.pop("", None)
    if len(by_way) < 2 or trace.manifest.plan.serving is not None:
        return ()
    look = intervals.corrected(len(measured) * (len(measured) - 1) // 2)
    run = Run(name="", trace=trace)
    (fastest, _, _), *_ = next(iter(by_way.values()))
    leader = enter(fastest.name, run, fastest)
    return tuple(
        Way(
            name=name,
            arm=arm.name,
            num_arms=len(entries),
            decode_speedup=speed,
            lead=(
                None
                if arm is fastest
                else compare(leader, enter(arm.name, run, arm), look).speedup_ratio
            ),
            extra_memory_bytes=found.extra_memory_bytes,
        )
        for name, entries in by_way.items()
        for arm, found, speed in entries[:1]
    )


def _speed(arm: ArmEstimates) -> Interval | None:
    for speed in (arm.decode_speedup_corrected, arm.decode_speedup):
        if isinstance(speed, Interval):
            return speed
    return None
