from dataclasses import replace

from specmeasure.brief.joined import join_arms
from specmeasure.brief.numbers import TIMES
from specmeasure.brief.tables import Footnotes
from specmeasure.brief.textbook import textbook_table, write_textbook
from tests.brief import examples


def test_the_prediction_is_walked_down_to_the_measurement():
    """α, K and c give the textbook's number; v, o and real tokens per pass explain the rest."""
    said = write_textbook(join_arms(*examples.go())[0])
    steps = [
        f"textbook predicts 2.18{TIMES}",
        f"v = 1.35 steps of the target, not 1: 1.72{TIMES}",
        f"o = 0.071 steps: 1.65{TIMES}",
        f"Measured: 1.42{TIMES} [1.35, 1.49]",
        "2.48 tokens where the formula has 2.89",
    ]

    assert sorted(steps, key=said.index) == steps


def test_what_cannot_be_predicted_gives_its_reason():
    """No prediction without a draft's time, and no row in the table."""
    arms = join_arms(*examples.go())

    assert "Nothing was predicted for ngram k=8: no draft was timed." == write_textbook(arms[1])
    assert ["draft k=4"] == [row[0] for row in textbook_table(arms, Footnotes()).rows]


def test_a_run_that_predicted_nothing_says_so():
    """Where neither textbook nor costs are there."""
    arm = join_arms(*examples.go())[0]
    bare = replace(arm, estimates=replace(arm.estimates, textbook=None, costs=None))

    assert "Nothing was predicted for draft k=4: no blocks were timed." == write_textbook(bare)
