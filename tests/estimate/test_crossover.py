"""Where speculation stops paying."""

from dataclasses import replace

import pytest

from specmeasure.estimate.crossover import crossovers, measured_speedups
from specmeasure.records.load_curve import Crossover
from tests.estimate.curves import UNKNOWN, a_point, between

FASTER, EQUAL, SLOWER = between(1.1, 1.3), between(0.95, 1.1), between(0.7, 0.8)


def points(*speedups):
    return [a_point(2**n, {"draft": one}) for n, one in enumerate(speedups)]


@pytest.mark.parametrize(
    ("speedups", "pays_up_to", "ends_at"),
    [
        ([FASTER, FASTER, FASTER], 4, None),
        ([FASTER, FASTER, EQUAL], 2, 4),
        ([FASTER, SLOWER, FASTER], 1, 2),
        ([EQUAL, FASTER, FASTER], None, 1),
        ([SLOWER, SLOWER, SLOWER], None, 1),
        ([FASTER, between(1.0, 1.2)], 1, 2),
        ([FASTER, UNKNOWN, EQUAL], 1, 4),
    ],
    ids=["always", "then equal", "back again", "late", "never", "touching 1", "a gap"],
)
def test_an_arm_pays_up_to_the_first_interval_that_is_not_above_1(speedups, pays_up_to, ends_at):
    """What comes after it does not count, and what was not measured says nothing."""
    expected = Crossover(arm="draft", pays_up_to=pays_up_to, ends_at=ends_at)

    assert (expected,) == crossovers(points(*speedups))


def test_one_concurrency_has_no_crossover():
    """Nor has one where a second was not measured, or was a rate."""
    at_a_rate = a_point(None, {"draft": SLOWER}, rate=2.0)

    assert () == crossovers(points(FASTER)) == crossovers(points(FASTER, UNKNOWN))
    assert () == crossovers([*points(FASTER), at_a_rate])


def test_concurrencies_rise_in_whatever_order_they_were_run():
    """The heaviest may have been first."""
    assert [1, 2, 4] == list(measured_speedups(points(FASTER, EQUAL, SLOWER)[::-1], "draft"))


def test_the_interval_is_the_one_that_is_shown():
    """At the level corrected for the arms tried, which is wider than the arm's own."""
    own = points(FASTER, FASTER)
    shown = [
        replace(
            point,
            estimates=replace(
                point.estimates,
                arms=tuple(
                    replace(arm, decode_speedup_corrected=EQUAL) for arm in point.estimates.arms
                ),
            ),
        )
        for point in own
    ]

    assert [Crossover(arm="draft", pays_up_to=None, ends_at=1)] == list(crossovers(shown))
    assert [EQUAL, EQUAL] == list(measured_speedups(shown, "draft").values())


def test_every_arm_has_its_own():
    """Two arms that end at different concurrencies."""
    found = crossovers(
        [a_point(1, {"a": FASTER, "b": FASTER}), a_point(8, {"a": FASTER, "b": SLOWER})]
    )

    assert [("a", 8, None), ("b", 1, 8)] == [
        (one.arm, one.pays_up_to, one.ends_at) for one in found
    ]
