"""How a row itself wants to be decoded, and what it asks for that is not replayed."""

import math
from collections.abc import Mapping, Sequence

from specmeasure.corpus.problems import BadRow, json_type
from specmeasure.records.corpus import AskedSampling

_BUDGETS = (
    "max_completion_tokens",
    "max_tokens",
    "max_new_tokens",
    "output_tokens",
    "output_length",
)
_NUMBERS = ("temperature", "top_p")
_INTEGERS = ("top_k", "seed")
_NAMES = frozenset((*_BUDGETS, *_NUMBERS, *_INTEGERS, "stop"))
_NEUTRAL: dict[str, Sequence[object]] = {  # values that leave the distribution as it is
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "repetition_penalty": (None, 1),
    "min_p": (None, 0),
    "typical_p": (None, 1),
    "logit_bias": (None, {}),
    "response_format": (None, {"type": "text"}),
    "guided_json": (None,),
    "guided_regex": (None,),
    "guided_choice": (None,),
    "guided_grammar": (None,),
    "structured_outputs": (None,),
    "n": (None, 1),
    "best_of": (None, 1),
    "ignore_eos": (None, False),
    "min_tokens": (None, 0),
}
_NOTHING = AskedSampling()
_LARGEST = 2**63


def read_asked(request: Mapping[str, object]) -> AskedSampling:
    """Sampling parameters of a request; BadRow names the one that cannot be."""
    if _NAMES.isdisjoint(request):
        return _NOTHING
    asked = {
        **{name: _number(request.get(name), name) for name in _NUMBERS},
        **{name: _integer(request.get(name), name) for name in _INTEGERS},
        "stop": _read_stop(request.get("stop")),
        "max_tokens": next(
            (_integer(request[n], n) for n in _BUDGETS if request.get(n) not in (None, "")), None
        ),
    }
    if isinstance(asked["top_k"], int) and asked["top_k"] < 1:
        asked["top_k"] = None  # 0 and -1 mean all tokens
    if asked["top_p"] == 1:
        asked["top_p"] = None
    try:
        return AskedSampling(**asked)  # type: ignore[arg-type]
    except ValueError as error:
        raise BadRow(str(error), "Mend the request") from error


def not_replayed(request: Mapping[str, object]) -> list[str]:
    """Parameters that change what the target would say and are not part of a replay."""
    if _NEUTRAL.keys().isdisjoint(request):
        return []
    return [
        name
        for name, neutral in _NEUTRAL.items()
        if name in request and _from_cell(request[name]) not in neutral
    ]


def _number(value: object, name: str) -> float | None:
    number = _numeral(value, name)
    return None if number is None else float(number)


def _integer(value: object, name: str) -> int | None:
    number = _numeral(value, name)
    if isinstance(number, float) and not number.is_integer():
        raise BadRow(f"field {name} is no whole number", "Mend the request")
    return None if number is None else int(number)


def _numeral(value: object, name: str) -> int | float | None:
    """An integer stays one: as a float, a seed beyond 2**53 would be another seed."""
    value = _from_cell(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRow(f"field {name} is {json_type(value)}, not a number", "Mend the request")
    if not (math.isfinite(value) if isinstance(value, float) else -_LARGEST <= value < _LARGEST):
        raise BadRow(f"field {name} is no finite number of 64 bits", "Mend the request")
    return value


def _from_cell(value: object) -> object:
    """What a table's cell says: there numbers are text, and a blank says nothing."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    for read in (int, float):
        try:
            return read(value)
        except ValueError:
            continue
    return value


def _read_stop(value: object) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRow("field stop is neither a string nor a list of strings", "Mend the request")
    return tuple(text for text in texts if text)
