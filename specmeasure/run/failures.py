"""The one boundary at which a failure becomes a fact about a prompt."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from specmeasure.errors import OutOfMemory, SpecmeasureError, UnreadableCorpus

T = TypeVar("T")
LONGEST_REASON = 300  # characters


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong with one prompt, in one line."""

    reason: str


def unless_it_fails(work: Callable[[], T], *, quotes: bool = False) -> T | Failure:
    """The one boundary: a prompt that fails is a fact about it, and the next one may work.

    Args:
        work: what may fail.
        quotes: whether an unforeseen error's own words are kept; they may hold prompt text.

    Raises:
        SpecmeasureError: a broken model will not mend on the next prompt.
    """
    try:
        return work()
    except (UnreadableCorpus, OutOfMemory) as error:
        return Failure(in_one_line(str(error)))
    except SpecmeasureError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a model or tokenizer raises on one prompt
        words = f": {error}" if quotes else f" at {_place(error)}"
        return Failure(in_one_line(f"{type(error).__name__}{words}"))


def in_one_line(words: str) -> str:
    """Without line breaks, and not at any length."""
    return " ".join(words.split())[:LONGEST_REASON]


def _place(error: Exception) -> str:
    """File and line that raised, without the folders."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "no place"
