from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from specmeasure.brief.console import summary_table
from specmeasure.brief.headline import routing
from specmeasure.brief.joined import join_arms
from specmeasure.brief.markdown import render_details, render_markdown
from specmeasure.brief.plots import speedup_figure
from specmeasure.brief.slices import (
    write_correction,
    write_gains,
    write_slice_tables,
    write_telling_slices,
)
from specmeasure.brief.tables import Footnotes
from specmeasure.records.decision import SliceVerdict, Verdict
from specmeasure.records.estimates import Estimate, SliceEstimates, Unmeasured
from tests.brief import examples
from tests.brief.terminal import printed

UNKNOWN = Unmeasured(reason="too few")
GAIN = examples.interval(1.4, 1.2, 1.6, level=0.99, num_prompts=12)
LOSS = examples.interval(0.8, 0.7, 0.9, level=0.99, num_prompts=12)
OPEN = examples.interval(1.0, 0.8, 1.2, level=0.95, num_prompts=12)
HOSTILE = "a|b `c` <script>x</script> [y](http://z)\n# d"


def part(axis: str, name: str, speedup: Estimate, *, num_prompts: int = 12) -> SliceEstimates:
    made = examples.slice_estimates(name, num_prompts, speedup, UNKNOWN, UNKNOWN)
    return replace(made, axis=axis)


def sliced(*parts: SliceEstimates) -> examples.Records:
    """The GO example with one arm cut like this."""
    manifest, estimates, decision = examples.go()
    arm = examples.draft_arm(slices=parts)
    verdicts = tuple(
        SliceVerdict(axis=one.axis, name=one.name, verdict=Verdict.GO) for one in parts
    )
    decided = replace(decision.arms[0], slices=verdicts)
    return manifest, replace(estimates, arms=(arm,)), replace(decision, arms=(decided,))


def test_gains_and_losses_are_named_with_the_route():
    """Who gains, who loses, and by which axis to tell them apart."""
    said = write_gains(
        [
            part("category", "chat", GAIN),
            part("language", "en", GAIN),
            part("language", "te", LOSS),
            part("language", "sw", OPEN),
        ]
    )

    assert "above 1.00: category chat; language en." in said
    assert "below 1.00: language te." in said
    assert said.endswith("Route by language: speculation for en, the plain target for te.")
    assert "sw" not in said


def test_nobody_routes_by_worker():
    """Which worker gains is told, and no advice: prompts are not sent by it."""
    said = write_gains([part("worker", "0", GAIN), part("worker", "1", LOSS)])
    arm = join_arms(*sliced(part("worker", "0", GAIN), part("worker", "1", LOSS)))[0]

    assert said.endswith("below 1.00: worker 1.")
    assert write_telling_slices(arm, Footnotes()) is None
    assert ["worker"] == [one.axis for one in write_slice_tables(arm, Footnotes())]


def test_no_route_across_axes():
    """A gain of one axis and a loss of another overlap: no rule follows from them."""
    said = write_gains([part("category", "chat", GAIN), part("language", "te", LOSS)])

    assert "Route" not in said


@pytest.mark.parametrize("parts", [[], [part("turn", "1", OPEN)], [part("turn", "1", UNKNOWN)]])
def test_nothing_shown_is_said(parts):
    """Neither gain nor loss is a finding too."""
    assert "neither gain nor loss" in write_gains(parts)


def test_correction_counts_measured_slices_of_all_arms():
    """What could not be measured was no look."""
    manifest, estimates, decision = examples.go()
    said = write_correction(join_arms(manifest, estimates, decision))

    assert "Holm's levels over 5 measured slices of 2 arms" in said


def test_a_table_for_each_axis():
    """Category first, then the rest as they were estimated."""
    records = sliced(
        part("category", "chat", GAIN), part("category", "code", OPEN), part("turn", "1", GAIN)
    )
    tables = write_slice_tables(join_arms(*records)[0], Footnotes())

    assert [("Category", 2), ("Turn", 1)] == [
        (one.table.columns[0], len(one.table.rows)) for one in tables
    ]


