"""Workers that differ are told from workers that do not."""

from dataclasses import replace

import pytest

from specmeasure.brief.figures_drift import drift_figure
from specmeasure.brief.pace import machine_notes, write_notices
from specmeasure.brief.workers import write_unlike_workers
from specmeasure.records.decision import Policy
from specmeasure.records.estimates import Steadiness
from tests.brief import examples

STEADY = Steadiness(pace=(1.0, 1.01) * 30, steps=(), outliers=(), num_outliers=0)


def with_chances(*chances):
    """Estimates with an arm for each of these chances."""
    arms = [
        examples.draft_arm(name=f"draft{number} k=4", chance_of_workers=chance)
        for number, chance in enumerate(chances)
    ]
    return examples.estimates(arms=tuple(arms))


@pytest.mark.parametrize("chances", [(None,), (0.3,), (0.04, 0.9)])
def test_workers_that_may_be_alike_are_not_accused(chances):
    """One worker, or differences that luck explains once the number of arms is counted."""
    assert write_unlike_workers(with_chances(*chances)) is None


def test_workers_that_differ_are_named_by_arm():
    """Before any number and among the notes on the machine, with the test's p-value."""
    estimates = with_chances(0.5, 0.0004)
    said = write_unlike_workers(estimates)

    assert "speedup of 1 arm: draft1 k=4 (p = 0.0004 by luck alone, Welch's test)" in said
    assert said in write_notices(estimates, Policy())
    assert said in machine_notes(estimates, Policy())


def test_the_figure_says_where_the_next_worker_begins():
    """Cycles of workers follow one another, each around a median of its own."""
    shared = replace(STEADY, worker_starts=(20, 40))
    svg = drift_figure(examples.estimates(steadiness=shared)).svg

    assert b"3 workers, one after the other" in svg
    assert b"workers" not in drift_figure(examples.estimates(steadiness=STEADY)).svg
