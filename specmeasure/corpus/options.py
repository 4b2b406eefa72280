"""What the user may say about a corpus, checked before a file is opened."""

from typing import get_args, get_type_hints

from specmeasure.errors import UsageError
from specmeasure.records.corpus import CorpusOptions

_PATHS = ("field", "response_field", "category_field")
_CHOICES = ("chat", "format", "text_split")


def check_options(options: CorpusOptions) -> None:
    """Raise UsageError for options that no corpus could satisfy."""
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"the limit is {options.limit}. Pass --limit 1 or more, or leave it out.")
    paths = {name: getattr(options, name) for name in _PATHS}
    for name, path in [*paths.items(), *(("slice_by", path) for path in options.slice_by)]:
        if path is not None and not path.strip():
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} is an empty name. Pass {flag} NAME, or leave it out.")
    hints = get_type_hints(CorpusOptions)
    for name in _CHOICES:
        allowed = get_args(hints[name])
        if getattr(options, name) not in allowed:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} {getattr(options, name)}: use {', '.join(allowed)}.")
