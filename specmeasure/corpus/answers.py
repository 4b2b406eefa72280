"""Recorded responses as texts: from a string, a list of them, or a server's response body."""

from collections.abc import Mapping

from specmeasure.corpus.paths import unpacked


def read_answers(value: object) -> tuple[str, ...]:
    """The texts of the first turns' answers; empty where there is none that is text.

    >>> read_answers({"choices": [{"message": {"content": "Yes."}}]})
    ('Yes.',)
    """
    value = unpacked(value)
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return tuple(value)
    text = _one_answer(value)
    return (text,) if text else ()


def _one_answer(value: object) -> str | None:
    """The text of an answer, or of the first choice, message or part that holds one."""
    match value:
        case str():
            return value
        case (
            [Mapping() as inner, *_]
            | {"choices": [Mapping() as inner, *_]}
            | {"message": Mapping() as inner}
            | {"content": [Mapping() as inner]}
        ):
            return _one_answer(inner)
        case {"content": str(text)} | {"generated_text": str(text)} | {"text": str(text)}:
            return text
    return None