@pytest.mark.parametrize(
    ("verdicts", "axis"),
    [
        ({"a": "GO", "b": "GO", "en": "GO", "te": "NO_GO"}, "language"),
        ({"a": "GO", "b": "INCONCLUSIVE", "en": "GO", "te": "NO_GO"}, "language"),
        ({"a": "GO", "b": "INCONCLUSIVE", "en": "GO", "te": "GO"}, "category"),
        ({"a": "GO", "b": "GO", "en": "GO", "te": "GO"}, "category"),
        ({"a": "GO", "en": "GO", "te": "GO"}, "language"),
        ({"a": "GO"}, "category"),
        ({}, None),
    ],
)
def test_the_page_shows_the_axis_that_tells_most(verdicts, axis):
    """GO against NO_GO before any other difference, several slices before a single one."""
    axes = {"a": "category", "b": "category", "en": "language", "te": "language"}
    manifest, estimates, decision = sliced(*(part(axes[name], name, GAIN) for name in verdicts))
    judged = tuple(
        SliceVerdict(axis=axes[name], name=name, verdict=Verdict(verdict))
        for name, verdict in verdicts.items()
    )
    decision = replace(decision, arms=(replace(decision.arms[0], slices=judged),))
    arm = join_arms(manifest, estimates, decision)[0]
    shown = write_telling_slices(arm, Footnotes())

    assert axis == (shown and shown.axis)


def test_slices_of_one_name_are_told_apart_by_axis():
    """A file may be called like a category; each keeps its own verdict."""
    manifest, estimates, decision = sliced(part("category", "x", GAIN), part("source", "x", LOSS))
    verdicts = (
        SliceVerdict(axis="category", name="x", verdict=Verdict.GO),
        SliceVerdict(axis="source", name="x", verdict=Verdict.NO_GO),
    )
    decision = replace(decision, arms=(replace(decision.arms[0], slices=verdicts),))
    tables = write_slice_tables(join_arms(manifest, estimates, decision)[0], Footnotes())

    assert ["GO", "NO_GO"] == [one.table.rows[0][-1] for one in tables]


@pytest.mark.parametrize(
    ("number", "rows", "said"),
    [
        (20, 20, None),
        (21, 20, "And 1 smaller slice by source."),
        (50, 20, "And 30 smaller slices by source."),
    ],
)
def test_many_slices_are_cut(number, rows, said):
    """The largest twenty have rows, the rest are counted."""
    parts = [part("source", f"file {n}", OPEN, num_prompts=n + 4) for n in range(number)]
    records = sliced(*parts)
    (shown,) = write_slice_tables(join_arms(*records)[0], Footnotes())

    assert (rows, said) == (len(shown.table.rows), shown.left_out)
    assert f"file {number - 1}" in {row[0] for row in shown.table.rows}
    assert (said or "## By slice") in render_details(*records, figures={})


def test_hostile_axes_and_names_stay_text():
    """A field of the user's and its values cannot write markup, in any output."""
    records = sliced(part(HOSTILE, HOSTILE, GAIN), part(HOSTILE, "slow", LOSS))
    pages = render_markdown(*records, figures={}) + render_details(*records, figures={})
    html = MarkdownIt("commonmark").enable("table").render(pages)

    assert "<script" not in html
    assert 'href="http' not in html
    assert "<h1>d" not in html
    assert "<script>x</script>" in printed(summary_table(*records)).replace("\n", "")
    picture = speedup_figure(*records[1:])
    assert picture
    assert b"<script" not in picture.svg


def test_the_console_shows_the_first_axis_and_the_gains():
    """One table, and the sentence over all axes."""
    said = printed(
        summary_table(*sliced(part("length", "under 64", GAIN), part("turn", "1", LOSS)))
    )

    assert "draft k=4 by length" in said
    assert "draft k=4 by turn" not in said
    assert "below 1.00: turn 1." in said


def test_the_figure_says_its_axis():
    """The first axis present is drawn, and named."""
    picture = speedup_figure(*sliced(part("priority", "high", GAIN), part("turn", "1", LOSS))[1:])

    assert picture
    assert b"of 1 slice by priority" in picture.svg


def test_routing_takes_the_axis_that_splits():
    """Categories that merely lack evidence give way to languages that need a route."""
    verdicts = [
        SliceVerdict(axis="category", name="my-route", verdict=Verdict.INCONCLUSIVE),
        SliceVerdict(axis="category", name="chat", verdict=Verdict.GO),
        SliceVerdict(axis="language", name="en", verdict=Verdict.GO),
        SliceVerdict(axis="language", name="te", verdict=Verdict.NO_GO),
    ]

    assert "by language: GO for en; NO_GO for te: route" == routing(verdicts)
    assert "by category: GO for chat; INCONCLUSIVE for my-route" == routing(verdicts[:2])
