"""Blocks by columns say what blocks one by one say."""

from dataclasses import replace

import numpy as np
import pytest

from specmeasure.estimate.acceptance import count_acceptance
from specmeasure.estimate.blocks import Blocks, columns_of, sum_blocks
from specmeasure.records.blocks import BlockRows
from tests.fakes import make_block, make_trial


def some_trials(number: int, *, seed: int = 0):
    """Trials of unlike lengths, one in seven of them without blocks."""
    rng = np.random.default_rng(seed)
    trials = []
    for place in range(number):
        blocks = []
        for _ in range(rng.integers(0, 9)):
            drafted = int(rng.integers(0, 5))
            accepted = int(rng.integers(0, drafted + 1))
            times = dict(zip(("draft_s", "verify_s"), rng.random(2).tolist(), strict=True))
            blocks.append(make_block(drafted, accepted, **times))
        trial = make_trial(f"p{place}", *blocks)
        empty = {"blocks": (), "error": "lost", "num_emitted_tokens": None}
        trials.append(replace(trial, **empty) if place % 7 == 3 else trial)
    return trials


def in_columns(trials):
    """The same trials as a large trace holds them."""
    columns = columns_of([block for trial in trials for block in trial.blocks])
    ends = np.cumsum([len(trial.blocks) for trial in trials]).tolist()
    starts = [0, *ends[:-1]]
    return [
        replace(trial, blocks=BlockRows(columns, start, end))
        for trial, start, end in zip(trials, starts, ends, strict=True)
    ]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (make_block(4, 0), 1),
        (make_block(4, 2), 3),
        (make_block(4, 4), 4),
        (make_block(0, 0), 0),
        (make_block(4, 2, truncated=True), 2),
        (make_block(4, 4, truncated=True), 4),
        (make_block(9, 1, draft_depth=3), 2),
        (make_block(9, 3, draft_depth=3), 3),
        (make_block(9, 2, draft_depth=3, truncated=True), 2),
    ],
)
def test_drafts_are_judged_up_to_the_first_rejection(block, expected):
    """The rejected draft is judged, those behind it are not; EOS ends judgement without one."""
    [part] = Blocks.of([make_trial("p", block)]).parts()

    assert [0, expected] == part.num_judged.tolist()


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_parts_are_whole_trials_in_order(size):
    """However small the parts, every block stands in one, with its own trial."""
    trials = some_trials(40)
    parts = list(Blocks.of(trials).parts(size=size))
    drafted = np.concatenate([part.num_drafted for part in parts])
    owner = np.concatenate([part.first_trial + part.trial for part in parts])

    assert [b.num_draft_tokens for t in trials for b in t.blocks] == drafted.tolist()
    assert [n for n, t in enumerate(trials) for _ in t.blocks] == owner.tolist()


@pytest.mark.parametrize("chosen", [slice(None), slice(5, 20), slice(None, None, 3), slice(0, 0)])
def test_columns_are_summed_as_records(chosen):
    """Neighbours in the columns, and trials picked from among others, give the same sums."""
    trials = some_trials(60)
    expected = sum_blocks(Blocks.of(trials[chosen]))
    found = sum_blocks(Blocks.of(in_columns(trials)[chosen]))

    for name in expected.__slots__:
        np.testing.assert_array_equal(getattr(expected, name), getattr(found, name), name)


def test_sums_leave_the_prefill_out_where_they_say_so():
    """By hand: times and drafts of the passes after the first, all emitted tokens of all."""
    prefill = make_block(0, 0, draft_s=5.0, verify_s=7.0)
    later = [make_block(4, 2, draft_s=1.0, verify_s=2.0), make_block(4, 0, draft_s=1.0)]
    trial = replace(make_trial("p"), blocks=(prefill, *later), num_emitted_tokens=5)
    found = sum_blocks(Blocks.of([trial]))

    assert [2.0] == found.later_draft_s.tolist()
    assert [2.0] == found.later_verify_s.tolist()
    assert (3, 5, 4) == (found.num_passes, found.num_emitted, found.num_later_emitted)
    assert [[2, 1, 1, 0]] == found.num_reached.tolist()
    assert [[1, 1, 0, 0]] == found.num_kept.tolist()


def test_counts_by_prompt_do_not_depend_on_how_blocks_are_held():
    """The same acceptance, prompt by prompt, from columns and from records."""
    trials = [trial for trial in some_trials(60) if not trial.failed]
    held = [trial for trial in in_columns(some_trials(60)) if not trial.failed]
    rows, same = ([own[i : i + 3] for i in range(0, len(own), 3)] for own in (trials, held))
    expected, found = count_acceptance(rows, 6), count_acceptance(same, 6)

    for name in expected.__slots__:
        np.testing.assert_array_equal(getattr(expected, name), getattr(found, name), name)
