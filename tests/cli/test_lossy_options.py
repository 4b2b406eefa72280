"""How loose verification is asked for."""

import pytest

from specmeasure.cli.drafting import lossy_rules
from specmeasure.errors import UsageError
from specmeasure.records.plan import TypicalAcceptance


def rules(*lossy, epsilon=None, delta=None):
    return lossy_rules({"lossy": list(lossy), "epsilon": epsilon, "delta": delta})


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("typical", TypicalAcceptance(epsilon=0.09, delta=0.3)),
        ("typical:0.2,0.5", TypicalAcceptance(epsilon=0.2, delta=0.5)),
        ("typical:1e-3,3", TypicalAcceptance(epsilon=0.001, delta=3)),
    ],
)
def test_a_lossy_rule_has_two_numbers(text, rule):
    """ε and δ, in this order; left out they are the paper's."""
    assert [rule] == rules(text)


def test_a_sweep_is_every_pair():
    """Each ε with each δ; a rule that is written out stands beside them."""
    found = rules("typical", "typical:0.5,1", epsilon="0.05,0.2", delta="0.3,0.6")

    assert [(0.05, 0.3), (0.05, 0.6), (0.2, 0.3), (0.2, 0.6), (0.5, 1.0)] == [
        (rule.epsilon, rule.delta) for rule in found
    ]


def test_thresholds_need_their_rule():
    """ε alone changes nothing, so it is an error."""
    with pytest.raises(UsageError, match="--epsilon and --delta belong to --lossy typical"):
        rules(epsilon="0.1")


def test_thresholds_are_numbers():
    """What is no list of numbers is named."""
    with pytest.raises(UsageError, match="--epsilon a: use numbers"):
        rules("typical", epsilon="a")


@pytest.mark.parametrize("wrong", [{"epsilon": "2"}, {"epsilon": "0"}, {"delta": "-1"}])
def test_thresholds_out_of_range_are_named(wrong):
    """By the options that were typed."""
    with pytest.raises(UsageError, match="--epsilon lies between 0 and 1, --delta above 0"):
        rules("typical", **wrong)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "loose",
        "typical:",
        "typical:0.2",
        "typical:a,b",
        "typical:0,0.3",
        "typical:1,0.3",
        "typical:0.1,-1",
        "typical:0.1,0.2,0.3",
        "typical:nan,0.3",
        "typical:0.1,inf",
    ],
)
def test_wrong_lossy_rules_are_explained(text):
    """What was given, what belongs there, an example."""
    with pytest.raises(UsageError, match=r"--lossy .*: use typical, or typical:EPSILON,DELTA"):
        rules(text)
