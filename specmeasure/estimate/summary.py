"""From a trace to all of its estimates."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate import acceptance, latency
from specmeasure.estimate.accuracy import accuracy
from specmeasure.estimate.drift import losslessness
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.lossy_drift import lossy_drift
from specmeasure.estimate.pairing import Pairs, by_prompt, pair_trials
from specmeasure.estimate.quantiles import quantiles, request_times
from specmeasure.estimate.sampled_drift import sampled_losslessness
from specmeasure.estimate.slices import slice_arms
from specmeasure.estimate.steadiness import steadiness
from specmeasure.estimate.textbook import textbook
from specmeasure.records.estimates import (
    ArmEstimates,
    Estimate,
    Estimates,
    Unmeasured,
)
from specmeasure.records.plan import BASELINE_AGAIN, Arm
from specmeasure.records.trace import Manifest, Trace, TrialRecord


def estimate(trace: Trace, intervals: Intervals) -> Estimates:
    """Everything that the trace can say, with intervals over prompts.

    Raises:
        InsufficientEvidence: nothing was recorded, or nothing succeeded.
    """
    plan = trace.manifest.plan
    by_arm: dict[str, list[TrialRecord]] = defaultdict(list)
    for trial in trace.trials:
        by_arm[trial.key.arm].append(trial)
    baseline = plan.arms[0]
    answered = {t.key.prompt_id for t in by_arm[baseline.name] if not t.failed}
    if not answered:
        errors = [trial.error for trial in trace.trials if trial.error]
        raise InsufficientEvidence(
            f"no baseline trial succeeded among {len(trace.trials)} recorded"
            + (f"; the first failure: {errors[0]}" if errors else ".")
        )
    for trial in trace.trials:
        if not trial.failed:
            acceptance.refuse_uneven_sums(trial)
    pairs = {
        arm.name: pair_trials(by_arm[baseline.name], by_arm[arm.name])
        for arm in plan.speculative_arms
    }
    most_drafts = {arm.name: arm.num_speculative_tokens for arm in plan.arms}
    slices = slice_arms(pairs, most_drafts, intervals)
    again = by_arm[BASELINE_AGAIN.name]
    undrafted = [*by_arm[baseline.name], *again]
    candidates = [
        replace(
            _arm_estimates(arm, by_arm, pairs[arm.name], trace.manifest, intervals),
            slices=slices[arm.name],
            sampled_losslessness=sampled_losslessness(by_arm[arm.name], undrafted),
            drift=lossy_drift(by_arm[arm.name], intervals) if arm.lossy else None,
            accuracy=accuracy(pairs[arm.name], plan.answer_check, intervals),
        )
        for arm in plan.speculative_arms
    ]
    return Estimates(
        num_prompts=len(answered),
        num_planned_trials=trace.manifest.num_planned_trials,
        num_recorded_trials=len(trace.trials),
        noise_floor=_noise_floor(by_arm[baseline.name], again, intervals),
        baseline=replace(
            _alone(baseline, by_arm[baseline.name], trace.manifest, intervals),
            sampled_losslessness=sampled_losslessness(by_arm[baseline.name], again),
        ),
        arms=tuple(candidates),
        steadiness=steadiness(trace.trials),
        num_resamples=intervals.num_resamples,
        seed=intervals.seed,
    )


def _noise_floor(
    baseline: Sequence[TrialRecord], again: Sequence[TrialRecord], intervals: Intervals
) -> Estimate:
    pairs = pair_trials(baseline, again)
    if not pairs.arm:
        return Unmeasured(reason="the run has no second baseline (A/A) arm")
    return latency.decode_speedup(
        latency.times(pairs.baseline), latency.times(pairs.arm), intervals
    )


def _arm_estimates(
    arm: Arm,
    by_arm: Mapping[str, Sequence[TrialRecord]],
    pairs: Pairs,
    manifest: Manifest,
    intervals: Intervals,
) -> ArmEstimates:
    plan = manifest.plan
    baseline, trials = by_arm[plan.arms[0].name], by_arm[arm.name]
    alone = _alone(arm, trials, manifest, intervals)
    if not pairs.arm:
        nothing = Unmeasured(reason="no trial of this arm succeeded beside the baseline")
        return replace(
            alone,
            num_prompts=0,
            draft_acceptance_rate=nothing,
            mean_acceptance_length=nothing,
            tokens_per_target_pass=nothing,
            decode_speedup=nothing,
            decode_speedup_corrected=nothing,
            end_to_end_speedup=nothing,
            median_prompt_speedup=nothing,
            share_slower=nothing,
            losslessness=losslessness(trials),
            costs=nothing,
            textbook=nothing,
        )
    base, spent = latency.times(pairs.baseline), latency.times(pairs.arm)
    counts = acceptance.count_acceptance(pairs.arm, arm.num_speculative_tokens)
    costs = latency.costs(
        [trial for row in pairs.baseline for trial in row],
        [trial for row in pairs.arm for trial in row],
    )
    base_memory = _memory_bytes(baseline)
    return replace(
        alone,
        num_prompts=len(pairs.arm),
        extra_memory_bytes=(
            None
            if alone.memory_bytes is None or base_memory is None
            else alone.memory_bytes - base_memory
        ),
        draft_acceptance_rate=acceptance.draft_acceptance_rate(counts, intervals),
        mean_acceptance_length=acceptance.mean_acceptance_length(counts, intervals),
        tokens_per_target_pass=acceptance.tokens_per_target_pass(counts, intervals),
        acceptance_survival=tuple(acceptance.acceptance_survival(counts, intervals)),
        conditional_acceptance=tuple(acceptance.conditional_acceptance(counts, intervals)),
        decode_speedup=latency.decode_speedup(base, spent, intervals),
        decode_speedup_corrected=latency.decode_speedup(
            base, spent, intervals.corrected(len(plan.speculative_arms))
        ),
        end_to_end_speedup=latency.end_to_end_speedup(base, spent, intervals),
        median_prompt_speedup=latency.median_prompt_speedup(base, spent, intervals),
        share_slower=latency.share_slower(base, spent, intervals),
        prompt_speedups=latency.prompt_speedups(base, spent),
        losslessness=losslessness(trials),
        costs=costs,
        textbook=textbook(counts, costs, arm.num_speculative_tokens, intervals),
    )


def _alone(
    arm: Arm, trials: Sequence[TrialRecord], manifest: Manifest, intervals: Intervals
) -> ArmEstimates:
    """What an arm's own trials say, without a partner."""
    answered = [trial for trial in trials if not trial.failed]
    rows = by_prompt(answered)
    spent = latency.times(rows)
    waits = request_times(answered)
    nothing = Unmeasured(reason="no trial of this arm succeeded")
    return ArmEstimates(
        name=arm.name,
        num_speculative_tokens=arm.num_speculative_tokens,
        num_prompts=len(rows),
        num_trials=len(trials),
        num_failed_trials=len(trials) - len(answered),
        num_planned_trials=manifest.num_planned_trials // len(manifest.plan.arms),
        num_emitted_tokens=sum(trial.num_emitted_tokens or 0 for trial in answered),
        ttft_s=intervals.median(spent.ttft_s) if rows else nothing,
        tpot_s=latency.tpot(spent, intervals) if rows else nothing,
        memory_bytes=_memory_bytes(answered),
        ttft_quantiles=quantiles(waits.ttft_s, waits.prompt, intervals) if rows else nothing,
        tpot_quantiles=quantiles(waits.tpot_s, waits.prompt, intervals) if rows else nothing,
        end_to_end_quantiles=(
            quantiles(waits.end_to_end_s, waits.prompt, intervals) if rows else nothing
        ),
        losslessness=losslessness(trials) if arm.is_baseline else None,
    )


def _memory_bytes(trials: Sequence[TrialRecord]) -> int | None:
    """Weights plus the largest cache that a trial held."""
    sizes = [
        trial.model_bytes + trial.cache_bytes
        for trial in trials
        if trial.model_bytes is not None and trial.cache_bytes is not None
    ]
    return max(sizes, default=None)
