"""How well a replay's predictions hold in a real run of the same configurations."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate import acceptance
from specmeasure.estimate.intervals import Floats, Intervals, Spread
from specmeasure.estimate.replay import count_replay
from specmeasure.records.agreement import Agreement
from specmeasure.records.estimates import ArmEstimates, Estimate, Interval, Unmeasured
from specmeasure.records.prediction import CandidatePrediction, Predictions
from specmeasure.records.replay import Answer, CandidateScores, ReplayTrace
from specmeasure.records.trace import Trace, TrialRecord

MOST_NAMED = 10
_UNMEASURED = Unmeasured(reason="the run did not measure it")


@dataclass(frozen=True, slots=True)
class _Pair:
    """One turn: the replay's answer, and a trial that decoded the same prompt."""

    answer: Answer
    scores: CandidateScores
    trial: TrialRecord

    @property
    def is_greedy(self) -> bool:
        return self.answer.sampling.is_greedy and self.trial.sampling.is_greedy

    @property
    def is_same(self) -> bool:
        return self.is_greedy and self.answer.ids_hash == self.trial.ids_hash


def find_agreement(
    replay: ReplayTrace,
    predictions: Predictions,
    run: Trace,
    measured: ArmEstimates,
    intervals: Intervals,
) -> Agreement:
    """One arm of the run beside the replay's prediction for it.

    Raises:
        InsufficientEvidence: the arm is no candidate of the replay, or they share no turn.
    """
    length = measured.num_speculative_tokens
    candidate = _candidate(replay, predictions, measured)
    predicted = candidate.lengths[length - 1]
    trials = [trial for trial in run.trials if trial.key.arm == measured.name and not trial.failed]
    pairs = _paired(replay, candidate.name, trials)
    counts = count_replay([one.answer for one in pairs], [one.scores for one in pairs], length)
    passes = counts.num_passes[:, length - 1]
    same = [place for place, one in enumerate(pairs) if one.is_same]
    unequal = [i for i in same if abs(len(pairs[i].trial.blocks) - passes[i]) > 1e-6]
    return Agreement(
        candidate=candidate.name,
        num_speculative_tokens=length,
        predicted_length=predicted.mean_acceptance_length,
        measured_length=measured.mean_acceptance_length or _UNMEASURED,
        length_difference=_length_difference(pairs, counts.at(length), intervals),
        predicted_speedup=predicted.decode_speedup,
        measured_speedup=measured.decode_speedup or _UNMEASURED,
        speedup_error=_relative_error(predicted.decode_speedup, measured.decode_speedup),
        num_same_answers=len(same),
        num_other_answers=sum(one.is_greedy for one in pairs) - len(same),
        num_equal_counts=len(same) - len(unequal),
        unequal=tuple(_named(pairs[i].trial, passes[i]) for i in unequal[:MOST_NAMED]),
    )


def _candidate(
    replay: ReplayTrace, predictions: Predictions, measured: ArmEstimates
) -> CandidatePrediction:
    for arm in replay.manifest.request.request.plan.speculative_arms:
        if arm.at(measured.num_speculative_tokens).name == measured.name:
            return next(one for one in predictions.candidates if one.name == arm.name)
    raise InsufficientEvidence(f"the replay has no candidate for the arm {measured.name!r}.")


def _paired(replay: ReplayTrace, candidate: str, trials: Sequence[TrialRecord]) -> list[_Pair]:
    places = {
        (one.key.prompt_id, one.prompt_hash, one.key.turn): place
        for place, one in enumerate(replay.answers)
    }
    pairs = [
        _Pair(replay.answers[place], replay.scores[candidate][place], trial)
        for trial in trials
        if (place := places.get((trial.key.prompt_id, trial.prompt_hash, trial.key.turn)))
        is not None
    ]
    if not pairs:
        raise InsufficientEvidence("run and replay share no answered turn.")
    return pairs


def _length_difference(
    pairs: Sequence[_Pair], predicted: acceptance.AcceptanceCounts, intervals: Intervals
) -> Estimate:
    """Measured less predicted τ over the same prompts, paired."""
    length = predicted.num_reached.shape[1]
    trials = acceptance.count_acceptance([[one.trial] for one in pairs], length)
    prompts: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(pairs):
        prompts[one.trial.key.prompt_id].append(place)
    arrays = [
        np.array([float(counts[own].sum()) for own in prompts.values()])
        for counts in (
            trials.num_accepted,
            trials.num_drafted_blocks,
            predicted.num_accepted,
            predicted.num_drafted_blocks,
        )
    ]
    if not (arrays[1].sum() and arrays[3].sum()):
        return Unmeasured(reason="nothing was drafted")
    found = intervals.spread(_difference_of_ratios, *arrays)
    return intervals.around(found, least=-np.inf) if isinstance(found, Spread) else found


def _difference_of_ratios(
    accepted: Floats, blocks: Floats, expected: Floats, expected_blocks: Floats
) -> Floats:
    return np.asarray(accepted / blocks - expected / expected_blocks)


def _relative_error(predicted: Estimate, measured: Estimate | None) -> float | None:
    if isinstance(predicted, Interval) and isinstance(measured, Interval):
        return predicted.value / measured.value - 1
    return None


def _named(trial: TrialRecord, predicted: float) -> str:
    return (
        f"{trial.key.prompt_id}, turn {trial.key.turn + 1}: {len(trial.blocks)} passes, "
        f"{predicted:g} predicted"
    )
