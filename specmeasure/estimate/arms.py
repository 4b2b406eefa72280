"""All estimates of one arm: alone, and beside the baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from specmeasure.estimate import acceptance, latency
from specmeasure.estimate.blocks import Ints
from specmeasure.estimate.counts import own_windows
from specmeasure.estimate.drafting import drafting
from specmeasure.estimate.drift import losslessness
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.one_piece import streamed
from specmeasure.estimate.pairing import Pairs, by_cluster
from specmeasure.estimate.quantiles import quantiles, request_times
from specmeasure.estimate.textbook import textbook
from specmeasure.estimate.trials import Trials, num_distinct, strata_of
from specmeasure.estimate.workers import chance_of_workers
from specmeasure.records.estimates import (
    ArmEstimates,
    Costs,
    Estimate,
    Quantiles,
    Textbook,
    Unmeasured,
)
from specmeasure.records.plan import Arm, TrialKey
from specmeasure.records.trace import DraftCounts, Trace, TrialRecord, WindowRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A run, taken apart."""

    trace: Trace
    by_arm: Mapping[str, Trials]
    untimed: frozenset[TrialKey]  # that arrived in one piece

    @property
    def baseline(self) -> Arm:
        return self.trace.manifest.plan.arms[0]

    def comparable(self, arm: Arm) -> Sequence[TrialRecord]:
        """The baseline's trials, where both arms' answers are known alike: as ids, or as text."""
        gives_ids = {one.arm: one.gives_ids for one in self.trace.manifest.servers}
        if gives_ids.get(arm.name) != gives_ids.get(self.baseline.name):
            return ()
        return self.by_arm[self.baseline.name]

    def is_compared_as_text(self, arm: Arm) -> bool:
        servers = self.trace.manifest.servers
        return any(one.arm == arm.name and not one.gives_ids for one in servers)


def beside_baseline(
    arm: Arm, measured: Measured, pairs: Pairs, intervals: Intervals
) -> ArmEstimates:
    """What a speculative arm's trials say, alone and on the contexts that both answered."""
    trace, trials = measured.trace, measured.by_arm[arm.name]
    own = replace(
        alone(arm, measured, intervals),
        losslessness=losslessness(
            trials, measured.comparable(arm), as_text=measured.is_compared_as_text(arm)
        ),
    )
    if not len(pairs.arm):
        nothing = Unmeasured(reason="no trial of this arm succeeded beside the baseline")
        return replace(
            own,
            num_prompts=0,
            draft_acceptance_rate=nothing,
            mean_acceptance_length=nothing,
            tokens_per_target_pass=nothing,
            decode_speedup=nothing,
            decode_speedup_corrected=nothing,
            end_to_end_speedup=nothing,
            median_prompt_speedup=nothing,
            share_slower=nothing,
            costs=nothing,
            textbook=nothing,
        )
    timed = pairs.apart_from(measured.untimed)
    base, spent = latency.times(timed.baseline), latency.times(timed.arm)
    costs = latency.costs(pairs.baseline.flat, pairs.arm.flat)
    fared = drafting(
        pairs.arm,
        arm.draft_depth,
        intervals,
        counters=_own_counters(windows_of(trace, arm), trials),
    )
    by_prompt = _prompt_speeds(timed, intervals)
    base_memory = _memory_bytes(
        measured.by_arm[measured.baseline.name], windows_of(trace, measured.baseline)
    )
    return replace(
        own,
        num_prompts=pairs.num_prompts,
        extra_memory_bytes=(
            None
            if own.memory_bytes is None or base_memory is None
            else own.memory_bytes - base_memory
        ),
        draft_acceptance_rate=fared.draft_acceptance_rate,
        mean_acceptance_length=fared.mean_acceptance_length,
        tokens_per_target_pass=fared.tokens_per_target_pass,
        acceptance_survival=fared.acceptance_survival,
        conditional_acceptance=fared.conditional_acceptance,
        decode_speedup=latency.decode_speedup(base, spent, intervals),
        decode_speedup_corrected=latency.decode_speedup(
            base, spent, intervals.corrected(len(trace.manifest.plan.speculative_arms))
        ),
        end_to_end_speedup=latency.end_to_end_speedup(
            latency.times(pairs.baseline), latency.times(pairs.arm), intervals
        ),
        median_prompt_speedup=by_prompt.median,
        share_slower=by_prompt.share_slower,
        prompt_speedups=by_prompt.speedups,
        num_prompt_speedups=by_prompt.num_prompts,
        costs=costs,
        textbook=_textbook(arm, pairs, costs, intervals),
        chance_of_workers=chance_of_workers(timed, intervals),
    )


