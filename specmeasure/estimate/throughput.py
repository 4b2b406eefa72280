"""What an arm's server delivered, window by window: tokens and requests per second."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specmeasure.estimate.goodput import keeps_to
from specmeasure.estimate.intervals import Floats, Intervals
from specmeasure.estimate.one_piece import in_one_piece
from specmeasure.records.estimates import Estimate, Unmeasured
from specmeasure.records.load_curve import ArmUnderLoad
from specmeasure.records.plan import Arm
from specmeasure.records.serving import Slo
from specmeasure.records.trace import Trace, TrialRecord, WindowRecord

NO_WINDOW = Unmeasured(reason="no window of this arm was recorded")
UNCOUNTED = Unmeasured(reason="the server does not say how many tokens it sent")
NO_PAIR = Unmeasured(reason="no window of this arm was recorded beside the baseline's")
FEWEST_WITH = 2  # windows with a request that kept to the limits, so that a ratio has a spread


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windows:
    """One arm's windows at one load, [n] each, in the order of their groups."""

    groups: tuple[int, ...]
    duration_s: Floats
    is_counted: NDArray[np.bool_]  # whether every answer's number of tokens is known
    num_emitted: Floats
    num_requests: Floats
    num_good: Floats  # requests that kept to the SLO; 0 where none was stated

    def of(self, groups: Sequence[int]) -> "_Windows":
        places = [self.groups.index(group) for group in groups]
        return _Windows(
            groups=tuple(groups),
            duration_s=self.duration_s[places],
            is_counted=self.is_counted[places],
            num_emitted=self.num_emitted[places],
            num_requests=self.num_requests[places],
            num_good=self.num_good[places],
        )

    def counted(self) -> "_Windows":
        return self.of(
            [one for one, known in zip(self.groups, self.is_counted, strict=True) if known]
        )


def arm_under_load(trace: Trace, arm: Arm, intervals: Intervals) -> ArmUnderLoad:
    """One arm of a trace at a single load."""
    plan = trace.manifest.plan
    slo = plan.serving.slo if plan.serving else None
    own = _windows(trace, arm.name, slo)
    ratios = None if arm.is_baseline else _ratios(trace, arm.name, slo, intervals)
    return ArmUnderLoad(
        name=arm.name,
        tokens_per_s=_tokens_per_s(own, intervals),
        goodput=_per_second(own.num_good, own, intervals) if slo else None,
        slo_share=_slo_share(own, intervals) if slo else None,
        mean_in_flight=_mean_in_flight(_records(trace, arm.name)),
        num_retries=sum(t.num_retries or 0 for t in trace.trials if t.key.arm == arm.name),
        num_in_one_piece=sum(key.arm == arm.name for key in in_one_piece(trace)),
        throughput_ratio=ratios.throughput if ratios else None,
        goodput_ratio=ratios.goodput if ratios else None,
    )


def _windows(trace: Trace, arm: str, slo: Slo | None) -> _Windows:
    """The windows that were finished, with the requests in them."""
    requests: dict[int, list[TrialRecord]] = defaultdict(list)
    for trial in trace.trials:
        if trial.key.arm == arm and trial.group is not None:
            requests[trial.group].append(trial)
    records = _records(trace, arm)
    good = [
        sum(keeps_to(trial, slo) for trial in requests[record.key.group]) if slo else 0
        for record in records
    ]
    return _Windows(
        groups=tuple(record.key.group for record in records),
        duration_s=np.array([record.duration_s for record in records], dtype=float),
        is_counted=np.array(
            [all(map(_is_counted, requests[record.key.group])) for record in records], dtype=bool
        ),
        num_emitted=np.array([record.num_emitted_tokens for record in records], dtype=float),
        num_requests=np.array([len(requests[one.key.group]) for one in records], dtype=float),
        num_good=np.array(good, dtype=float),
    )


def _is_counted(trial: TrialRecord) -> bool:
    return trial.failed or trial.num_emitted_tokens is not None


def _records(trace: Trace, arm: str) -> list[WindowRecord]:
    own = [window for window in trace.windows if window.key.arm == arm and window.duration_s > 0]
    return sorted(own, key=lambda window: window.key.group)


def _tokens_per_s(own: _Windows, intervals: Intervals) -> Estimate:
    counted = own.counted()
    return (
        UNCOUNTED
        if own.groups and not counted.groups
        else _per_second(counted.num_emitted, counted, intervals)
    )


def _per_second(amounts: Floats, own: _Windows, intervals: Intervals) -> Estimate:
    """Formula: Σ amounts / Σ window seconds."""
    return intervals.ratio(amounts, own.duration_s) if own.groups else NO_WINDOW


def _slo_share(own: _Windows, intervals: Intervals) -> Estimate:
    return intervals.rate(own.num_good, own.num_requests) if own.groups else NO_WINDOW


def _mean_in_flight(records: Sequence[WindowRecord]) -> float | None:
    """Over the windows' time. Formula: Σ mean in flight · seconds / Σ seconds."""
    seconds = sum(record.duration_s for record in records)
    if not seconds:
        return None
    return sum(record.mean_in_flight * record.duration_s for record in records) / seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ratios:
    throughput: Estimate
    goodput: Estimate | None


def _ratios(trace: Trace, arm: str, slo: Slo | None, intervals: Intervals) -> _Ratios:
    """The arm over the baseline on the groups that both finished."""
    baseline = _windows(trace, trace.manifest.plan.arms[0].name, slo)
    own = _windows(trace, arm, slo)
    return _Ratios(
        throughput=_throughput_ratio(baseline.counted(), own.counted(), intervals),
        goodput=_goodput_ratio(baseline, own, intervals) if slo else None,
    )


def _throughput_ratio(baseline: _Windows, own: _Windows, intervals: Intervals) -> Estimate:
    baseline, own = _paired(baseline, own)
    if not own.groups:
        return NO_PAIR
    return _rate_ratio(baseline.num_emitted, baseline, own.num_emitted, own, intervals)


def _goodput_ratio(baseline: _Windows, own: _Windows, intervals: Intervals) -> Estimate:
    baseline, own = _paired(baseline, own)
    if not own.groups:
        return NO_PAIR
    for windows, whose in ((baseline, "the baseline's"), (own, "this arm's")):
        if (windows.num_good > 0).sum() < FEWEST_WITH:
            return Unmeasured(reason=f"hardly any of {whose} requests kept to the limits")
    return _rate_ratio(baseline.num_good, baseline, own.num_good, own, intervals)


def _paired(baseline: _Windows, own: _Windows) -> tuple[_Windows, _Windows]:
    both = [group for group in own.groups if group in baseline.groups]
    return baseline.of(both), own.of(both)


def _rate_ratio(
    base_amounts: Floats, baseline: _Windows, amounts: Floats, own: _Windows, intervals: Intervals
) -> Estimate:
    """Formula: (Σ arm's amounts / Σ its seconds) / (Σ baseline's amounts / Σ its seconds)."""
    return intervals.smooth(
        lambda base, base_s, top, seconds: (top / seconds) / (base / base_s),
        *(base_amounts, baseline.duration_s, amounts, own.duration_s),
    )
