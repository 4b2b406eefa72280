"""From a recorded replay to what every candidate would do at every K."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate import acceptance
from specmeasure.estimate.acceptance import AcceptanceCounts
from specmeasure.estimate.choice import choose_length
from specmeasure.estimate.cost import (
    BreakEven,
    Spending,
    block_costs,
    cost_lines,
    decoded,
    draft_ratio,
    flops_ratio,
    own_verify_ratio,
    speedup_spread,
    spend,
)
from specmeasure.estimate.disagreement import Judged, find_disagreement, geometric_length, judge
from specmeasure.estimate.intervals import Intervals, Spread
from specmeasure.estimate.replay import ReplayCounts, count_replay, sums_by_prompt
from specmeasure.estimate.slices import holm_levels
from specmeasure.estimate.traffic import Slice, Traffic, traffic_of
from specmeasure.records.costs import CostTable
from specmeasure.records.estimates import Unmeasured
from specmeasure.records.plan import Arm
from specmeasure.records.prediction import (
    CandidatePrediction,
    LengthPrediction,
    Predictions,
    SlicePrediction,
)
from specmeasure.records.replay import CandidateFacts, ReplayTrace

_NO_CHANGE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Replayed:
    """One candidate: what it does, by answer, and what that takes."""

    arm: Arm
    facts: CandidateFacts
    target_flops: float  # per token
    counts: ReplayCounts
    spending: Spending
    judged: Judged


@dataclass(frozen=True, slots=True, kw_only=True)
class _SliceLook:
    """One candidate at its best K on one slice, before any level is chosen."""

    of: Slice
    speedup: Spread | Unmeasured
    counts: AcceptanceCounts  # by prompt


def predict(
    trace: ReplayTrace, intervals: Intervals, *, costs: CostTable | None = None, seed: int = 0
) -> Predictions:
    """Everything that the replay can say, at its own costs or at another table's.

    Raises:
        InsufficientEvidence: nothing was recorded, no answer is longer than one token, or the
            costs do not time a candidate.
    """
    if not trace.answers:
        raise InsufficientEvidence("the replay holds no answer: no prompt got one.")
    table = costs or trace.costs
    arms = trace.manifest.request.request.plan.speculative_arms
    traffic = traffic_of(trace.answers)
    candidates: list[CandidatePrediction] = []
    looks: list[list[_SliceLook]] = []
    for arm in arms:
        replayed = _replay(trace, arm, table, traffic, seed=seed)
        candidates.append(_predict_candidate(replayed, traffic, intervals, seed=seed))
        looks.append(
            list(_look_at_slices(replayed, traffic, candidates[-1].choice.best, intervals))
        )
    slices = _slice_predictions(looks, intervals)
    candidates = [replace(one, slices=own) for one, own in zip(candidates, slices, strict=True)]
    return Predictions(
        num_prompts=len(traffic.categories),
        num_answers=len(trace.answers),
        num_tokens=sum(answer.num_tokens for answer in trace.answers),
        candidates=tuple(sorted(candidates, key=lambda one: -one.best.speedup)),
        costs=cost_lines(table, max((arm.num_speculative_tokens for arm in arms), default=0)),
        draft_ratios={arm.name: draft_ratio(table, arm.name) for arm in arms},
        num_cost_rounds=len(table.rounds),
        seed=seed,
        verify_ratios={
            one.name: ratio
            for one in candidates
            if (ratio := own_verify_ratio(table, one.name, one.choice.best)) is not None
        },
    )


def _replay(
    trace: ReplayTrace, arm: Arm, table: CostTable, traffic: Traffic, *, seed: int
) -> _Replayed:
    scores, most = trace.scores[arm.name], arm.num_speculative_tokens
    costs = block_costs(table, arm.name, most, seed=seed)
    return _Replayed(
        arm=arm,
        facts=next(one for one in trace.candidates if one.name == arm.name),
        target_flops=trace.recording.num_target_flops_per_token,
        counts=count_replay(trace.answers, scores, most),
        spending=spend(trace.answers, scores, costs, traffic.parts()),
        judged=judge(scores, trace.target, traffic.prompts),
    )


def _predict_candidate(
    replayed: _Replayed, traffic: Traffic, intervals: Intervals, *, seed: int
) -> CandidatePrediction:
    facts = replayed.facts
    choice = choose_length(
        replayed.spending, traffic.prompts, traffic.categories, intervals, seed=seed
    )
    return CandidatePrediction(
        name=replayed.arm.name,
        lengths=tuple(_lengths(replayed, traffic, intervals)),
        choice=choice,
        disagreement=find_disagreement(replayed.judged, intervals),
        slices=(),
        extra_memory_bytes=facts.model_bytes + facts.cache_bytes_per_token * traffic.longest,
    )


def _lengths(
    replayed: _Replayed, traffic: Traffic, intervals: Intervals
) -> Iterator[LengthPrediction]:
    spending, num_answers = replayed.spending, len(traffic.prompts)
    by_prompt = replayed.counts.by_prompt(traffic.prompts)
    baseline_s = sums_by_prompt(spending.baseline_s, traffic.prompts)
    speculative_s = sums_by_prompt(spending.speculative_s, traffic.prompts)
    for k in range(1, replayed.arm.num_speculative_tokens + 1):
        counts, own_s = by_prompt.at(k), speculative_s[:, k - 1]
        speedup = speedup_spread(baseline_s, own_s, spending.cost_error(k), intervals)
        needed = BreakEven.of(counts, num_answers, float(own_s.sum() / baseline_s.sum()))
        num_tokens, num_passes = decoded(counts, num_answers)
        yield LengthPrediction(
            num_speculative_tokens=k,
            mean_acceptance_length=acceptance.mean_acceptance_length(counts, intervals),
            draft_acceptance_rate=acceptance.draft_acceptance_rate(counts, intervals),
            tokens_per_target_pass=acceptance.tokens_per_target_pass(counts, intervals),
            acceptance_survival=tuple(acceptance.acceptance_survival(counts, intervals)),
            conditional_acceptance=tuple(acceptance.conditional_acceptance(counts, intervals)),
            geometric_length=geometric_length(replayed.judged, k),
            decode_speedup=intervals.around(speedup) if isinstance(speedup, Spread) else speedup,
            tokens_per_pass=num_tokens / num_passes,
            break_even_tokens_per_pass=needed.tokens_per_pass,
            break_even_length=needed.length,
            break_even_acceptance=needed.acceptance,
            flops_ratio=flops_ratio(counts, num_answers, replayed.facts, replayed.target_flops),
        )


def _look_at_slices(
    replayed: _Replayed, traffic: Traffic, best: int, intervals: Intervals
) -> Iterator[_SliceLook]:
    spending, counts = replayed.spending, replayed.counts.at(best)
    for part, one in enumerate(traffic.slices, start=1):
        baseline_s, speculative_s = (
            sums_by_prompt(seconds[one.answers], one.prompts)
            for seconds in (spending.baseline_s, spending.speculative_s[:, best - 1])
        )
        yield _SliceLook(
            of=one,
            speedup=speedup_spread(
                baseline_s, speculative_s, spending.cost_error(best, part), intervals
            ),
            counts=AcceptanceCounts(
                **{
                    name: sums_by_prompt(getattr(counts, name)[one.answers], one.prompts)
                    for name in AcceptanceCounts.__slots__
                }
            ),
        )


def _slice_predictions(
    looks: Sequence[Sequence[_SliceLook]], intervals: Intervals
) -> Iterator[tuple[SlicePrediction, ...]]:
    """Candidate by candidate; Holm's levels hold over the slices of all of them together."""
    measured = [look.speedup for own in looks for look in own if isinstance(look.speedup, Spread)]
    p_values = [spread.p_value(_NO_CHANGE) for spread in measured]
    levels = iter(holm_levels(p_values, intervals.level))
    all_looks = intervals.corrected(len(measured))
    for own in looks:
        yield tuple(
            SlicePrediction(
                axis=look.of.axis,
                name=look.of.name,
                num_prompts=int(look.of.prompts.max()) + 1,
                decode_speedup=(
                    replace(intervals, level=next(levels)).around(look.speedup)
                    if isinstance(look.speedup, Spread)
                    else look.speedup
                ),
                mean_acceptance_length=acceptance.mean_acceptance_length(look.counts, all_looks),
                draft_acceptance_rate=acceptance.draft_acceptance_rate(look.counts, all_looks),
            )
            for look in own
        )
