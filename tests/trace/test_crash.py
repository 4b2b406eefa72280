"""Twenty times kill -9, and the run ends as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from specmeasure.trace import store
from tests.fakes import FakeEngine, planned_keys, recorded_trace
from tests.trace import crash_run

NUM_KILLS = 20
LONGEST_LIFE_S = 0.05  # of a session that is killed; all of them together are too short to finish
PLANNED = planned_keys(crash_run.crash_plan(), crash_run.crash_prompts())
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def survived(tmp_path_factory):
    """The trace of a run that was killed at seeded random moments, resuming after each."""
    folder = tmp_path_factory.mktemp("killed")
    rng = random.Random(0)
    for _ in range(NUM_KILLS):
        with session(folder) as process:
            assert "recording\n" == process.stdout.readline()
            time.sleep(rng.uniform(0, LONGEST_LIFE_S))
            process.kill()
        assert -signal.SIGKILL == process.returncode
    assert 0 < len(store.read_trace(folder).trials) < len(PLANNED)
    with session(folder) as process:
        assert "recording\nsealed\n" == process.stdout.read()
    assert 0 == process.returncode
    return store.read_trace(folder)


@pytest.fixture(scope="module")
def undisturbed():
    """The same run in one piece."""
    return recorded_trace(FakeEngine(plan=crash_run.crash_plan()), crash_run.crash_prompts())


def session(folder):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.trace.crash_run", str(folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def counts(trace):
    """What a trial's tokens were and how its blocks came to them, by trial."""
    return {
        trial.key: (
            trial.num_prompt_tokens,
            trial.num_emitted_tokens,
            trial.ids_hash,
            trial.finish_reason,
            [
                (b.num_draft_tokens, b.num_accepted_tokens, b.num_emitted_tokens, b.truncated)
                for b in trial.blocks
            ],
        )
        for trial in trace.trials
    }


@pytest.mark.slow
def test_every_planned_trial_survives_once(survived):
    """No trial is lost and none is recorded twice."""
    assert survived.sealed
    assert sorted(PLANNED) == sorted(trial.key for trial in survived.trials)
    assert len(PLANNED) == survived.manifest.num_planned_trials


@pytest.mark.slow
def test_every_trial_is_audited(survived, undisturbed):
    """Each greedy trial has the audit that it would have had."""
    assert {t.key: t.audit for t in undisturbed.trials} == {t.key: t.audit for t in survived.trials}
    assert None not in {trial.audit for trial in survived.trials}


@pytest.mark.slow
def test_tokens_are_those_of_an_undisturbed_run(survived, undisturbed):
    """Emitted tokens, their digests and every block's counts are the same."""
    assert counts(undisturbed) == counts(survived)
