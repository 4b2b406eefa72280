"""Graded answers of an arm beside the baseline's to the same contexts."""

import math
from dataclasses import replace

import numpy as np

from specmeasure.estimate.intervals import Floats, Intervals
from specmeasure.estimate.pairing import Pairs
from specmeasure.estimate.trials import Table, strata_of
from specmeasure.records.estimates import Accuracy, Estimate, Unmeasured
from specmeasure.records.plan import AnswerCheck
from specmeasure.records.trace import TrialRecord


def accuracy(
    pairs: Pairs, check: AnswerCheck | None, intervals: Intervals
) -> Accuracy | Unmeasured | None:
    """Shares of right answers and their difference; None where answers were not to be graded.

    An answer counts where both arms' were graded: a prompt without a reference says nothing.
    """
    if check is None:
        return None
    graded = np.array(
        [_is_correct(base) is not None and _is_correct(arm) is not None for base, arm in pairs],
        dtype=np.bool_,
    )
    baseline, own = pairs.baseline.part(graded), pairs.arm.part(graded)
    if not len(own):
        return Unmeasured(reason="no answer was graded beside the baseline's")
    num_answers = own.sizes.astype(np.float64)
    num_right_base, num_right = (rows.sums(_right_answers(rows.table)) for rows in (baseline, own))
    strata = strata_of(own)
    return Accuracy(
        check=check,
        num_answers=int(num_answers.sum()),
        baseline=intervals.rate(num_right_base, num_answers, strata=strata),
        arm=intervals.rate(num_right, num_answers, strata=strata),
        difference=_difference(num_right - num_right_base, num_answers, intervals),
    )


def _is_correct(trial: TrialRecord) -> bool | None:
    return trial.checks.is_correct if trial.checks else None


def _right_answers(table: Table) -> Floats:
    return np.array([bool(_is_correct(trial)) for trial in table.records], dtype=np.float64)


def _difference(gained: Floats, num_answers: Floats, intervals: Intervals) -> Estimate:
    """Share of answers gained less the share lost, never without width.

    Where hardly an answer changes, the spread over prompts says too little. Half a prompt that is
    all gained and half a prompt that is all lost are added to it (Agresti and Min 2005: half an
    observation in every cell of the paired table), as two prompts in all.

    Workers are no strata here: what sets them apart makes the interval wider.

    Formula: se² = (Σ (gained − difference · answers)² / mean answers² + 1) / (prompts + 2)²
    """
    found = intervals.spread(lambda top, bottom: top / bottom, gained, num_answers)
    if isinstance(found, Unmeasured):
        return found
    beyond = (gained - found.value * num_answers) / num_answers.mean()
    error = math.sqrt(float(np.square(beyond).sum()) + 1) / (len(gained) + 2)
    return intervals.around(replace(found, standard_error=error), least=-1.0, most=1.0)
