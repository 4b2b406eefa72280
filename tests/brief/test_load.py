from dataclasses import replace

import pytest

from specmeasure.brief.load import write_load_details, write_load_page
from specmeasure.brief.load_table import load_table, point_tables, schedule_table
from specmeasure.brief.served import Served
from specmeasure.brief.tables import Footnotes
from specmeasure.records.estimates import Unmeasured
from specmeasure.records.load_curve import BatchSizes, Crossover, LoadCurve
from specmeasure.records.serving import Load
from tests.brief import examples_load
from tests.brief.examples_load import ServedExample


def page_of(served: ServedExample, **changes: object):
    curve = replace(served.curve, **changes)
    return write_load_page(Served(curve=curve), served.decision, Footnotes())


def sentences(served: ServedExample, **changes: object) -> str:
    return " ".join(page_of(served, **changes).sentences)


def test_a_row_an_arm_and_load():
    """Lightest load first, the decision's arm before the others, A/A in every row."""
    served = examples_load.managed()
    table = page_of(served).table

    assert [
        ("draft k=4", "concurrency 1"),
        ("draft k=4", "concurrency 4"),
        ("draft k=4", "concurrency 16"),
        ("draft k=2", "concurrency 1"),
        ("draft k=2", "concurrency 4"),
        ("draft k=2", "concurrency 16"),
    ] == [row[:2] for row in table.rows]
    assert {"1.002× [0.991, 1.013]"} == {row[table.columns.index("A/A")] for row in table.rows}


def test_verdicts_are_read_not_made():
    """Of other loads only the first arm's is known, but where it is NO_GO no arm is better."""
    table = page_of(examples_load.managed()).table

    assert ["GO", "GO", "NO_GO", "–", "GO", "NO_GO"] == [row[2] for row in table.rows]


def test_goodput_stands_where_an_slo_was_stated():
    """Without one there is no such column and no such sentence."""
    served = examples_load.managed()

    assert "Goodput" in page_of(served).table.columns
    assert "keep to the SLO: TTFT ≤ 0.5 s, TPOT ≤ 0.05 s. At concurrency 4: 93.2 %" in sentences(
        served
    )
    assert "Goodput" not in page_of(served, slo=None).table.columns
    assert "Goodput" not in sentences(served, slo=None)


@pytest.mark.parametrize(
    ("crossover", "said"),
    [
        (
            {"pays_up_to": 4, "ends_at": 16},
            "draft k=4 pays up to concurrency 4; at 16 its interval includes 1, 0.94× [0.87, 1.01]",
        ),
        (
            {"pays_up_to": 16, "ends_at": None},
            "draft k=4 pays at every concurrency measured, up to 16.",
        ),
        (
            {"pays_up_to": None, "ends_at": 16},
            "draft k=4 pays at no concurrency measured: at 16 its interval includes 1, 0.94×",
        ),
    ],
)
def test_crossovers_in_words(crossover, said):
    """Up to where an arm pays, and how it stands at the next."""
    found = Crossover(arm="draft k=4", **crossover)

    assert said in sentences(examples_load.managed(), crossovers=(found,))


def test_a_curve_that_comes_back_is_not_called_a_loss():
    """Where one load is too noisy and a heavier one is clear, both are told."""
    served = examples_load.managed()
    noisy = replace_speed(served.curve.points[0], 1.0)
    found = Crossover(arm="draft k=4", pays_up_to=None, ends_at=1)

    said = sentences(served, points=(noisy, *served.curve.points[1:]), crossovers=(found,))

    assert (
        "draft k=4 has no clear crossover: at 1 its interval includes 1, 1.00× [0.99, 1.01]; yet "
        "it is faster at 4, 1.31× [1.24, 1.38]."
    ) in said


def test_one_size_is_no_range():
    """A single number of requests in flight is a number."""
    table = schedule_table([BatchSizes(candidate="draft", ranges=((1, 1, 0), (2, 4, 4)))])

    assert [("draft", "1", "0, no speculation"), ("draft", "2 to 4", "4")] == list(table.rows)


def test_slower_is_not_called_open():
    """An interval below 1 is a loss, not a doubt."""
    served = examples_load.managed()
    points = [replace_speed(point, 0.81) for point in served.curve.points]

    assert "at 16 it is slower, 0.81× [0.80, 0.82]" in sentences(served, points=tuple(points))


def test_a_speed_that_was_not_measured_has_its_reason():
    """In the sentence, too."""
    served = examples_load.managed()
    first = replace_speed(served.curve.points[2], None)

    said = sentences(served, points=(*served.curve.points[:2], first))

    assert "at 16 its speedup was not measured (the cable was out)" in said


def test_nothing_is_said_where_nothing_happened():
    """Failures, second tries and foreign traffic are told where there were any."""
    quiet, loud = examples_load.attached(), examples_load.managed()

    assert "Failed" not in sentences(quiet)
    assert "429" not in sentences(quiet)
    assert "Failed requests: 3 of draft k=4 at concurrency 16." in sentences(loud)
    assert "refused connection: 7 of baseline at concurrency 16." in sentences(loud)


