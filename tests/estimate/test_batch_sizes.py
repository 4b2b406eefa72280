"""The best number of drafts by requests in flight."""

from dataclasses import replace

from specmeasure.estimate.batch_sizes import batch_sizes
from specmeasure.records.load_curve import BatchSizes
from specmeasure.records.plan import Arm, Method
from tests.estimate.curves import UNKNOWN, a_point, between
from tests.fakes import DRAFT_2, DRAFT_4, NGRAM_4

TWO, FOUR = DRAFT_2.name, DRAFT_4.name
FAST, FASTER, EQUAL, SLOWER = (between(low, low + 0.2) for low in (1.1, 1.3, 0.9, 0.6))


def served(length, **settings):
    config = ", ".join(f'"{name}": {value}' for name, value in settings.items())
    return Arm(
        name=f"eagle k={length}",
        method=Method.SERVED,
        num_speculative_tokens=length,
        speculative_config=f'{{"num_speculative_tokens": {length}, {config}}}',
    )


def table(*speedups):
    """Of two and four drafts, at 1, 4, 16, … requests in flight."""
    points = [a_point(4**n, {TWO: two, FOUR: four}) for n, (two, four) in enumerate(speedups)]
    return batch_sizes(points, (DRAFT_2, DRAFT_4))


def test_fewer_drafts_as_load_rises():
    """Ranges start at 1, have no gap, and end at the highest measured; 0 where nothing pays."""
    found = table((FAST, FASTER), (FASTER, FAST), (FAST, EQUAL), (EQUAL, SLOWER))

    assert (BatchSizes(candidate="draft", ranges=((1, 1, 4), (2, 16, 2), (17, 64, 0))),) == found


def test_the_best_estimate_wins_only_if_it_surely_pays():
    """A K whose interval holds 1 is not taken, however high its middle."""
    wide = between(0.95, 2.0)

    assert ((1, 1, 2),) == table((FAST, wide))[0].ranges


def test_a_concurrency_without_a_measurement_joins_the_next():
    """Nothing is claimed of it alone."""
    assert ((1, 1, 4), (2, 16, 2)) == table((FAST, FASTER), (UNKNOWN, UNKNOWN), (FAST, EQUAL))[
        0
    ].ranges
    assert () == table((UNKNOWN, UNKNOWN))


def test_candidates_at_one_length_have_no_table():
    """There is nothing to choose between a draft model and an n-gram by K."""
    point = a_point(1, {FOUR: FASTER, NGRAM_4.name: FAST})

    assert () == batch_sizes([point], (DRAFT_4, NGRAM_4))


def test_candidates_that_differ_otherwise_are_apart():
    """Two draft models are two candidates, each with one K."""
    other = replace(DRAFT_2, draft="another")

    assert () == batch_sizes([a_point(1, {TWO: FAST, FOUR: FASTER})], (other, DRAFT_4))


def test_an_engines_own_settings_are_compared_without_their_length():
    """The JSON of a served arm holds K as well."""
    same = served(2, model='"m"'), served(4, model='"m"')
    other = served(2, model='"m"'), served(4, model='"n"')
    point = a_point(8, {"eagle k=2": FASTER, "eagle k=4": FAST})

    assert (BatchSizes(candidate="eagle", ranges=((1, 8, 2),)),) == batch_sizes([point], same)
    assert () == batch_sizes([point], other)
