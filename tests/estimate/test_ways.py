"""Ways to draft beside each other, on runs whose truth is known."""

from dataclasses import replace

import pytest

from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.summary import estimate
from specmeasure.records.estimates import Interval
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN, Arm, Method, TypicalAcceptance
from tests.fakes import (
    DRAFT_2,
    DRAFT_4,
    NGRAM_4,
    FakeEngine,
    make_plan,
    make_prompts,
    recorded_trace,
)

HEADS = Arm(name="medusa k=4", method=Method.MEDUSA, num_speculative_tokens=4, heads="heads")


def ways(*arms, num_prompts=60):
    plan = make_plan(arms=(BASELINE, *arms, BASELINE_AGAIN))
    trace = recorded_trace(FakeEngine(plan=plan, seed=3), make_prompts(num_prompts))
    return estimate(trace, Intervals()).ways


@pytest.mark.parametrize("arms", [(), (DRAFT_2, DRAFT_4)])
def test_one_way_has_nothing_beside_it(arms):
    """Two Ks of one draft are one way."""
    assert () == ways(*(arms or (NGRAM_4,)))


def test_the_fastest_arm_speaks_for_its_way():
    """Draft models' best K against the lookup's; the leader has no lead over itself."""
    best, other = ways(DRAFT_2, DRAFT_4, NGRAM_4)

    assert ["draft model", "lookup"] == [best.name, other.name]
    assert (2, 1) == (best.num_arms, other.num_arms)
    assert best.lead is None
    assert isinstance(other.lead, Interval)
    assert other.lead.low > 1  # half of the lookup's passes have no drafts


def test_alike_ways_are_not_told_apart():
    """Heads that the simulation drafts with like a draft model: the lead's interval holds 1."""
    _, other = ways(DRAFT_4, HEADS)

    assert isinstance(other.lead, Interval)
    assert other.lead.low <= 1 <= other.lead.high


def test_loose_arms_do_not_speak():
    """They give other answers, so that their speed is no argument."""
    loose = replace(NGRAM_4, name="ngram k=4 typical", lossy=TypicalAcceptance())

    assert () == ways(DRAFT_4, loose)
