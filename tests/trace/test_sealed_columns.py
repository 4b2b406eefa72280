"""Sealed tables are read by columns: shared, checked as the records would, text only when asked."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specmeasure.errors import UnreadableTrace
from specmeasure.records.blocks import BlockRows
from specmeasure.records.plan import BASELINE
from specmeasure.trace import lists, store, tables
from specmeasure.trace.block_tables import BlockWriter, read_blocks
from specmeasure.trace.lines import Blocks
from specmeasure.trace.parquet import TableWriter
from tests.fakes import DRAFT_4, FakeEngine, make_manifest, make_plan, make_prompts, make_trial
from tests.fakes import record_into as record

PLAN = make_plan(BASELINE, DRAFT_4)


@pytest.fixture
def sealed(tmp_path):
    """A sealed run of three prompts without text."""
    record(tmp_path, FakeEngine(plan=PLAN), make_prompts(3))
    store.seal_run(tmp_path)
    return tmp_path


def rewrite(folder, name, change):
    """Change a sealed table as someone would who seals it anew."""
    table = change(pq.read_table(folder / name))
    pq.write_table(table, folder / name)
    seal = json.loads((folder / store.SEAL).read_text())
    seal["sha256"][name] = store.digest_of(folder / name)
    (folder / store.SEAL).write_text(json.dumps(seal))


def with_value(name, row, value):
    """A change of one value of a table."""

    def change(table):
        values = table.column(name).to_pylist()
        values[row] = value
        place = table.schema.get_field_index(name)
        field = table.schema.field(place)
        return table.set_column(place, field, pa.array(values, field.type))

    return change


@pytest.mark.parametrize("state", ["running", "sealed"])
def test_trials_share_columns_of_numbers(sealed, tmp_path, state):
    """All blocks are arrays of fixed types, of which each trial has its rows."""
    folder = sealed
    if state == "running":
        folder = tmp_path / "running"
        record(folder, FakeEngine(plan=PLAN), make_prompts(3))
    blocks = [trial.blocks for trial in store.read_trace(folder).trials]

    assert {BlockRows} == set(map(type, blocks))
    assert 1 == len({id(rows.columns) for rows in blocks})
    columns = blocks[0].columns
    assert np.int32 == columns.num_draft_tokens.dtype == columns.most_accepted.dtype
    assert np.float64 == columns.draft_s.dtype == columns.verify_s.dtype
    assert np.bool_ == columns.truncated.dtype == columns.is_tree.dtype
    assert columns.most_accepted is columns.num_draft_tokens  # no trees
    assert columns.draft_ids is columns.emitted_ids is None  # no text
    ends = [(rows.start, rows.stop) for rows in blocks]
    assert [start for start, _ in ends] == [0, *(stop for _, stop in ends[:-1])]


def test_equal_facts_are_one_object(sealed):
    """Labels, samplings, checks and texts that many trials have in common are held once."""
    trials = store.read_trace(sealed).trials

    assert 1 == len({id(trial.labels) for trial in trials})
    assert 1 == len({id(trial.sampling) for trial in trials})
    pairs = zip(trials[::2], trials[1::2], strict=True)
    assert all(one.ids_hash is other.ids_hash for one, other in pairs)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_accepted_tokens", 9, "accepted 9 of 0"),
        ("num_emitted_tokens", 7, "7 emitted, 1 expected"),
        ("draft_depth", 3, "accepted 0 of 0"),
        ("trial_index", 5, "blocks of another trial"),
        ("trial_index", 99, "blocks of another trial"),
    ],
)
def test_an_impossible_block_is_refused(sealed, name, value, message):
    """The invariants of the records hold for columns, too; the row is named."""
    rewrite(sealed, tables.BLOCKS, with_value(name, 0, value))

    with pytest.raises(UnreadableTrace, match=rf"blocks.parquet: row \d: damaged: .*{message}"):
        store.read_trace(sealed)


def test_an_impossible_trial_is_refused(sealed):
    """So do those of what a trial holds."""
    cold = {"temperature": -1.0, "top_k": None, "top_p": None}
    rewrite(sealed, tables.TRIALS, with_value("sampling", 2, cold))

    with pytest.raises(UnreadableTrace, match=r"trials.parquet: damaged: temperature -1.0"):
        store.read_trace(sealed)


def test_a_missing_column_is_refused(sealed):
    """A table of other columns is named, with the column."""
    rewrite(sealed, tables.BLOCKS, lambda table: table.drop_columns(["verify_s"]))

    with pytest.raises(UnreadableTrace, match=r"blocks.parquet: no column verify_s of type double"):
        store.read_trace(sealed)


def test_what_is_no_table_is_refused(sealed):
    """A file of another kind is named, not raised as a parser's error."""
    (sealed / tables.TRIALS).write_bytes(b"PAR1 and nothing else")
    seal = json.loads((sealed / store.SEAL).read_text())
    seal["sha256"][tables.TRIALS] = store.digest_of(sealed / tables.TRIALS)
    (sealed / store.SEAL).write_text(json.dumps(seal))

    with pytest.raises(UnreadableTrace, match=r"trials.parquet: damaged"):
        store.read_trace(sealed)


