"""A request as a TOML document that a person can read and edit, and back."""

import tomllib
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import msgspec
import tomli_w

from specmeasure.errors import UnusablePlan
from specmeasure.records.request import Request

_HEADER = "# Written by `specmeasure plan`; execute it with `specmeasure run --plan FILE`.\n\n"


def write_request(request: Request) -> str:
    """Everything but what was typed; what is unknown is left out."""
    document = _without_nulls(msgspec.to_builtins(request))
    document.pop("argv", None)
    return _HEADER + tomli_w.dumps(document)


def read_request(text: str, source: str) -> Request:
    """The request of a document; what is left out keeps its default.

    Raises:
        UnusablePlan: not TOML, an unknown field, or a value of another type or out of range.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UnusablePlan(f"{source}: not TOML: {error}") from error
    _refuse_unknown(document, Request, source, "")
    try:
        return msgspec.convert(document, Request)
    except (msgspec.ValidationError, ValueError) as error:
        raise UnusablePlan(f"{source}: {error}. Mend it, or write the plan again.") from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(inner) for inner in value]
    return value


def _refuse_unknown(value: object, expected: Any, source: str, place: str) -> None:
    """Msgspec ignores what a dataclass does not know; a misspelt rule must not be ignored."""
    if isinstance(value, list):
        for inner in value:
            for argument in get_args(expected):
                _refuse_unknown(inner, argument, source, place)
    expected = next(filter(is_dataclass, (expected, *get_args(expected))), None)  # X or X | None
    if not isinstance(value, dict) or expected is None:
        return
    hints = get_type_hints(expected)
    known = [field.name for field in fields(expected)]
    for name, inner in value.items():
        if name not in known:
            raise UnusablePlan(
                f"{source}: no field {place + name!r}; there are {', '.join(known)}."
            )
        _refuse_unknown(inner, hints[name], source, f"{place}{name}.")
