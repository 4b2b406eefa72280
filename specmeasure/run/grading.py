"""Is an answer right? Compared with the prompt's references; tests are run, see ``sandbox``.

A reference is text of any kind: which of them mean something to a check is said here. Nothing here
is timed, and no text is kept.
"""

import ast
import re
import warnings
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import AnswerCheck
from specmeasure.run.sandbox import runs_to_the_end

_NUMBER = re.compile(
    r"(?<![\w.])-?[$€£]?"
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
)
_FENCE = re.compile(
    r"^[ \t]*```[ \t]*(\w*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL
)
_PYTHON = ("python", "py", "python3")
_TESTS = re.compile(r"\b(?:assert|raise)\b|\bunittest\b")
_CHECK_DEFINED = re.compile(r"^def check\(", re.MULTILINE)
_CHECK_CALLED = re.compile(r"^check\(", re.MULTILINE)
_DEFINITION = re.compile(r"^(?:async )?def (\w+)\(", re.MULTILINE)
_CODE = re.compile(r"^(?:async def|def|class|import|from) ", re.MULTILINE)


def references_for(check: AnswerCheck, prompt: Prompt, turn: int) -> tuple[str, ...]:
    """The references that this check can compare a turn's answer with.

    All of them belong to a prompt of one turn; one each to the first turns of a longer talk. Blank
    ones are none; to ``number`` those without a number, to ``python-tests`` those that raise
    nothing, such as a solution in place of its tests.
    """
    own = prompt.references if len(prompt.turns) == 1 else prompt.references[turn : turn + 1]
    match check:
        case AnswerCheck.NUMBER:
            return tuple(text for text in own if last_number(text) is not None)
        case AnswerCheck.PYTHON_TESTS:
            return tuple(text for text in own if _TESTS.search(text))
        case _:
            return tuple(text for text in own if text.strip())


def is_correct(check: AnswerCheck, prompt: Prompt, turn: int, answer: str) -> bool | None:
    """Whether the answer is right by one of the references, or by all tests; None: there is none.

    ``python-tests`` runs what the model wrote.
    """
    references = references_for(check, prompt, turn)
    if not references:
        return None
    match check:
        case AnswerCheck.EXACT:
            return answer.strip() in {text.strip() for text in references}
        case AnswerCheck.CONTAINS:
            return any(text.strip() in answer for text in references)
        case AnswerCheck.NUMBER:
            found = last_number(answer)
            return found is not None and found in {last_number(text) for text in references}
        case AnswerCheck.PYTHON_TESTS:
            return runs_to_the_end(program_with_tests(prompt, answer, references))


def last_number(text: str) -> Decimal | None:
    """The last number of a text, thousands grouped by commas, before currency signs or not.

    >>> last_number("16 - 3 = 13, so she makes $1,026.50 a day.")
    Decimal('1026.50')
    """
    found = _NUMBER.findall(text)
    try:
        return Decimal(re.sub(r"[,$€£]", "", found[-1])) if found else None
    except InvalidOperation:  # digits of several scripts in one number
        return None


def program_with_tests(prompt: Prompt, answer: str, tests: Sequence[str]) -> str:
    """The answer as a program with its tests behind it.

    Fenced Python is taken out of the text around it. A completion of code follows its prompt.
    Lines from the first that does not parse are left out: an answer cut by its budget ends so. A
    reference that only defines ``check(candidate)``, as HumanEval's do, is called with the last
    function that the prompt names.
    """
    code, was_fenced = unwrapped(answer)
    if prompt.text is not None and _is_code(prompt.text):
        code = prompt.text + ("\n" if was_fenced else "") + code
    code = _parsing_part(code)
    asked = (
        prompt.text if prompt.text is not None else "\n".join(m.content for m in prompt.messages)
    )
    names = _DEFINITION.findall(asked) or _DEFINITION.findall(code)
    wanted = "\n".join(tests)
    if names and _CHECK_DEFINED.search(wanted) and not _CHECK_CALLED.search(wanted):
        wanted += f"\ncheck({names[-1]})"
    return f"{code}\n\n{wanted}\n"


def unwrapped(answer: str) -> tuple[str, bool]:
    r"""The code of an answer, and whether it stood in fences: all Python ones, or else the first.

    >>> unwrapped("Sure:\n```python\nx = 1\n```\nDone.")
    ('x = 1\n', True)
    """
    blocks: list[tuple[str, str]] = _FENCE.findall(answer)
    python = [code for language, code in blocks if language.lower() in _PYTHON]
    chosen = python or [code for _, code in blocks[:1]]
    return ("\n".join(chosen), True) if chosen else (answer, False)


def _is_code(text: str) -> bool:
    """Whether a prompt is Python to be continued, also where its last block is still empty."""
    return bool(_CODE.search(text)) and any(
        _syntax_error(text + more) is None for more in ("", "\n    pass")
    )


def _parsing_part(code: str) -> str:
    """The first lines that parse together."""
    lines = code.splitlines(keepends=True)
    while lines and (wrong := _syntax_error("".join(lines))) is not None:
        del lines[min(wrong, len(lines)) - 1 :]
    return "".join(lines)


def _syntax_error(code: str) -> int | None:
    """The line from 1 that does not parse; None: all of it does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in the answer
            ast.parse(code, filename="answer")
    except SyntaxError as error:
        is_its_line = error.filename == "answer" and error.lineno is not None
        return max(1, error.lineno or 1) if is_its_line else len(code.splitlines())
    except (ValueError, RecursionError, MemoryError):  # null bytes, nesting without end
        return 1
    return None
