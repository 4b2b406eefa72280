"""Recorded pages of counters, and what would be wrong with them."""

import random
from pathlib import Path

import pytest

from specmeasure.errors import UnexpectedReply
from specmeasure.records.trace import DraftCounts
from specmeasure.servers.prometheus import difference, parse_snapshot
from specmeasure.servers.server import Snapshot

PAYLOADS = Path(__file__).parents[1] / "payloads"
LLAMACPP = "llamacpp-2026.10.11549"


def page(name: str) -> str:
    return (PAYLOADS / name).read_text()


def llamacpp(kind: str, place: int) -> Snapshot:
    return parse_snapshot(page(f"{LLAMACPP}-{kind}-metrics-{place}.txt"), "llamacpp")


def vllm_page(*engines: tuple[int, int, int], model: str = "m", positions: str = "01") -> str:
    """Pages of data-parallel engines: blocks, and accepted tokens by position."""
    lines = []
    for engine, (blocks, first, second) in enumerate(engines):
        labels = f'engine="{engine}",model_name="{model}"'
        lines += [
            f"vllm:spec_decode_num_drafts_total{{{labels}}} {blocks}.0",
            f"vllm:spec_decode_num_drafts_created{{{labels}}} 1.795e+09",
            f"vllm:spec_decode_num_draft_tokens_total{{{labels}}} {2 * blocks}.0",
            f"vllm:spec_decode_num_accepted_tokens_total{{{labels}}} {first + second}.0",
            f"vllm:generation_tokens_total{{{labels}}} {1 + blocks + first + second}.0",
        ]
        lines += [
            f"vllm:spec_decode_num_accepted_tokens_per_pos_total"
            f'{{{labels},position="{position}"}} {kept}.0'
            for position, kept in zip(positions, (first, second), strict=True)
        ]
    return "\n".join(lines) + "\n"


def counts(drafted: int, accepted: int, blocks: int | None = None, **more: object) -> DraftCounts:
    return DraftCounts(
        num_draft_tokens=drafted, num_accepted_tokens=accepted, num_drafted_blocks=blocks, **more
    )


def test_vllm_counters_are_read():
    """A whole page of a model whose name has a space; no unix time is taken for a counter."""
    expected = Snapshot(
        drafts=counts(84, 67, 21, accepted_by_position=(18, 18, 16, 15)), num_emitted_tokens=85
    )

    assert expected == parse_snapshot(page("vllm-0.32.0-demo-metrics.txt"), "vllm")


def test_a_vllm_baseline_has_no_draft_counters():
    """Absent is unknown, though emitted tokens are counted."""
    snapshot = parse_snapshot(page("vllm-0.32.0-baseline-metrics.txt"), "vllm")

    assert snapshot.drafts is None
    assert 488 == snapshot.num_emitted_tokens


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("base", counts(0, 0, 0)),
        ("draft", counts(84, 61, 21, accepted_by_position=(18, 18, 13, 12))),
        ("ngram", counts(24, 6, 6, accepted_by_position=(4, 2, 0, 0))),
        ("synth", counts(116, 61, 29, accepted_by_position=(23, 19, 13, 6))),
    ],
)
def test_llamacpp_counters_differ_by_what_was_asked(kind, expected):
    """A baseline says zeros; positions appear with the first drafts and count from 0."""
    counted = difference(llamacpp(kind, 0), llamacpp(kind, 1))

    assert expected == counted.drafts
    assert (93 if kind == "synth" else 85) == counted.num_emitted_tokens


def test_engines_are_summed():
    """Data-parallel engines count apart."""
    snapshot = parse_snapshot(vllm_page((10, 6, 2), (5, 1, 1)), "vllm", "m")

    assert counts(30, 10, 15, accepted_by_position=(7, 3)) == snapshot.drafts
    assert 27 == snapshot.num_emitted_tokens


def test_of_several_models_the_one_is_read():
    """Other models on the server are other traffic; an only one under another name is an alias."""
    two = vllm_page((10, 6, 2), model="a model") + vllm_page((5, 1, 1), model="b")

    assert (
        counts(20, 8, 10, accepted_by_position=(6, 2))
        == parse_snapshot(two, "vllm", "a model").drafts
    )
    assert parse_snapshot(two, "vllm", "c") == Snapshot(drafts=None, num_emitted_tokens=None)
    assert parse_snapshot(vllm_page((5, 1, 1)), "vllm", "alias").drafts == counts(
        10, 2, 5, accepted_by_position=(1, 1)
    )


def test_missing_positions_keep_their_place():
    """A position that was never counted up is 0 at its own place."""
    snapshot = parse_snapshot(vllm_page((10, 6, 2), positions="02"), "vllm")

    assert (6, 0, 2) == snapshot.drafts.accepted_by_position


