"""Paths that users write, `a.b[0].c`, followed into rows and into JSON kept as text."""

import base64
import binascii
import re
from collections.abc import Mapping

import msgspec

from specmeasure.corpus.problems import Undecidable

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_PATH = re.compile(r"[^.\[\]]+(?:\[\d+\]|\.[^.\[\]]+)*")


def follow(row: Mapping[str, object], path: str) -> object:
    """What stands at the path, or None; a name may hold dots itself.

    >>> follow({"log": '{"chat": [{"said": "hello"}]}'}, "log.chat[0].said")
    'hello'
    """
    if path in row:
        return row[path]
    value: object = row
    for name, index in _split(path):
        value = _step(unpacked(value), name, index)
    return value


def leaf(path: str) -> str:
    """The last name of a path.

    >>> leaf("data[0].turns[1]")
    'turns'
    """
    return re.sub(r"\[\d+\]", "", path).rpartition(".")[2]


def unpacked(value: object, encoding: object = None) -> object:
    """A text that holds a JSON object or list as that; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        text = base64.b64decode(value, validate=True) if encoding == "BASE64" else value.encode()
        if text.lstrip()[:1] not in (b"{", b"["):
            return text.decode() if encoding == "BASE64" else value
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, binascii.Error, RecursionError):
        return value


def _split(path: str) -> list[tuple[str, str]]:
    if not _PATH.fullmatch(path):
        raise Undecidable(f"no path {path!r}. Pass --field NAME, or a path as in a.b or a[0].b.")
    return _STEP.findall(path)


def _step(value: object, name: str, index: str) -> object:
    if name:
        return value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, list) and int(index) < len(value):
        return value[int(index)]
    return None