def test_answers_in_one_piece_are_told():
    """Of which arm, at which load, why, and what to do; on the page, and beside all else."""
    served = examples_load.managed()
    first = served.curve.points[0]
    lumps = replace(first, baseline=replace(first.baseline, num_in_one_piece=12))
    points = (lumps, *served.curve.points[1:])
    (table, *_) = point_tables(replace(served.curve, points=points), ["draft k=4"], Footnotes())

    said = sentences(served, points=points)

    assert "Arrived in one piece: 12 of 160 answers of baseline at concurrency 1. The ser" in said
    assert "Give the server more cores" in said
    assert ("In one piece", "12", "0") in table.table.rows
    assert "one piece" not in sentences(served)


@pytest.mark.parametrize(
    ("share", "on_page", "in_details"),
    [
        (None, False, "is not known: they do not count"),
        (0.0, False, "as far as counts tell: they counted no token beyond this run's."),
        (0.005, False, "tell: 0.5 % of the tokens that they counted are beyond this run's, as few"),
        (0.0051, True, "0.51 % of the tokens that the servers counted"),
        (0.0312, True, "3.12 % of the tokens that the servers counted"),
    ],
)
def test_foreign_traffic(share, on_page, in_details):
    """Unknown is not none; a page tells of it where there was some."""
    served = examples_load.managed()
    curve = replace(served.curve, foreign_share=share)
    details = write_load_details(served.manifest, Served(curve=curve), served.decision, Footnotes())

    assert on_page == ("others used them" in sentences(served, foreign_share=share))
    assert in_details in " ".join(details.sentences)


@pytest.mark.parametrize(("num_loads", "num_arms"), [(1, 3), (3, 3), (5, 2), (9, 1), (20, 1)])
def test_a_page_keeps_ten_rows_if_it_can(num_loads, num_arms):
    """Three arms at most, fewer where there are many loads; the rest is told to be left out."""
    served = with_arms(examples_load.managed(), num_loads, 4)
    page = write_load_page(Served(curve=served.curve), served.decision, Footnotes())

    assert num_loads * num_arms == len(page.table.rows)
    assert page.arms_left_out
    assert page.arms_left_out.startswith(f"{4 - num_arms} more arm")


def test_the_details_have_every_load_whole():
    """Waiting, throughput, drafts and bookkeeping of each arm; a table a load."""
    served = examples_load.managed()
    tables = list(point_tables(served.curve, ["draft k=4", "draft k=2"], Footnotes()))
    labels = [row[0] for row in tables[0].table.rows]

    assert ["At concurrency 1:", "At concurrency 4:", "At concurrency 16:"] == [
        one.caption for one in tables
    ]
    assert {"TTFT p95", "TPOT p95", "Request p95", "Tokens/s", "In flight"} <= set(labels)
    assert {"Goodput, requests/s", "Requests within the SLO", "Acceptance length τ"} <= set(labels)
    assert ("Failed", "0", "3", "0") == next(r for r in tables[2].table.rows if r[0] == "Failed")


def test_many_arms_are_cut_into_several_tables():
    """A load's table is no wider than four arms and the baseline."""
    served = with_arms(examples_load.managed(), 1, 6)
    names = [arm.arm for arm in served.decision.arms]
    tables = list(point_tables(served.curve, names, Footnotes()))

    assert ["At concurrency 1:", "At concurrency 1, more arms:"] == [one.caption for one in tables]
    assert [6, 4] == [len(one.table.columns) for one in tables]


def test_an_arm_that_a_load_lacks_has_no_row():
    """A run that was interrupted may hold fewer."""
    served = examples_load.managed()
    table = load_table(served.curve, served.decision, ["draft k=4", "other"], Footnotes())

    assert {"draft k=4"} == {row[0] for row in table.rows}


def replace_speed(point, value):
    """The point with another speedup of its first arm; None: it was not measured."""
    found = (
        Unmeasured(reason="the cable was out")
        if value is None
        else examples_load.interval(value, 0.01)
    )
    first, *others = point.estimates.arms
    first = replace(first, decode_speedup=found, decode_speedup_corrected=found)
    return replace(point, estimates=replace(point.estimates, arms=(first, *others)))


def with_arms(served: ServedExample, num_loads: int, num_arms: int) -> ServedExample:
    """The run at so many loads, with so many arms."""
    names = [f"draft k={k}" for k in range(1, num_arms + 1)]
    points = tuple(
        examples_load.point(Load(concurrency=k), 50.0 * k, 1.0 * k, dict.fromkeys(names, 1.2))
        for k in range(1, num_loads + 1)
    )
    chosen = served.decision.arms[0]
    decision = replace(
        served.decision,
        arm=names[0],
        arms=tuple(replace(chosen, arm=name) for name in names),
        load=points[0].load,
        by_load=(),
    )
    curve = LoadCurve(points=points, slo=None, crossovers=(), batch_sizes=(), foreign_share=None)
    return replace(served, decision=decision, curve=curve)
