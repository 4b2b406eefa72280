from dataclasses import replace

from specmeasure.brief.output_tables import (
    accuracy_table,
    divergence_table,
    drift_table,
    near_tie_table,
    sampled_table,
)
from specmeasure.brief.tables import Footnotes
from specmeasure.records.estimates import Unmeasured
from tests.brief import examples

UNKNOWN = Unmeasured(reason="the checks were lost")


def test_places_of_near_ties_and_divergences():
    """Arm, place, tokens, gap and noise; an answer that ended has no token and no gap."""
    audits = [("draft k=4", examples.draft_arm().losslessness)]

    assert (
        ("draft k=4", "p-017, turn 1, token 4", "603", "511", "2.1e-05 (3.4e-05)"),
        ("draft k=4", "p-058, turn 1, token 87", "ended", "29", "–"),
    ) == divergence_table(audits).rows
    assert ("draft k=4", "p-058, turn 1, token 87", "1.3e-05 (3.2e-05)") == (
        near_tie_table(audits).rows[1]
    )


def test_tests_that_do_not_apply_have_no_p():
    """No baseline, no law of a draft: a dash, not a p of 1."""
    _, estimates, _ = examples.sampled()
    tested = estimates.arms[0].sampled_losslessness
    alone = replace(tested, p_baseline=None, p_pull=None, pull_share=None)
    rows = sampled_table([("both", tested), ("alone", alone)]).rows

    assert ("320", "30,020", "0", "0.44", "0.31", "0.62", "0.44", "0.11", "+0.0007", "1.13 %") == (
        rows[0][1:]
    )
    assert ["–"] * 3 == [rows[1][place] for place in (6, 8, 10)]


def test_drift_and_grades():
    """Every number with its interval; what was not measured with its footnote."""
    _, estimates, _ = examples.sampled()
    arm, notes = estimates.arms[1], Footnotes()

    assert (
        ("ngram", "30,112", "0.0213 [0.0192, 0.0234]", "3.8 % [3.4, 4.2]"),
        ("lost", "–", "not measured¹", "not measured¹"),
    ) == drift_table([("ngram", arm.drift), ("lost", UNKNOWN)], notes).rows
    assert ("Not measured¹: the checks were lost",) == notes.lines
    assert ("ngram", "number", "148", "63 % [55, 70]", "64 % [56, 72]") == (
        accuracy_table([("ngram", arm.accuracy)], notes).rows[0][:5]
    )


def test_arms_without_findings_have_no_rows():
    """Neither None nor a reason is a row of zeros."""
    nothing = [("none", None), ("lost", UNKNOWN)]

    assert () == divergence_table(nothing).rows == near_tie_table(nothing).rows
    assert () == sampled_table(nothing).rows == accuracy_table(nothing, Footnotes()).rows
    assert () == drift_table(nothing[:1], Footnotes()).rows
