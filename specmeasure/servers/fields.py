"""Typed reading of what servers send: absent or null is None, another type is an error.

A field is named by its path, ``usage.completion_tokens``; its value is never quoted, for it may
hold text.
"""

from collections.abc import Mapping
from typing import Any

from specmeasure.errors import UnexpectedReply

Fields = Mapping[str, Any]


def as_fields(value: Any, where: str) -> Fields:
    """The object itself.

    Raises:
        UnexpectedReply: it is none.
    """
    if not isinstance(value, dict):
        raise _unexpected(value, where, "an object")
    return value


def read_fields(fields: Fields, name: str, where: str = "") -> Fields | None:
    """An object within an object; None: absent."""
    value = fields.get(name)
    return None if value is None else as_fields(value, _path(where, name))


def read_list(fields: Fields, name: str, where: str = "") -> list[Any] | None:
    """A list of whatever; None: absent."""
    value = fields.get(name)
    if value is not None and not isinstance(value, list):
        raise _unexpected(value, _path(where, name), "a list")
    return value


def read_text(fields: Fields, name: str, where: str = "") -> str | None:
    """A text; None: absent."""
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise _unexpected(value, _path(where, name), "a text")
    return value


def read_number(fields: Fields, name: str, where: str = "") -> float | None:
    """A number; None: absent."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unexpected(value, _path(where, name), "a number")
    return float(value)


def read_count(fields: Fields, name: str, where: str = "") -> int | None:
    """A whole number from 0; None: absent."""
    value = fields.get(name)
    return None if value is None else _as_count(value, _path(where, name))


def read_counts(fields: Fields, name: str, where: str = "") -> tuple[int, ...] | None:
    """A list of whole numbers from 0, token ids among them; None: absent."""
    values = read_list(fields, name, where)
    if values is None:
        return None
    path = _path(where, name)
    return tuple(_as_count(value, path) for value in values)


def _as_count(value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _unexpected(value, path, "a whole number from 0")
    return value


def _path(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _unexpected(value: Any, path: str, wanted: str) -> UnexpectedReply:
    found = "a negative number" if isinstance(value, int) and value < 0 else _kind(value)
    return UnexpectedReply(f"the server's reply: {path} is {found}, not {wanted}")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value"}
    names |= {int: "a number", float: "a fraction", type(None): "null"}
    return names[type(value)]
