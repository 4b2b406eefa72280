"""The embedded target, its drafts and heads: small real models, named ``embedded:…``.

Paths only; nothing here loads a model. ``demo/README.md`` says what they were trained on.
"""

from pathlib import Path

PREFIX = "embedded:"
TARGET = "embedded:target"
DRAFT = "embedded:draft"
DRAFT_LARGE = "embedded:draft-large"
MEDUSA = "embedded:medusa"


def embedded_folder(name: str) -> Path | None:
    """The folder of an embedded model, or None when the name is not of that kind.

    >>> embedded_folder("meta-llama/Llama-3.2-1B") is None
    True
    """
    if not name.startswith(PREFIX):
        return None
    return Path(__file__).parent / name.removeprefix(PREFIX)
