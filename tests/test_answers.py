from dataclasses import replace

import pytest

from specmeasure import api
from specmeasure.api.answers import grading_notes, refuse_ungradable
from specmeasure.api.arms import arms_at, lossy_notes
from specmeasure.api.candidates import Drafters, NgramSizes, plan_candidates
from specmeasure.errors import UsageError
from specmeasure.records.plan import AnswerCheck, TypicalAcceptance
from specmeasure.records.request import Request
from tests.fakes import make_plan, make_prompts

NUMBER, TESTS = AnswerCheck.NUMBER, AnswerCheck.PYTHON_TESTS


def with_references(*references):
    prompts = make_prompts(len(references))
    return [
        replace(prompt, references=(text,) if text else ())
        for prompt, text in zip(prompts, references, strict=True)
    ]


def test_one_gradable_prompt_is_enough():
    """The others are counted in a note."""
    prompts, plan = with_references("#### 18", "it depends", ""), make_plan(answer_check=NUMBER)
    refuse_ungradable(plan, prompts, run_code=False)

    assert 1 == len(grading_notes(plan, prompts))
    assert "2 of 3 prompts have no reference" in grading_notes(plan, prompts)[0]


def test_a_run_that_grades_nothing_needs_nothing():
    """Without a check, references are neither asked for nor told of."""
    refuse_ungradable(make_plan(), with_references(""), run_code=False)

    assert [] == grading_notes(make_plan(), with_references(""))


@pytest.mark.parametrize(
    ("check", "field"), [(NUMBER, "--response-field answer"), (TESTS, "--response-field test")]
)
def test_nothing_to_compare_with_names_the_remedy(check, field):
    """A recorded solution is no test, a sentence no number."""
    prompts = with_references("def f(): return", "no digits")

    with pytest.raises(UsageError, match=field):
        refuse_ungradable(make_plan(answer_check=check), prompts, run_code=True)


def test_code_is_not_run_unasked():
    """The message says what the flag allows; with it, the run's warnings say it again."""
    prompts, plan = with_references("assert f()"), make_plan(answer_check=TESTS)

    with pytest.raises(UsageError, match=r"--run-code allows it.*whatever files you can"):
        refuse_ungradable(plan, prompts, run_code=False)
    refuse_ungradable(plan, prompts, run_code=True)
    assert "whatever files you can" in grading_notes(plan, prompts)[0]


def test_a_run_is_refused_before_models_are_loaded(tmp_path):
    """No target of this name exists, and nobody looks for it."""
    path = tmp_path / "prompts.txt"
    path.write_text("How many?\n")
    request = Request(plan=make_plan(answer_check=NUMBER), sources=(str(path),))

    with pytest.raises(UsageError, match="no prompt has an answer"):
        api.start(request, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_lossy_arms_stand_beside_strict_ones():
    """Every candidate and K, strict first, each named by its rule, between the two baselines."""
    candidates = plan_candidates(Drafters(drafts=["a/small"], ngrams=[NgramSizes()]), most=1)
    arms = arms_at(candidates, [2, 4], [TypicalAcceptance(), TypicalAcceptance(delta=0.5)])

    assert [
        f"{name} k={length}{rule}"
        for name in ("small", "ngram")
        for length in (2, 4)
        for rule in ("", " typical", " typical 0.09,0.5")
    ] == [arm.name for arm in arms[1:-1]]
    assert [arm.lossy is None for arm in arms] == ["typical" not in arm.name for arm in arms]


def test_lossy_arms_are_told_of():
    """By name, once; a strict plan is silent."""
    arms = arms_at(
        plan_candidates(Drafters(ngrams=[NgramSizes()]), most=1), [4], [TypicalAcceptance()]
    )
    (note,) = lossy_notes(make_plan(*arms))

    assert "(ngram k=4 typical)" in note
    assert [] == lossy_notes(make_plan())