@pytest.mark.parametrize(
    "name", ["num_draft_tokens_total", "num_accepted_tokens_total", "generation_tokens_total"]
)
def test_a_renamed_counter_is_unknown(name):
    """What is not there is None, never 0."""
    snapshot = parse_snapshot(vllm_page((10, 6, 2)).replace(name, "renamed_total"), "vllm")

    assert None in (snapshot.drafts, snapshot.num_emitted_tokens)


def test_another_engines_page_has_nothing():
    """Prefixes are not mixed up."""
    nothing = Snapshot(drafts=None, num_emitted_tokens=None)

    assert nothing == parse_snapshot(vllm_page((10, 6, 2)), "llamacpp")
    assert nothing == parse_snapshot("", "vllm")


def test_llamacpp_rounds_what_is_large():
    """It prints six digits: from a million on a counter is not known, and below it is."""
    large = page(f"{LLAMACPP}-draft-metrics-1.txt").replace("total 85\n", "total 1.05052e+06\n")
    snapshot = parse_snapshot(large, "llamacpp")
    drafted = parse_snapshot(large.replace("tokens_total 84\n", "tokens_total 1e+06\n"), "llamacpp")

    assert snapshot.num_emitted_tokens is None
    assert snapshot.drafts == llamacpp("draft", 1).drafts
    assert drafted.drafts is None


def test_vllm_prints_what_is_large_in_full():
    """Its floats are exact."""
    text = "vllm:generation_tokens_total 1.234567e+07\n"

    assert 12_345_670 == parse_snapshot(text, "vllm").num_emitted_tokens


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("} 20.0", "} twenty", "not in Prometheus' text format"),
        ('"m"} 10.0', '"m} 10.0', "not in Prometheus' text format"),
        ("} 20.0", "} NaN", "is nan, no count"),
        ("} 20.0", "} -1", "is -1, no count"),
        ("} 20.0", "} 20.5", "is 20.5, no count"),
        ("} 20.0", "} 7.0", "contradicts itself: accepted 8 of 7"),
        ('position="1"', 'position="first"', "without its position"),
        ('position="1"', 'position="4000000000"', "without its position"),
        ('position="1"} 2.0', 'position="1"} 3.0', "the positions say 9 accepted tokens"),
    ],
)
def test_a_broken_page_is_refused(old, new, words):
    """Each fault has words, and what to do."""
    broken = vllm_page((10, 6, 2)).replace(old, new)

    with pytest.raises(UnexpectedReply, match=words) as refused:
        parse_snapshot(broken, "vllm")

    assert "serve it without" in str(refused.value)


def test_damage_is_an_error_or_counts():
    """However a page is damaged, nothing but our own error comes out."""
    rng = random.Random(0)
    whole = vllm_page((10, 6, 2), (5, 1, 1))
    num_refused = 0
    for _ in range(400):
        text = list(whole)
        text[rng.randrange(len(text))] = rng.choice('{}"=, \n#:b1.\\')
        try:
            parse_snapshot("".join(text), "vllm")
        except UnexpectedReply:
            num_refused += 1

    assert 0 < num_refused < 400


@pytest.mark.parametrize(
    ("later", "what"),
    [
        ((9, 6, 2), "drafted tokens"),
        ((11, 3, 2), "accepted tokens"),
        ((11, 9, 1), "accepted tokens of a position"),
    ],
)
def test_counters_that_went_back_are_a_restart(later, what):
    """Counters never fall while a server lives."""
    before = parse_snapshot(vllm_page((10, 6, 2)), "vllm")
    after = parse_snapshot(vllm_page(later), "vllm")

    with pytest.raises(
        UnexpectedReply, match=f"counter of {what} went back by 1|went back by [23]"
    ):
        difference(before, after)


def test_fewer_emitted_tokens_are_a_restart():
    """Also where nothing was drafted."""
    before, after = (Snapshot(drafts=None, num_emitted_tokens=number) for number in (5, 3))

    with pytest.raises(UnexpectedReply, match="emitted tokens went back by 2"):
        difference(before, after)


def test_what_one_side_does_not_tell_is_unknown():
    """No difference is made of one number."""
    told = Snapshot(drafts=counts(8, 3, 2, accepted_by_position=(2, 1)), num_emitted_tokens=6)
    silent = Snapshot(drafts=None, num_emitted_tokens=None)
    without_positions = Snapshot(drafts=counts(4, 1), num_emitted_tokens=3)

    assert silent == difference(silent, told) == difference(told, silent)
    assert Snapshot(drafts=counts(4, 2), num_emitted_tokens=3) == difference(
        without_positions, told
    )


def test_readings_that_contradict_each_other_are_refused():
    """More accepted than drafted in between: one page was read in the middle of a change."""
    before, after = (
        Snapshot(drafts=counts(*numbers), num_emitted_tokens=1) for numbers in ((8, 1), (9, 4))
    )

    with pytest.raises(UnexpectedReply, match="accepted 3 of 1"):
        difference(before, after)
