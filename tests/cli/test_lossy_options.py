import pytest

from specmeasure.cli import running
from specmeasure.errors import UsageError
from specmeasure.records.plan import AnswerCheck, TypicalAcceptance


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("typical", TypicalAcceptance(epsilon=0.09, delta=0.3)),
        ("typical:0.2,0.5", TypicalAcceptance(epsilon=0.2, delta=0.5)),
    ],
)
def test_a_lossy_rule_has_two_numbers(text: str, rule: TypicalAcceptance):
    """Those of the paper, or the user's."""
    assert rule == running._lossy_rule(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "loose", "typical:", "typical:0.2", "typical:a,b", "typical:0,0.3", "typical:1,0.3"),
        *("typical:0.1,-1", "typical:0.1,0.2,0.3", "typical:nan,0.3", "typical:0.1,inf"),
    ],
)
def test_wrong_lossy_rules_are_explained(text: str):
    """A threshold of 0 keeps everything, one of 1 nothing: neither is a rule."""
    with pytest.raises(UsageError, match=r"typical:EPSILON,DELTA"):
        running._lossy_rule(text)


@pytest.mark.parametrize("check", AnswerCheck)
def test_answer_checks_go_by_name(check: AnswerCheck):
    """As the help lists them."""
    assert check is running._answer_check(str(check))


def test_unknown_answer_checks_are_explained():
    """The message lists what there is; without the option nothing is graded."""
    with pytest.raises(UsageError, match="exact, contains, number, python-tests"):
        running._answer_check("numbers")
    assert running._answer_check(None) is None
