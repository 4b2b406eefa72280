"""How well a tree's value holds where the tree was run for real."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.agreement import MOST_NAMED
from specmeasure.estimate.head_trees import passes_by_answer, read_places, walk_tree
from specmeasure.records.estimates import ArmEstimates, Estimate, Interval, Unmeasured
from specmeasure.records.heads import TreeAgreement, TreeValue
from specmeasure.records.replay import Answer, CandidateScores, ReplayTrace
from specmeasure.records.trace import Trace, TrialRecord

_UNMEASURED = Unmeasured(reason="the run did not measure it")


@dataclass(frozen=True, slots=True)
class _Pair:
    """One turn: the profile's answer, and a greedy trial that decoded the same prompt."""

    answer: Answer
    scores: CandidateScores
    trial: TrialRecord

    @property
    def is_same(self) -> bool:
        return self.answer.ids_hash == self.trial.ids_hash


def find_tree_agreement(
    profile: ReplayTrace, candidate: str, predicted: TreeValue, run: Trace, measured: ArmEstimates
) -> TreeAgreement:
    """One arm of a run beside what was predicted for its tree.

    Args:
        profile: the recorded ranks.
        candidate: the name of its heads.
        predicted: for the arm's tree.
        run: of this profile's prompts.
        measured: its arm.

    Raises:
        InsufficientEvidence: profile and run share no greedy turn.
    """
    trials = [trial for trial in run.trials if trial.key.arm == measured.name and not trial.failed]
    pairs = _paired(profile, candidate, trials)
    same = [one for one in pairs if one.is_same]
    passes = _predicted_passes(same, predicted)
    unequal = [
        _named(one.trial, number)
        for one, number in zip(same, passes, strict=True)
        if len(one.trial.blocks) != number
    ]
    return TreeAgreement(
        arm=measured.name,
        num_nodes=predicted.tree.num_nodes,
        predicted_length=predicted.mean_acceptance_length,
        measured_length=measured.mean_acceptance_length or _UNMEASURED,
        predicted_speedup=predicted.decode_speedup,
        measured_speedup=measured.decode_speedup or _UNMEASURED,
        speedup_error=_relative_error(predicted.decode_speedup, measured.decode_speedup),
        num_predicted_passes=sum(passes),
        num_measured_passes=sum(len(one.trial.blocks) for one in same),
        num_same_answers=len(same),
        num_other_answers=len(pairs) - len(same),
        num_equal_counts=len(same) - len(unequal),
        unequal=tuple(unequal[:MOST_NAMED]),
    )


def _paired(profile: ReplayTrace, candidate: str, trials: Sequence[TrialRecord]) -> list[_Pair]:
    places = {
        (one.key.prompt_id, one.prompt_hash, one.key.turn): place
        for place, one in enumerate(profile.answers)
        if one.sampling.is_greedy
    }
    pairs = [
        _Pair(profile.answers[place], profile.scores[candidate][place], trial)
        for trial in trials
        if trial.sampling.is_greedy
        and (place := places.get((trial.key.prompt_id, trial.prompt_hash, trial.key.turn)))
        is not None
    ]
    if not pairs:
        raise InsufficientEvidence("profile and run share no greedy turn.")
    return pairs


def _predicted_passes(pairs: Sequence[_Pair], predicted: TreeValue) -> list[int]:
    if not pairs:
        return []
    places = read_places(
        [one.answer for one in pairs], [one.scores for one in pairs], np.arange(len(pairs))
    )
    found: list[int] = passes_by_answer(places, walk_tree(places, predicted.tree)).tolist()
    return found


def _relative_error(predicted: Estimate, measured: Estimate | None) -> float | None:
    if isinstance(predicted, Interval) and isinstance(measured, Interval):
        return predicted.value / measured.value - 1
    return None


def _named(trial: TrialRecord, predicted: int) -> str:
    return (
        f"{trial.key.prompt_id}, turn {trial.key.turn + 1}: {len(trial.blocks)} passes, "
        f"{predicted} predicted"
    )