def test_text_is_read_when_it_is_asked_for(tmp_path, monkeypatch):
    """Reading a trace reads no list of ids; what is asked for later is what was recorded."""
    plan = make_plan(BASELINE, DRAFT_4, include_text=True)
    record(tmp_path, FakeEngine(plan=plan), make_prompts(2))
    before = store.read_trace(tmp_path)
    store.seal_run(tmp_path)
    asked = []
    read = lists.read_column
    monkeypatch.setattr(lists, "read_column", lambda *args: asked.append(args[2:]) or read(*args))

    trace = store.read_trace(tmp_path)

    assert [] == asked
    assert before.trials[1].token_ids == trace.trials[1].token_ids
    assert before.trials[1].blocks == trace.trials[1].blocks
    assert {("token_ids",), ("draft_ids",), ("emitted_ids",)} == set(asked)


def test_text_outlives_its_file(tmp_path):
    """A run that is replaced while its trace is held still tells what was checked."""
    plan = make_plan(BASELINE, include_text=True)
    record(tmp_path, FakeEngine(plan=plan), make_prompts(2))
    before = store.read_trace(tmp_path)
    store.seal_run(tmp_path)
    trace = store.read_trace(tmp_path)
    store.create_run(tmp_path, trace.manifest, replace_run=True)

    assert replace(before, sealed=True) == trace


def test_blocks_are_written_by_row_groups(tmp_path):
    """Those that are held never exceed a row group and one trial; the rows are the same."""
    blocks = [
        Blocks(
            num_draft_tokens=[0, 4],
            num_accepted_tokens=[0, trial % 3],
            context_length=[9, 10],
            draft_s=[0.0, 0.5],
            verify_s=[1.0, 1.0],
            truncated=[1] if trial == 4 else [],
        )
        for trial in range(7)
    ]
    path = tmp_path / tables.BLOCKS
    with TableWriter(path, tables.BLOCK_SCHEMA) as table:
        writer = BlockWriter(table, size=6)
        for trial, own in enumerate(blocks):
            writer.add(trial, own)
        writer.flush()

    assert 14 == writer.num_blocks
    groups = pq.ParquetFile(path).metadata
    assert [6, 6, 2] == [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
    assert [list(own.records()) for own in blocks] == [list(own) for own in read_blocks(path, 7)]


def test_a_trial_without_blocks_has_none(tmp_path):
    """Between others or at the end."""
    store.create_run(tmp_path, make_manifest(PLAN, []))
    with store.Journal(tmp_path) as journal:
        for prompt_id in ("a", "b", "c"):
            journal.add_trial(make_trial(prompt_id))
    running = store.read_trace(tmp_path)
    store.seal_run(tmp_path)

    assert running.trials == store.read_trace(tmp_path).trials
