"""Which natural language a prompt is written in, offline; code and digits are in none."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

from specmeasure.records.corpus import Prompt

_LOOKED_AT = 1000  # characters
_FEWEST_LETTERS = 8
_SURE_ENOUGH = 0.3  # sentences score 0.35 to 1.0, code, SQL and digits under 0.1
_NO_LANGUAGE = "zxx"


def with_languages(prompts: Iterable[Prompt]) -> tuple[Prompt, ...]:
    """The prompts with their languages, ISO 639-1; None where none was recognised."""
    return tuple(
        replace(prompt, language=detect_language(asked_text(prompt))) for prompt in prompts
    )


def detect_language(text: str) -> str | None:
    """The language of a text's beginning.

    >>> detect_language("Wie viele Meter läuft er insgesamt pro Woche?")
    'de'
    >>> detect_language("12 + 34 =") is None
    True
    """
    beginning = text[:_LOOKED_AT]
    if sum(character.isalpha() for character in beginning) < _FEWEST_LETTERS:
        return None
    language, sureness = _identifier().classify(beginning)
    return None if sureness < _SURE_ENOUGH or language == _NO_LANGUAGE else str(language)


def asked_text(prompt: Prompt) -> str:
    """What the user says, without system messages and recorded replies."""
    if prompt.text is not None:
        return prompt.text
    return "\n".join(message.content for message in prompt.messages if message.role == "user")


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
