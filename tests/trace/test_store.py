"""Run folders: started once, sealed once, refused when they are not what they were."""

import json
import shutil

import pytest

from specmeasure.errors import UnreadableTrace, UsageError
from specmeasure.trace import store
from tests.fakes import FakeEngine, make_manifest, make_plan, make_prompts, record_into

SEALED_FILES = ("trials.parquet", "blocks.parquet", "sealed.json")


@pytest.fixture
def running(tmp_path):
    """A finished journal that is not sealed yet."""
    folder = tmp_path / "running"
    record_into(folder, FakeEngine(plan=make_plan()), make_prompts(3))
    return folder


@pytest.fixture
def sealed(running, tmp_path):
    """The same run, sealed."""
    folder = tmp_path / "sealed"
    shutil.copytree(running, folder)
    store.seal_run(folder)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_no_run_is_named(tmp_path):
    """A folder without a manifest is not a run."""
    with pytest.raises(UnreadableTrace, match=r"no manifest.json there; name a folder"):
        store.read_trace(tmp_path)


@pytest.mark.parametrize(
    "version",
    [0, store.SCHEMA_VERSION - 1, store.SCHEMA_VERSION + 1, str(store.SCHEMA_VERSION), None],
)
def test_another_schema_is_refused(running, version):
    """A trace of another schema is not guessed at; the message names both versions."""
    path = running / store.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": version}))

    with pytest.raises(
        UnreadableTrace, match=f"version {version}, this specmeasure reads {store.SCHEMA_VERSION}"
    ):
        store.read_trace(running)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "3", f'{{"schema_version": {store.SCHEMA_VERSION}}}', "{"],
    ids=["none", "list", "3", "bare", "{"],
)
def test_a_damaged_manifest_is_refused(running, content):
    """What is not a manifest is named, not raised as a decoder's error."""
    (running / store.MANIFEST).write_text(content)

    with pytest.raises(UnreadableTrace, match=r"manifest.json: damaged"):
        store.read_trace(running)


def test_a_manifest_that_contradicts_itself_is_refused(running):
    """A plan that could not have been stated cannot be read either."""
    path = running / store.MANIFEST
    path.write_text(path.read_text().replace('"baseline A/A"', '"baseline"'))

    with pytest.raises(UnreadableTrace, match="two arms share a name"):
        store.read_trace(running)


def test_an_existing_run_is_not_overwritten(running):
    """Starting where a run is needs --force or another folder; both are named."""
    with pytest.raises(UsageError, match=r"--resume .*--out.*--force"):
        store.refuse_existing(running)


def test_a_new_folder_is_not_refused(tmp_path):
    """A folder may exist, as long as it holds no run."""
    (tmp_path / "notes.txt").write_text("mine")

    store.refuse_existing(tmp_path)
    store.refuse_existing(tmp_path / "not" / "there")


def test_a_run_starts_in_a_new_folder(tmp_path):
    """Parent folders are made; the manifest is written beside an empty journal."""
    folder = tmp_path / "a" / "b"

    store.create_run(folder, make_manifest(make_plan(), []))

    assert {store.MANIFEST, store.JOURNAL} == set(contents(folder))
    assert b"" == contents(folder)[store.JOURNAL]


@pytest.mark.parametrize("state", ["running", "sealed"])
def test_removing_a_run_leaves_the_rest(state, request):
    """Replacing a run deletes its own files only; a brief or a note beside them stays."""
    folder = request.getfixturevalue(state)
    (folder / "brief.md").write_text("mine")

    manifest = store.read_manifest(folder)
    store.create_run(folder, manifest, replace_run=True)

    assert {store.MANIFEST, store.JOURNAL, "brief.md"} == set(contents(folder))
    assert () == store.read_trace(folder).trials


def test_sealing_twice_keeps_the_tables(sealed):
    """A session that comes late to a sealed run leaves it as it is."""
    before = contents(sealed)
    store.seal_run(sealed)

    assert before == contents(sealed)


@pytest.mark.parametrize("name", ["trials.parquet", "blocks.parquet"])
def test_a_changed_table_is_refused(sealed, name):
    """One byte more in a sealed table and the run is not read."""
    with (sealed / name).open("ab") as file:
        file.write(b"\0")

    with pytest.raises(UnreadableTrace, match=rf"{name}: missing, or changed since it was sealed"):
        store.read_trace(sealed)


@pytest.mark.parametrize("name", ["trials.parquet", "blocks.parquet"])
def test_a_missing_table_is_refused(sealed, name):
    """A sealed run without one of its tables is not read as an empty one."""
    (sealed / name).unlink()

    with pytest.raises(UnreadableTrace, match=rf"{name}: missing"):
        store.read_trace(sealed)


def test_a_trial_with_another_runs_blocks_is_refused(sealed, tmp_path):
    """Tables of two runs do not mix."""
    other = tmp_path / "other"
    record_into(other, FakeEngine(plan=make_plan(), seed=1), make_prompts(3))
    store.seal_run(other)
    shutil.copy(other / "blocks.parquet", sealed)

    with pytest.raises(UnreadableTrace, match=r"blocks.parquet: missing, or changed"):
        store.read_trace(sealed)


def test_the_seal_counts(sealed):
    """sealed.json says how many trials and blocks the run has."""
    seal = json.loads((sealed / store.SEAL).read_text())
    trials = store.read_trace(sealed).trials

    assert len(trials) == seal["num_trials"]
    assert sum(len(trial.blocks) for trial in trials) == seal["num_blocks"]


@pytest.mark.parametrize("num_done", range(4))
def test_sealing_can_be_interrupted(running, sealed, num_done):
    """Killed after any of its steps, sealing leaves a readable run, and repeats to the same end."""
    whole = store.read_trace(sealed)
    for name in SEALED_FILES[:num_done]:
        shutil.copy(sealed / name, running)

    assert whole.trials == store.read_trace(running).trials

    store.seal_run(running)

    assert whole == store.read_trace(running)
    assert contents(sealed) == contents(running)


@pytest.mark.parametrize("name", SEALED_FILES)
def test_sealing_can_be_interrupted_inside_a_file(running, sealed, name):
    """Half a file is never read: it has another name until it is whole."""
    half = (sealed / name).read_bytes()[:50]
    (running / f"{name}.partial").write_bytes(half)

    assert store.read_trace(sealed).trials == store.read_trace(running).trials

    store.seal_run(running)

    assert contents(sealed) == contents(running)
