"""Graded answers of an arm beside the baseline's to the same contexts."""

import math
from dataclasses import replace

import numpy as np

from specmeasure.estimate.intervals import Floats, Intervals
from specmeasure.estimate.pairing import Pairs
from specmeasure.records.estimates import Accuracy, Estimate, Unmeasured
from specmeasure.records.plan import AnswerCheck


def accuracy(
    pairs: Pairs, check: AnswerCheck | None, intervals: Intervals
) -> Accuracy | Unmeasured | None:
    """Shares of right answers and their difference; None where answers were not to be graded.

    An answer counts where both arms' were graded: a prompt without a reference says nothing.
    """
    if check is None:
        return None
    graded = [
        [
            (base.checks.is_correct, arm.checks.is_correct)
            for base, arm in zip(*row, strict=True)
            if base.checks
            and arm.checks
            and base.checks.is_correct is not None
            and arm.checks.is_correct is not None
        ]
        for row in zip(pairs.baseline, pairs.arm, strict=True)
    ]
    counts = np.array(
        [[len(row), *map(sum, zip(*row, strict=True))] for row in graded if row], dtype=np.float64
    )
    if not len(counts):
        return Unmeasured(reason="no answer was graded beside the baseline's")
    num_answers, num_right_base, num_right = counts.T
    return Accuracy(
        check=check,
        num_answers=int(num_answers.sum()),
        baseline=intervals.rate(num_right_base, num_answers),
        arm=intervals.rate(num_right, num_answers),
        difference=_difference(num_right - num_right_base, num_answers, intervals),
    )


def _difference(gained: Floats, num_answers: Floats, intervals: Intervals) -> Estimate:
    """Share of answers gained less the share lost, never without width.

    Where hardly an answer changes, the spread over prompts says too little. Half a prompt that is
    all gained and half a prompt that is all lost are added to it (Agresti and Min 2005: half an
    observation in every cell of the paired table), as two prompts in all.

    Formula: se² = (Σ (gained − difference · answers)² / mean answers² + 1) / (prompts + 2)²
    """
    found = intervals.spread(lambda top, bottom: top / bottom, gained, num_answers)
    if isinstance(found, Unmeasured):
        return found
    beyond = (gained - found.value * num_answers) / num_answers.mean()
    error = math.sqrt(float(np.square(beyond).sum()) + 1) / (len(gained) + 2)
    return intervals.around(replace(found, standard_error=error), least=-1.0, most=1.0)
