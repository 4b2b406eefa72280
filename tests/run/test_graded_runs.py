"""Answers graded while a plan is carried out."""

from dataclasses import replace

import pytest

from specmeasure.records.plan import BASELINE, AnswerCheck, Sampling
from specmeasure.run.recorder import Recorder
from specmeasure.trace import store
from tests.fakes import (
    DRAFT_4,
    FakeEngine,
    MemoryJournal,
    make_chat,
    make_manifest,
    make_plan,
    make_prompts,
)

CONTAINS, TESTS = AnswerCheck.CONTAINS, AnswerCheck.PYTHON_TESTS
SAMPLED = Sampling(temperature=0.8)


def graded(prompts, check=CONTAINS, *, run_code=False, **plan):
    """Grades by arm and turn."""
    engine = FakeEngine(plan=make_plan(BASELINE, DRAFT_4, answer_check=check, **plan))
    journal = MemoryJournal()
    Recorder(engine.plan, engine, journal, run_code=run_code).record(prompts)
    return {
        (key.arm, key.turn): trial.checks.is_correct if trial.checks else None
        for key, trial in sorted(journal.trials.items())
    }


def answered(*references, prompt=None):
    return [replace(prompt or make_prompts(1)[0], references=references)]


@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED])
@pytest.mark.parametrize(("reference", "expected"), [("w", True), ("no such word", False)])
def test_every_answer_is_graded(sampling, reference, expected):
    """Greedy and sampled, every arm's own answer: the fake's words all begin with w."""
    found = graded(answered(reference), sampling=sampling)

    assert {(BASELINE.name, 0): expected, (DRAFT_4.name, 0): expected} == found


def test_without_a_reference_there_is_no_grade():
    """Nor without a check, whatever is recorded beside the prompt."""
    assert {None} == set(graded(answered()).values())
    assert {None} == set(graded(answered("w"), check=None).values())


def test_turns_have_their_own_references():
    """The first turns are graded, a turn beyond the references is not."""
    found = graded(answered("w", "no such word", prompt=make_chat("talk", 3)))

    assert [True, False, None] == [found[BASELINE.name, turn] for turn in range(3)]


def test_code_is_run_only_where_it_may_be():
    """Without the user's word nothing is graded, and no grade is made up."""
    prompts = answered("assert w1 == 1", prompt=make_chat("talk", 1))

    assert {None} == set(graded(prompts, TESTS).values())
    assert {False} == set(graded(prompts, TESTS, run_code=True).values())


def test_equal_answers_are_graded_once(monkeypatch):
    """All arms of a greedy turn say the same; tests can take seconds."""
    calls = []
    monkeypatch.setattr(
        "specmeasure.run.recorder.is_correct", lambda *given: calls.append(given) or True
    )
    graded(answered("w"), num_repeats=3)

    assert 1 == len(calls)


def test_grades_survive_the_disk(tmp_path):
    """A sealed trace holds them, and no text."""
    engine = FakeEngine(plan=make_plan(BASELINE, DRAFT_4, answer_check=CONTAINS))
    prompts = answered("w")
    store.create_run(tmp_path, make_manifest(engine.plan, prompts))
    with store.Journal(tmp_path) as journal:
        Recorder(engine.plan, engine, journal).record(prompts)
    journal_text = (tmp_path / store.JOURNAL).read_text()
    store.seal_run(tmp_path)

    assert {True} == {t.checks.is_correct for t in store.read_trace(tmp_path).trials if t.checks}
    assert "question 0" not in journal_text
