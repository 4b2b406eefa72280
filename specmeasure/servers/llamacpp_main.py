"""llama.cpp's own HTTP server out of the xllamacpp package, until SIGTERM.

A program of its own: ``python llamacpp_main.py NAME=VALUE…``, each an attribute of xllamacpp's
CommonParams, e.g. ``model.path=m.gguf n_parallel=4 speculative.types=draft-simple``. Prints its
address, once it listens; llama.cpp itself logs to standard error.
"""

import json
import signal
import sys
from collections.abc import Sequence
from enum import Enum
from functools import reduce
from typing import Any


def main(assignments: Sequence[str]) -> int:
    """Serve until told to end."""
    import xllamacpp

    ends = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before the server's threads inherit it
    params = xllamacpp.CommonParams()
    try:
        for assignment in assignments:
            assign(params, assignment)
        server = xllamacpp.Server(params)
    except (ValueError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    signal.sigwait(ends)
    del server  # waits for its threads
    return 0


def assign(params: Any, assignment: str) -> None:
    """Set one attribute, as its present value's type reads it.

    Raises:
        ValueError: no such attribute, or a value of another type.
    """
    path, _, text = assignment.partition("=")
    *parents, name = path.split(".")
    try:
        owner = reduce(getattr, parents, params)
        present = getattr(owner, name)
    except AttributeError:
        raise ValueError(f"{path}: xllamacpp's CommonParams has no such attribute") from None
    setattr(owner, name, read_as(present, text, path))


def read_as(present: Any, text: str, path: str) -> Any:
    """The text as a value of the kind of the present one.

    >>> read_as(1, "4", "n_parallel"), read_as(["127.0.0.1"], "::1", "hostnames")
    (4, ['::1'])
    """
    match present:
        case Enum():
            return _member(type(present), text, path)
        case str():
            return text
        case set():
            return set(text.split(","))
        case list() if present and isinstance(present[0], Enum):
            return [_member(type(present[0]), part, path) for part in text.split(",")]
        case list() if present and isinstance(present[0], str):
            return text.split(",")
    return _as_number(present, text, path)


def _as_number(present: Any, text: str, path: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(present, float) and isinstance(value, int):
        value = float(value)
    if type(value) is not type(present):
        wanted = _WANTED.get(type(present), type(present).__name__)
        raise ValueError(f"{path}={text}: this attribute is {wanted}")
    return value


_WANTED = {int: "a whole number", float: "a number", bool: "true or false", list: "[a, list]"}


def _member(kind: type[Enum], text: str, path: str) -> Enum:
    """The one whose name ends so: ``f32`` is GGML_TYPE_F32."""
    wanted = "_" + text.upper().replace("-", "_")
    found = [member for member in kind if f"_{member.name}".endswith(wanted)]
    if len(found) != 1:
        known = ", ".join(member.name for member in kind)
        raise ValueError(f"{path}={text}: use one of {known}")
    return found[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
