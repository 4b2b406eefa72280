from decimal import Decimal

import pytest

from specmeasure.records.corpus import Message, Prompt
from specmeasure.records.plan import AnswerCheck
from specmeasure.run.grading import is_correct, last_number, program_with_tests, references_for

NUMBER, TESTS = AnswerCheck.NUMBER, AnswerCheck.PYTHON_TESTS
SQUARE = 'def square(x: int) -> int:\n    """The square of x.\n    >>> square(3)\n    9\n    """\n'
CHECK = "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate(3) == 9\n"


def asked(*references: str, text: str | None = "How many?", turns: int = 1) -> Prompt:
    """A completion prompt, or a chat of so many user messages."""
    messages = tuple(Message(role="user", content="How many?") for _ in range(turns))
    return Prompt(
        prompt_id="p",
        category="c",
        source="f:1",
        text=text if turns == 1 else None,
        messages=messages if text is None or turns > 1 else (),
        references=references,
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She makes 9 * 2 = $<<9*2=18>>18 every day.\n#### 18", "18"),
        ("It costs $1,234,567.50.", "1234567.5"),
        ("10-5", "5"),
        ("from 7 to -3", "-3"),
        ("The answer is 42.", "42"),
        ("1,2,3", "3"),
        ("1,2345", "2345"),
        ("about 2.5e3 of them", "2500"),
        ("only .5", "0.5"),
        ("18 eggs (v1.2b)", "18"),
        ("๑๒", "12"),
    ],
)
def test_the_last_number_counts(text, number):
    """Commas, currency, signs, full stops and other scripts' digits are understood."""
    assert Decimal(number) == last_number(text)


@pytest.mark.parametrize("text", ["", "none at all", "x1", "v1.2.3"])
def test_no_number_is_none(text):
    """Digits inside of words are no numbers."""
    assert last_number(text) is None


@pytest.mark.parametrize(
    ("check", "reference", "answer", "expected"),
    [
        (AnswerCheck.EXACT, "Yes.", " Yes.\n", True),
        (AnswerCheck.EXACT, "Yes.", "yes.", False),
        (AnswerCheck.CONTAINS, "Paris ", "It is Paris, in France.", True),
        (AnswerCheck.CONTAINS, "Paris", "It is Lyon.", False),
        (NUMBER, "#### 1,000", "So it is 1000.00 in all.", True),
        (NUMBER, "#### 18", "It was 18, but now it is 17.", False),
        (NUMBER, "#### 18", "I do not know.", False),
    ],
)
def test_answers_are_compared(check, reference, answer, expected):
    """By the whole text, by a part of it, or by its last number."""
    assert expected is is_correct(check, asked(reference), 0, answer)


@pytest.mark.parametrize(
    ("check", "reference"),
    [
        (AnswerCheck.EXACT, " "),
        (AnswerCheck.CONTAINS, ""),
        (NUMBER, "It depends."),
        (TESTS, "def f(x):\n    return x"),
    ],
)
def test_a_reference_that_tells_nothing_is_none(check, reference):
    """Blank text stands in every answer, a solution raises nothing: no grade, not a right one."""
    assert is_correct(check, asked(reference), 0, reference) is None
    assert is_correct(check, asked(), 0, "18") is None


def test_references_of_one_turn_are_alternatives():
    """Any of several is right; of a longer talk each turn has its own."""
    assert is_correct(NUMBER, asked("3", "4"), 0, "4")
    assert is_correct(NUMBER, asked("3", "4", turns=2), 0, "4") is False
    assert is_correct(NUMBER, asked("3", "4", turns=2), 1, "4")
    assert () == references_for(NUMBER, asked("3", "4", turns=3), 2)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("    return x * x\n", True),
        ("    return x + x\n", False),
        ("    return x * x\n\n\nThe square of a number is (", True),
        ("```python\ndef square(x):\n    return x * x\n```\nThat is all.", True),
        ("Sure.\n```\ndef square(x):\n    return x ** 2\n```", True),
        ("```python\ndef square(x):\n    return x ** 2\n", True),
        ("I cannot say.", False),
        ("", False),
    ],
)
def test_a_completion_of_code_is_run_with_its_prompt(answer, expected):
    """As HumanEval is written: the prompt, the answer, then check(the function asked for)."""
    assert expected is is_correct(TESTS, asked(CHECK, text=SQUARE), 0, answer)


def test_an_answer_to_words_is_run_alone():
    """As MBPP is written: the prompt is English, every assertion must hold."""
    prompt = asked("assert f(2) == 4", "assert f(3) == 9", text="Write a function f to square x.")

    assert is_correct(TESTS, prompt, 0, "def f(x):\n    return x * x")
    assert is_correct(TESTS, prompt, 0, "def f(x):\n    return x + x") is False


def test_the_last_function_of_the_prompt_is_checked():
    """Helpers that the prompt defines before it are not what is asked for."""
    prompt = asked(CHECK, text=f"def half(x):\n    return x / 2\n\n\n{SQUARE}")

    assert program_with_tests(prompt, "    return x * x\n", [CHECK]).endswith("\ncheck(square)\n")


def test_tests_that_call_themselves_are_left_alone():
    """Nothing is added to a reference that already runs its check."""
    called = f"{CHECK}\ncheck(square)"

    assert program_with_tests(asked(called, text=SQUARE), "", [called]).endswith(f"{called}\n")


@pytest.mark.parametrize(
    "answer",
    ["x = '\x00'", "(" * 5000, "f'{'", "\\", "def f(:\n" * 500, "\ud800", "```\n" * 50],
)
def test_answers_that_are_no_code_do_no_harm(answer):
    """Whatever a model writes becomes a program that fails its tests."""
    program = program_with_tests(asked("assert f(2) == 4"), answer, ["assert f(2) == 4"])

    assert program.endswith("assert f(2) == 4\n")
