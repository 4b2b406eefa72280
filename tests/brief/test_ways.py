"""Heads or a draft model: what the brief says of it."""

from dataclasses import replace

from specmeasure.brief.content import brief_content
from specmeasure.records.estimates import Unmeasured, Way
from tests.brief import examples
from tests.brief.examples import interval

HEADS = Way(
    name="heads",
    arm="medusa tree 16",
    num_arms=3,
    decode_speedup=interval(1.52, 1.44, 1.6),
    lead=None,
    extra_memory_bytes=2_883_584,
)
DRAFT = Way(
    name="draft model",
    arm="draft k=4",
    num_arms=6,
    decode_speedup=interval(1.3, 1.24, 1.37),
    lead=interval(1.17, 1.08, 1.26),
    extra_memory_bytes=629_146,
)
LOOKUP = Way(
    name="lookup",
    arm="ngram k=4",
    num_arms=1,
    decode_speedup=interval(1.49, 1.38, 1.61),
    lead=interval(1.02, 0.95, 1.1),
    extra_memory_bytes=0,
)


def content(*ways: Way):
    manifest, estimates, decision = examples.go()
    return brief_content(manifest, replace(estimates, ways=ways), decision)


def test_one_way_is_no_question():
    """Where one was tried, nothing is said."""
    assert content().ways is None


def test_leads_that_hold_are_told_from_those_that_do_not():
    """Ahead where the lead's interval is above 1, else not told apart."""
    said = content(HEADS, LOOKUP, DRAFT).ways

    assert said == (
        "The fastest way to draft on these prompts is heads (medusa tree 16), ahead of a draft "
        "model (draft k=4) by 1.17× [1.08, 1.26]; it is not told apart from lookup (ngram k=4)."
    )


def test_a_lead_that_is_not_measured_does_not_hold():
    """Too few prompts settle nothing."""
    unknown = replace(DRAFT, lead=Unmeasured(reason="not enough prompts"))

    assert "but it is not told apart from a draft model" in str(content(HEADS, unknown).ways)


def test_speed_and_memory_stand_side_by_side():
    """One line a way; the leader leads nobody."""
    table = content(HEADS, DRAFT).ways_table

    assert [
        ("heads, 3 arms", "medusa tree 16", "1.52× [1.44, 1.60]", "–", "+2.75 MiB"),
        (
            "draft model, 6 arms",
            "draft k=4",
            "1.30× [1.24, 1.37]",
            "1.17× [1.08, 1.26]",
            "+614 KiB",
        ),
    ] == list(table.rows)
