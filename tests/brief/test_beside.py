from dataclasses import replace

from specmeasure.brief.beside import beside_table
from specmeasure.brief.markdown import render_details, render_markdown
from specmeasure.brief.served import Served
from specmeasure.brief.tables import Footnotes
from tests.brief import examples, examples_load

NAMES = ["draft k=4", "draft k=2"]


def test_one_request_in_process_comes_before_every_load():
    """Decode speedup and τ of arms that both runs have."""
    curve, in_process = examples_load.managed().curve, examples.go()[1]

    assert (
        ("draft k=4", "in process, one request", "1.42× [1.35, 1.49]", "2.94 [2.85, 3.02]"),
        ("draft k=4", "concurrency 1", "1.62× [1.54, 1.69]", "2.89 [2.81, 2.98]"),
        ("draft k=4", "concurrency 4", "1.31× [1.24, 1.38]", "2.89 [2.81, 2.98]"),
        ("draft k=4", "concurrency 16", "0.94× [0.87, 1.01]", "2.89 [2.81, 2.98]"),
    ) == beside_table(in_process, curve, NAMES, Footnotes()).rows


def test_nothing_in_common_is_no_table():
    """Nor is a run on servers alone."""
    curve, in_process = examples_load.managed().curve, examples.go()[1]
    others = replace(in_process, arms=(examples.ngram_arm(),))

    assert () == beside_table(others, curve, NAMES, Footnotes()).rows
    assert () == beside_table(None, curve, NAMES, Footnotes()).rows


def test_both_pages_show_it_where_both_were_measured():
    """Under the curve; without an in-process run nothing is missing."""
    served, in_process = examples_load.managed(), examples.go()[1]
    pages = [
        render(*served.records, figures={}, served=Served(curve=served.curve, beside=beside))
        for render in (render_markdown, render_details)
        for beside in (in_process, None)
    ]

    assert [1, 0, 1, 0] == [page.count("| in process, one request |") for page in pages]
