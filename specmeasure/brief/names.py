"""How names that a user chose are spoken: on one line, without control characters, not too long.

Does not escape: markdown and terminals each have their own rules.
"""

import shlex
from collections.abc import Sequence
from pathlib import PurePath

_JOINERS = "\u200c\u200d"  # not printable by themselves, needed inside words of some scripts


def plain(name: str) -> str:
    r"""A name on one line; whatever a terminal could act on becomes a space.

    >>> plain("red\x1b[31m\nname")
    'red [31m name'
    """
    kept = (char if char.isprintable() or char in _JOINERS else " " for char in name)
    return " ".join("".join(kept).split())


def shortened(name: str, *, at_most: int = 40) -> str:
    """A plain name with its middle left out where it is long.

    >>> shortened("draft:/srv/models/a-very-long-name k=4", at_most=20)
    'draft:/srv…-name k=4'
    """
    name = plain(name)
    if len(name) <= at_most:
        return name
    head = at_most // 2
    return f"{name[:head]}…{name[head + 1 - at_most :]}"


def listed(names: Sequence[str], *, at_most: int = 6) -> str:
    """Names as one would say them.

    >>> listed(["booking", "code", "tools"]), listed(["a", "b", "c", "d"], at_most=2)
    ('booking, code and tools', 'a, b and 2 more')
    """
    said = list(names)
    if len(said) > at_most:
        said = [*said[:at_most], f"{len(names) - at_most} more"]
    return " and ".join(part for part in (", ".join(said[:-1]), said[-1]) if part)


def command_line(argv: Sequence[str]) -> str:
    """What was typed, quoted for a shell; where the program itself lies is left out."""
    program = [PurePath(word).name for word in argv[:1]]
    return plain(shlex.join([*program, *argv[1:]]))
