"""Windows on disk: a line is a window with its trials and checks, whole or not at all."""

import json
import os
import shutil

import pytest

from specmeasure.errors import UnreadableTrace
from specmeasure.records.plan import BASELINE
from specmeasure.records.serving import Load
from specmeasure.run.load_recorder import LoadRecorder
from specmeasure.trace import store, tables
from tests.fake_servers import FakeContexts, FakeFleet, clock, run, serving_plan
from tests.fakes import DRAFT_4, make_manifest, make_prompts

PLAN = serving_plan(BASELINE, DRAFT_4, loads=(Load(concurrency=1),), num_windows=2)
PROMPTS = make_prompts(2)


def record_into(folder, plan=PLAN):
    """Start or go on with a run on servers, without sealing it."""
    if not (folder / store.MANIFEST).exists():
        store.create_run(folder, make_manifest(plan, PROMPTS))
    with store.Journal(folder) as journal:
        journal.drop_torn_line()
        recorder = LoadRecorder(
            plan=plan,
            fleet=FakeFleet(plan=plan),
            contexts=FakeContexts(),
            journal=journal,
            folder=folder,
            recorded=store.read_trace(folder).trials,
            clock=clock,
        )
        run(recorder.record(PROMPTS))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("windows")
    record_into(folder)
    return folder


@pytest.fixture
def folder(recorded, tmp_path):
    """A finished journal of two groups and two arms: four windows."""
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_every_window_is_a_line(folder):
    """Its trials and their checks stand in it."""
    lines = [json.loads(line) for line in (folder / store.JOURNAL).read_bytes().splitlines()]

    assert [["window"]] * 4 == [list(line) for line in lines]
    trials = [trial for line in lines for trial in line["window"]["trials"]]
    assert all(trial["checks"]["audit"] for trial in trials)
    assert 16 == len(trials)


def test_a_torn_line_loses_its_window(folder):
    """Cut at any byte, the journal holds the windows of its whole lines with all their trials."""
    whole = store.read_trace(folder)
    content = (folder / store.JOURNAL).read_bytes()

    for cut in reversed(range(0, len(content), 7)):
        os.truncate(folder / store.JOURNAL, cut)
        trace = store.read_trace(folder)

        num_whole = content[:cut].count(b"\n")
        assert whole.windows[:num_whole] == trace.windows
        assert whole.trials[: 4 * num_whole] == trace.trials


@pytest.mark.parametrize("num_lines", range(4))
def test_a_torn_window_is_recorded_again(folder, num_lines):
    """Cut in any line and resumed, the run has the windows that it would have had, each once."""
    whole = store.read_trace(folder)
    lines = (folder / store.JOURNAL).read_bytes().splitlines(keepends=True)
    (folder / store.JOURNAL).write_bytes(b"".join(lines[:num_lines]) + lines[num_lines][:-9])

    record_into(folder)

    again = store.read_trace(folder)
    assert [window.key for window in whole.windows] == [window.key for window in again.windows]
    assert [(t.key, t.ids_hash, t.counts, t.checks) for t in whole.trials] == [
        (t.key, t.ids_hash, t.counts, t.checks) for t in again.trials
    ]


def test_a_double_window_is_refused(folder):
    """Two records of one window cannot both be right."""
    trace = store.read_trace(folder)
    with store.Journal(folder) as journal:
        journal.add_window(trace.windows[0], ())

    with pytest.raises(UnreadableTrace, match=r"journal.jsonl:5: window .* stands twice"):
        store.read_trace(folder)


def test_a_line_is_one_thing(folder):
    """A trial and a window in one line are not two lines that ran together."""
    lines = [json.loads(line) for line in (folder / store.JOURNAL).read_bytes().splitlines()]
    both = {**lines[0], "trial": lines[0]["window"]["trials"][0]}
    (folder / store.JOURNAL).write_text(json.dumps(both) + "\n")

    with pytest.raises(UnreadableTrace, match="a line holds a trial, a window or checks"):
        store.read_trace(folder)


def test_windows_are_sealed(folder):
    """The seal counts them, and their table is checked like the others."""
    before = store.read_trace(folder)
    store.seal_run(folder)

    assert 4 == json.loads((folder / store.SEAL).read_text())["num_windows"]
    assert (before.windows, before.trials) == (
        store.read_trace(folder).windows,
        store.read_trace(folder).trials,
    )
    with (folder / tables.WINDOWS).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UnreadableTrace, match=r"windows.parquet: missing, or changed"):
        store.read_trace(folder)


def test_a_replaced_run_leaves_no_windows(folder):
    """Replacing a sealed run on servers deletes its windows, too."""
    store.seal_run(folder)

    store.create_run(folder, store.read_manifest(folder), replace_run=True)

    assert () == store.read_trace(folder).windows
    assert not (folder / tables.WINDOWS).exists()


def test_no_prompt_reaches_the_disk(folder):
    """Neither the journal nor the sealed tables hold a word of a prompt or a list of its ids."""
    ids = FakeContexts().context(PROMPTS[0], 0, ())
    running = b"".join(path.read_bytes() for path in folder.iterdir())
    store.seal_run(folder)
    sealed = b"".join(path.read_bytes() for path in folder.iterdir())

    assert b"question" not in running + sealed
    assert ",".join(map(str, ids)).encode() not in running
    assert {None} == {
        one for t in store.read_trace(folder).trials for one in (t.token_ids, t.prompt_ids)
    }