def _own_counters(
    windows: Sequence[WindowRecord], trials: Sequence[TrialRecord]
) -> list[DraftCounts] | None:
    """Of the windows that are this arm's alone; None: its server has no counters."""
    if all(window.counters is None for window in windows):
        return None
    return [one.counters for one in own_windows(windows, trials) if one.counters is not None]


def _textbook(
    arm: Arm, pairs: Pairs, costs: Costs | Unmeasured, intervals: Intervals
) -> Textbook | Unmeasured:
    if isinstance(costs, Unmeasured) and intervals.cluster == "window":
        return costs
    if arm.tree is not None:
        return Unmeasured(reason="the formula is of chains, and this arm drafts trees")
    counts = acceptance.count_acceptance(pairs.arm, arm.num_speculative_tokens)
    return textbook(
        counts, costs, arm.num_speculative_tokens, intervals, strata=strata_of(pairs.arm)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _PromptSpeeds:
    median: Estimate
    share_slower: Estimate
    speedups: tuple[float, ...]
    num_prompts: int


def _prompt_speeds(pairs: Pairs, intervals: Intervals) -> _PromptSpeeds:
    """Decode speedups of single prompts; on a server those of a window share its luck."""
    own = pairs.by_prompt()
    base, spent = latency.times(own.baseline), latency.times(own.arm)
    found = latency.prompt_speedups(base, spent)
    windows = None
    if intervals.cluster == "window":
        windows = own.arm.firsts(own.arm.table.cluster)
    return _PromptSpeeds(
        median=latency.median_prompt_speedup(base, spent, intervals, windows),
        share_slower=latency.share_slower(base, spent, intervals, windows),
        speedups=latency.thinned(found),
        num_prompts=len(found),
    )


def alone(arm: Arm, measured: Measured, intervals: Intervals) -> ArmEstimates:
    """What an arm's own trials say, without a partner."""
    trace, trials = measured.trace, measured.by_arm[arm.name]
    answered = trials.answered()
    timed = streamed(answered, measured.untimed)
    spent = latency.times(by_cluster(timed))
    whole, waits = request_times(answered), request_times(timed)
    nothing = latency.NOTHING_TIMED
    if not answered:
        nothing = Unmeasured(reason="no trial of this arm succeeded")
    ttft = quantiles(waits.ttft_s, waits.cluster, intervals) if timed else nothing
    return ArmEstimates(
        name=arm.name,
        num_speculative_tokens=arm.num_speculative_tokens,
        num_prompts=num_distinct(trials.table.prompt[answered.places]),
        num_trials=len(trials),
        num_failed_trials=len(trials) - len(answered),
        num_planned_trials=trace.manifest.num_planned_trials // len(trace.manifest.plan.arms),
        num_emitted_tokens=int(trials.table.num_emitted[answered.places].sum()),
        ttft_s=_middle_ttft(spent, ttft, intervals),
        tpot_s=latency.tpot(spent, intervals) if timed else nothing,
        memory_bytes=_memory_bytes(answered, windows_of(trace, arm)),
        peak_memory_bytes=_most(answered, trials.table.peak_bytes),
        capture_s=_capture_s(trials),
        ttft_quantiles=ttft,
        tpot_quantiles=quantiles(waits.tpot_s, waits.cluster, intervals) if timed else nothing,
        end_to_end_quantiles=(
            quantiles(whole.end_to_end_s, whole.cluster, intervals) if answered else nothing
        ),
        losslessness=losslessness(trials) if arm.is_baseline else None,
    )


def _middle_ttft(
    spent: latency.Times, waits: Quantiles | Unmeasured, intervals: Intervals
) -> Estimate:
    """Over prompts; under load over requests, which share the luck of their window."""
    if isinstance(waits, Unmeasured):
        return waits
    return waits.p50 if intervals.cluster == "window" else intervals.median(spent.ttft_s)


def _memory_bytes(trials: Trials, windows: Sequence[WindowRecord]) -> int | None:
    """Weights plus the largest cache that a trial held; the most that a server's processes did."""
    sizes = [window.memory_bytes for window in windows if window.memory_bytes is not None]
    held = _most(trials, trials.table.held_bytes)
    return max([*sizes, *([] if held is None else [held])], default=None)


def _most(trials: Trials, sizes: Ints) -> int | None:
    """The largest of sizes [T] of the table that one of these trials tells, −1 telling nothing."""
    most = int(sizes[trials.places].max(initial=-1))
    return None if most < 0 else most


def _capture_s(trials: Trials) -> float | None:
    """Seconds spent on graphs before trials; also before those that then failed."""
    spent = [trials.table.capture_s[place] for place in trials.places.tolist()]
    told = [seconds for seconds in spent if seconds is not None]
    return sum(told) if told else None


def windows_of(trace: Trace, arm: Arm) -> list[WindowRecord]:
    """The windows of one arm's server."""
    return [window for window in trace.windows if window.key.arm == arm.name]
