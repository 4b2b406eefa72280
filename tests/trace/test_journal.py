"""The journal: whole lines count, torn ones never happened, anything else is refused."""

import json
import os
import re
from dataclasses import replace

import pytest

from specmeasure.errors import UnreadableTrace, UsageError
from specmeasure.records.plan import BASELINE
from specmeasure.trace import store
from tests.fakes import (
    DRAFT_4,
    FakeEngine,
    Traffic,
    make_plan,
    make_prompts,
    make_trial,
    record_into,
)

COUNTED = {
    "num_draft_tokens",
    "num_accepted_tokens",
    "context_length",
    "draft_s",
    "verify_s",
    "truncated",
    "draft_depth",
}  # columns of blocks that tell no text


def small_run():
    """An engine and a prompt whose journal is short enough to cut at every byte."""
    plan = make_plan(BASELINE, DRAFT_4)
    return FakeEngine(plan=plan, traffic=Traffic(lengths=(2,))), make_prompts(1)


@pytest.fixture
def folder(tmp_path):
    """A finished journal of one prompt and two arms: two trials and a line of checks."""
    record_into(tmp_path, *small_run())
    return tmp_path


def test_every_trial_and_turn_is_a_line(folder):
    """Trials stand in the order they ran, their turn's audits behind them."""
    lines = [json.loads(line) for line in (folder / store.JOURNAL).read_bytes().splitlines()]

    assert ["trial", "trial", "checks"] == [next(iter(line)) for line in lines]


def test_every_prefix_can_be_read(folder):
    """Cut at any byte, the journal holds the trials of its whole lines."""
    whole = store.read_trace(folder).trials
    content = (folder / store.JOURNAL).read_bytes()

    for cut in reversed(range(len(content))):
        os.truncate(folder / store.JOURNAL, cut)
        trials = store.read_trace(folder).trials

        assert content[:cut].count(b"\n") == len(trials)
        assert tuple(replace(trial, checks=None) for trial in whole[: len(trials)]) == trials


@pytest.mark.slow
def test_every_prefix_can_be_resumed(folder):
    """Cut at any byte and resumed, the journal ends up as if it had never been cut."""
    content = (folder / store.JOURNAL).read_bytes()
    whole = store.read_trace(folder).trials

    for cut in range(len(content)):
        (folder / store.JOURNAL).unlink()  # a file system syncs what is cut and written again
        (folder / store.JOURNAL).write_bytes(content[:cut])
        record_into(folder, *small_run())

        assert whole == store.read_trace(folder).trials


def test_a_torn_line_is_cut_before_the_next(folder):
    """What a crash left of a line is removed, so that it does not run into the next one."""
    journal_path = folder / store.JOURNAL
    content = journal_path.read_bytes()
    journal_path.write_bytes(content + b'{"trial":{"key":{"prom')

    with store.Journal(folder) as journal:
        journal.drop_torn_line()
        journal.add_trial(make_trial("new"))

    assert journal_path.read_bytes().startswith(content + b'{"trial":{"key":{"prompt_id":"new"')
    assert 3 == len(store.read_trace(folder).trials)


def test_a_whole_journal_is_not_cut(folder):
    """There is nothing to remove where every line is whole."""
    content = (folder / store.JOURNAL).read_bytes()

    with store.Journal(folder) as journal:
        journal.drop_torn_line()

    assert content == (folder / store.JOURNAL).read_bytes()


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\0\0\0\0", b"{", b"[]", b"null", b'{"trial": 3}', b'{"trial": {"key": "p"}}'],
    ids=repr,
)
def test_garbage_in_the_middle_is_refused(folder, garbage):
    """A damaged line that is not the last one is named by file and number, never passed over."""
    lines = (folder / store.JOURNAL).read_bytes().splitlines(keepends=True)
    lines[2:2] = [garbage + b"\n"]
    (folder / store.JOURNAL).write_bytes(b"".join(lines))

    with pytest.raises(UnreadableTrace, match=re.escape(f"{folder / store.JOURNAL}:3: damaged")):
        store.read_trace(folder)


