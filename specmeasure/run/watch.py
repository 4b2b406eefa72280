"""What a caller may want to hear while something long goes on."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchers:
    """Called as things happen; each does nothing unless given."""

    stage: Callable[[str], None] = lambda _: None
    warning: Callable[[str], None] = lambda _: None
    planned: Callable[[int], None] = lambda _: None
    trial: Callable[[], None] = lambda: None


SILENT = Watchers()
