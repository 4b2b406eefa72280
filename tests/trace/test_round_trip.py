"""What is written comes back as it was."""

import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from specmeasure.records.decision import Policy
from specmeasure.records.plan import BASELINE, ModelOptions, Sampling
from specmeasure.trace import store
from tests.fakes import DRAFT_4, NGRAM_4, FakeEngine, make_manifest, make_plan, make_prompts
from tests.fakes import record_into as record
from tests.trace.strategies import runs, window_runs


@settings(deadline=None, max_examples=60)
@given(runs)
def test_records_survive_journal_and_seal(trials):
    """From the journal and from the sealed tables come the same records in the same order."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store.create_run(folder, make_manifest(make_plan(), []))
        with store.Journal(folder) as journal:
            for trial in trials:
                journal.add_trial(replace(trial, checks=None))
                if trial.checks is not None:
                    journal.add_checks({trial.key: trial.checks})
        running = store.read_trace(folder)
        store.seal_run(folder)
        sealed = store.read_trace(folder)

    assert (trials, False) == (running.trials, running.sealed)
    assert (trials, True) == (sealed.trials, sealed.sealed)


@settings(deadline=None, max_examples=60)
@given(runs, window_runs, st.randoms())
def test_windows_survive_journal_and_seal(trials, windows, rng):
    """Each with its trials and their checks, dealt to windows at random, in recorded order."""
    dealt = [rng.randrange(len(windows)) for _ in trials] if windows else []
    own = [
        tuple(t for t, i in zip(trials, dealt, strict=True) if i == n) for n in range(len(windows))
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store.create_run(folder, make_manifest(make_plan(), []))
        with store.Journal(folder) as journal:
            for window, in_it in zip(windows, own, strict=True):
                journal.add_window(window, in_it)
        running = store.read_trace(folder)
        store.seal_run(folder)
        sealed = store.read_trace(folder)
        is_table_there = (folder / "windows.parquet").exists()

    expected = tuple(trial for in_it in own for trial in in_it)
    assert (windows, expected) == (running.windows, running.trials)
    assert (windows, expected) == (sealed.windows, sealed.trials)
    assert bool(windows) == is_table_there


def test_a_run_survives_sealing(tmp_path):
    """A real run's blocks, failures and audits are the same before and after."""
    engine = FakeEngine(
        plan=make_plan(BASELINE, DRAFT_4, NGRAM_4, include_text=True),
        failures={"p2": RuntimeError("no")},
        broken_arms=frozenset({"ngram k=4"}),
    )
    record(tmp_path, engine, make_prompts(5))
    before = store.read_trace(tmp_path)

    store.seal_run(tmp_path)

    assert replace(before, sealed=True) == store.read_trace(tmp_path)
    assert {"manifest.json", "trials.parquet", "blocks.parquet", "sealed.json"} == {
        path.name for path in tmp_path.iterdir()
    }


def test_an_empty_run_survives_sealing(tmp_path):
    """A run without trials is sealed as such."""
    record(tmp_path, FakeEngine(plan=make_plan()), [])

    store.seal_run(tmp_path)

    assert () == store.read_trace(tmp_path).trials


def test_a_manifest_survives():
    """Plans, policies and options come back as they were stated."""
    plan = make_plan(
        BASELINE,
        NGRAM_4,
        sampling=Sampling(temperature=0.7, top_k=40, top_p=0.9),
        options=ModelOptions(dtype="bfloat16", num_threads=3),
    )
    manifest = make_manifest(
        plan,
        make_prompts(2),
        models=FakeEngine(plan=plan).models,
        policy=Policy(max_memory_bytes=2**30),
        warnings=("busy",),
    )
    with tempfile.TemporaryDirectory() as name:
        store.create_run(Path(name), manifest)

        assert manifest == store.read_manifest(Path(name))