def test_an_impossible_block_is_refused(folder):
    """The invariants of the records hold for what is read, too."""
    content = (folder / store.JOURNAL).read_text()
    content = content.replace('"num_accepted_tokens":[0', '"num_accepted_tokens":[7')
    (folder / store.JOURNAL).write_text(content)

    with pytest.raises(UnreadableTrace, match=r"journal.jsonl:1: damaged: accepted 7 of 0"):
        store.read_trace(folder)


@pytest.mark.parametrize(
    ("whole", "spoilt"),
    [
        ('"context_length":[', '"context_length":[3,'),
        ('"truncated":[1]', '"truncated":[2]'),
        ('"verify_s":[', '"verify_s":[null,'),
        ('"num_draft_tokens":[', f'"num_draft_tokens":[{2**31},'),
    ],
)
def test_uneven_columns_of_blocks_are_refused(folder, whole, spoilt):
    """A trial's blocks stand in its line by columns, which fit each other and the table."""
    content = (folder / store.JOURNAL).read_text()
    content = content.replace('"blocks":{', '"blocks":{"truncated":[1],')
    (folder / store.JOURNAL).write_text(content.replace(whole, spoilt))

    with pytest.raises(UnreadableTrace, match=r"journal.jsonl:\d: damaged: "):
        store.read_trace(folder)


def test_a_double_trial_is_refused(folder):
    """Two records of one trial cannot both be right."""
    with store.Journal(folder) as journal:
        journal.add_trial(store.read_trace(folder).trials[0])

    with pytest.raises(UnreadableTrace, match=r"journal.jsonl:4: trial .*'p0'.* stands twice"):
        store.read_trace(folder)


def test_an_audit_needs_its_trial(folder):
    """An audit of a trial that is not there tells of a damaged journal."""
    lines = (folder / store.JOURNAL).read_bytes().splitlines(keepends=True)
    (folder / store.JOURNAL).write_bytes(b"".join(lines[1:]))

    with pytest.raises(UnreadableTrace, match=r"journal.jsonl:2: check of an unknown trial"):
        store.read_trace(folder)


def test_one_recorder_at_a_time(folder):
    """A second recorder on the same folder is refused, and may start once the first is done."""
    with (
        store.Journal(folder),
        pytest.raises(UsageError, match="another process is recording"),
        store.Journal(folder),
    ):
        pass

    with store.Journal(folder) as journal:
        journal.add_trial(make_trial("later"))


def test_a_running_journal_can_be_read(folder):
    """Reading does not ask for the lock: a run can be looked at while it goes on."""
    with store.Journal(folder):
        assert 2 == len(store.read_trace(folder).trials)


def test_no_id_reaches_the_journal(tmp_path):
    """Without include_text no list of token ids, of a prompt or of an answer, is on disk."""
    record_into(tmp_path, FakeEngine(plan=make_plan()), make_prompts(3))

    for line in (tmp_path / store.JOURNAL).read_bytes().splitlines():
        entry = json.loads(line)
        assert set(entry.pop("blocks", {})) <= COUNTED
        assert [] == lists_of_numbers(entry)


def test_ids_reach_the_journal_on_request(tmp_path):
    """With include_text they do: the test above can see them."""
    record_into(tmp_path, FakeEngine(plan=make_plan(include_text=True)), make_prompts(1))

    first = (tmp_path / store.JOURNAL).read_bytes().splitlines()[0]
    assert {"draft_ids", "emitted_ids"} & set(json.loads(first)["blocks"])
    assert [] != lists_of_numbers(json.loads(first)["trial"])


def test_no_prompt_reaches_the_disk(tmp_path):
    """Neither the journal nor the sealed tables hold a word of a prompt."""
    record_into(tmp_path, FakeEngine(plan=make_plan()), make_prompts(3))
    running = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    store.seal_run(tmp_path)
    sealed = b"".join(path.read_bytes() for path in tmp_path.iterdir())

    assert b"question" not in running
    assert b"question" not in sealed


def lists_of_numbers(value):
    """Every list of numbers inside a JSON value."""
    if isinstance(value, dict):
        return [found for part in value.values() for found in lists_of_numbers(part)]
    if not isinstance(value, list):
        return []
    if value and all(isinstance(part, int) for part in value):
        return [value]
    return [found for part in value for found in lists_of_numbers(part)]
