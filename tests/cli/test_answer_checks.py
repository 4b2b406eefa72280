"""How answers are asked to be graded."""

import pytest

from specmeasure.cli import running
from specmeasure.errors import UsageError
from specmeasure.records.plan import AnswerCheck


@pytest.mark.parametrize("check", AnswerCheck)
def test_answer_checks_go_by_name(check: AnswerCheck):
    """As the help lists them."""
    assert check is running._answer_check(str(check))


def test_unknown_answer_checks_are_explained():
    """The message lists what there is; without the option nothing is graded."""
    with pytest.raises(UsageError, match="exact, contains, number, python-tests"):
        running._answer_check("numbers")
    assert running._answer_check(None) is None
