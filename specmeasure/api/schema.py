"""estimates.json as a published format: its version, its JSON Schema, the document itself.

The schema is derived from the records, their docstrings and the comments of their fields; a field
that comes, goes or changes its meaning raises ``SCHEMA_VERSION``.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from specmeasure.records.estimates import Estimates

SCHEMA_VERSION = 4

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NAMES = {bool: "boolean", float: "number", int: "integer", str: "string", NoneType: "null"}
_COMMENTED = re.compile(r"^    (\w+): .*?  # (.+)$", re.MULTILINE)

Schema = dict[str, Any]


def estimates_document(estimates: Estimates) -> dict[str, Any]:
    """What estimates.json holds."""
    return {"schema_version": SCHEMA_VERSION, **msgspec.to_builtins(estimates)}


def estimates_schema() -> str:
    """The JSON Schema (draft 2020-12) of estimates.json, as an indented document."""
    records = {record.__name__: _record_schema(record) for record in _records(Estimates)}
    root = records.pop(Estimates.__name__)
    version = {"const": SCHEMA_VERSION, "description": "Of this format."}
    document = {
        "$schema": _DIALECT,
        "$id": f"urn:specmeasure:estimates:{SCHEMA_VERSION}",
        "title": "specmeasure's estimates.json",
        **root,
        "properties": {"schema_version": version, **root["properties"]},
        "required": ["schema_version", *root["required"]],
        "$defs": dict(sorted(records.items())),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _records(record: type[Any]) -> list[type[Any]]:
    """The record and all that it holds, each once."""
    found = [record]
    waiting = [record]
    while waiting:
        held = dict.fromkeys(_held(waiting.pop()))
        new = [one for one in held if one not in found]
        found += new
        waiting += new
    return found


def _held(record: type[Any]) -> Iterator[type[Any]]:
    for hint in get_type_hints(record).values():
        for leaf in _leaves(hint):
            if isinstance(leaf, type) and is_dataclass(leaf):
                yield leaf


def _leaves(hint: Any) -> Iterator[Any]:
    """The types that a type is made of."""
    parts = get_args(hint)
    for part in parts:
        yield from _leaves(part)
    if not parts:
        yield hint


def _record_schema(record: type) -> Schema:
    hints = get_type_hints(record)
    comments = dict(_COMMENTED.findall(inspect.getsource(record)))
    properties = {}
    for field in fields(record):
        said = {"description": comments[field.name]} if field.name in comments else {}
        properties[field.name] = _schema(hints[field.name]) | said
    return {
        "description": inspect.cleandoc(record.__doc__ or ""),
        "type": "object",
        "properties": properties,
        "required": list(properties),  # the document writes every field, unknown ones as null
        "additionalProperties": False,
    }


def _schema(hint: Any) -> Schema:
    """Of one type: a number, a text, null, a record, a union or a tuple of any length."""
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _schema(get_args(hint)[0])}
    if isinstance(hint, UnionType) or get_origin(hint) is not None:
        return {"anyOf": [_schema(one) for one in get_args(hint)]}
    if isinstance(hint, type) and is_dataclass(hint):
        return {"$ref": f"#/$defs/{hint.__name__}"}
    return {"type": _NAMES[hint]}
