"""What the user may say about a corpus."""

from dataclasses import dataclass
from typing import Literal

from specmeasure.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusOptions:
    """How rows become prompts and how many of them are kept."""

    field: str | None = None  # dotted path to the prompt in each row: "a.b", "a[0].b"
    limit: int | None = None  # most prompts to keep: a seeded sample, stratified by category
    seed: int = 0
    skip_bad_lines: bool = False
    chat: Literal["auto", "chat", "completion"] = "auto"  # how a plain prompt string is sent


def check_options(options: CorpusOptions) -> None:
    """Raise UsageError for options that no corpus could satisfy."""
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"the limit is {options.limit}. Pass --limit 1 or more, or leave it out.")
    if options.field is not None and not options.field.strip():
        raise UsageError("the field is an empty name. Pass --field NAME, or leave it out.")
    if options.chat not in {"auto", "chat", "completion"}:
        raise UsageError(f"no chat mode {options.chat!r}. Use auto, chat or completion.")
