"""Why a row is no prompt; raised by readers that do not know where the row stands.

Neither leaves this package: `read_file` adds the place and decides. A message names fields, types
and positions, never a value: prompts are private.
"""

from collections.abc import Iterable

from specmeasure.errors import UnreadableCorpus

_LONGEST_NAME = 40
_MOST_NAMES = 20


class BadRow(UnreadableCorpus):
    """A row that cannot be understood: an error, or skipped under --skip-bad-lines."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"{found}. {remedy}.")
        self.found = found
        self.remedy = remedy


class Unreplayable(UnreadableCorpus):
    """A row that is understood but holds nothing to replay: always skipped, with this reason."""


class Undecidable(UnreadableCorpus):
    """Rows and options that do not fit: always an error, since skipping would hide the choice."""


def json_type(value: object) -> str:
    """The JSON type of a decoded value, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case _:
            return "an object"


def name_fields(names: Iterable[str]) -> str:
    """Field names for a message, shortened where a name is longer than names are."""
    shown = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…" for name in names]
    more = f" and {len(shown) - _MOST_NAMES} more" if len(shown) > _MOST_NAMES else ""
    printable = [name if name.isprintable() and name else repr(name) for name in shown]
    return ", ".join(printable[:_MOST_NAMES]) + more if shown else "no fields"
