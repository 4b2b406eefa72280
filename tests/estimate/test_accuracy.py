from dataclasses import replace

import numpy as np
import pytest

from specmeasure.estimate.accuracy import _difference, accuracy
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.pairing import pair_trials
from specmeasure.records.estimates import Accuracy, Unmeasured
from specmeasure.records.plan import BASELINE, AnswerCheck
from specmeasure.records.trace import Checks
from tests.fakes import make_block, make_trial

RIGHT, WRONG, UNGRADED = Checks(is_correct=True), Checks(is_correct=False), Checks()


def compared(*answers, check=AnswerCheck.NUMBER):
    """What is said of (baseline's, arm's) answers, each to a prompt of its own."""
    made = [make_trial(f"p{n}", make_block(4, 4)) for n in range(len(answers))]
    baseline = [
        replace(t, key=replace(t.key, arm=BASELINE.name), checks=base)
        for t, (base, _) in zip(made, answers, strict=True)
    ]
    arm = [replace(t, checks=own) for t, (_, own) in zip(made, answers, strict=True)]
    return accuracy(pair_trials(baseline, arm), check, Intervals())


def test_shares_and_their_difference():
    """4 of 6 right before, 3 of 6 after: one sixth is lost."""
    found = compared(*[(RIGHT, RIGHT)] * 2, (WRONG, RIGHT), *[(RIGHT, WRONG)] * 2, (WRONG, WRONG))

    assert isinstance(found, Accuracy)
    assert ("number", 6) == (found.check, found.num_answers)
    assert pytest.approx(4 / 6) == found.baseline.value
    assert pytest.approx(3 / 6) == found.arm.value
    assert pytest.approx(-1 / 6) == found.difference.value
    assert -1 <= found.difference.low < -1 / 6 < found.difference.high


def test_answers_graded_on_one_side_only_are_left_out():
    """A difference is between answers to the same context."""
    both = [(RIGHT, WRONG), (WRONG, WRONG), *[(RIGHT, RIGHT)] * 6]

    assert compared(*both) == compared(*both, (RIGHT, UNGRADED), (None, WRONG), (RIGHT, None))


def test_no_change_still_leaves_a_width():
    """Fifty equal answers do not prove that no answer changes; more prove more."""
    few, many = compared(*[(RIGHT, RIGHT)] * 50), compared(*[(RIGHT, RIGHT)] * 500)

    assert 0.02 < few.difference.high < 0.05
    assert 0 < many.difference.high < 0.005
    assert few.difference.high == -few.difference.low


def test_nothing_graded_is_unmeasured():
    """A run that asked for grades but got none says so; one that did not ask says nothing."""
    assert isinstance(compared((UNGRADED, UNGRADED)), Unmeasured)
    assert isinstance(compared(), Unmeasured)
    assert compared((RIGHT, RIGHT), check=None) is None


@pytest.mark.parametrize(("lost", "won"), [(0.15, 0.05), (0.05, 0.05), (0.01, 0.0)])
def test_the_difference_is_covered(lost, won):
    """The interval holds the true difference in 95 % or more; rare changes make it wider."""
    rng = np.random.default_rng(2)
    runs = rng.choice([-1.0, 1.0, 0.0], (1000, 100), p=[lost, won, 1 - lost - won])
    found = [_difference(gained, np.ones(100), Intervals()) for gained in runs]
    covered = np.mean([one.low <= won - lost <= one.high for one in found])

    assert covered >= 0.93
