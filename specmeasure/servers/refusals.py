"""What a server's refusal says, without what was asked: servers quote prompts in their messages."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from specmeasure.errors import SpecmeasureError, UnexpectedReply, UsageError

API_KEY = "SPECMEASURE_API_KEY"  # the environment variable

_MOST_CHARACTERS = 200
_SHARED_CHARACTERS = 12  # a message that has so many in a row from the request is not shown
_FEWEST_CHARACTERS = 4  # shorter texts stand in any message
_OF_THE_PROTOCOL = ("model", "role", "type", "samplers")  # fields whose texts are no user's
_NAME = re.compile(r"[\w. -]{1,60}")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|(?<!\w)[\[{].*")


def api_key() -> str | None:
    """The key from the environment; None: not set.

    Raises:
        UsageError: it holds what no HTTP header may hold.
    """
    key = os.environ.get(API_KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"{API_KEY} holds characters that a key in an HTTP header cannot have")
    return key or None


def refusal(url: str, status: int, body: bytes, request: Mapping[str, Any]) -> SpecmeasureError:
    """The error for a status that is not retried.

    401 and 403 are a ``UsageError``, for no request will do better; the others, an
    ``UnexpectedReply``, fail this request alone.
    """
    words = own_words(_decoded(body), request)
    if status in (401, 403):
        return UsageError(
            f"{url} answers {status}: it wants another API key. Set the environment variable "
            f"{API_KEY} to it."
        )
    return UnexpectedReply(f"{url} answers {status}{words}")


def own_words(document: Any, request: Mapping[str, Any]) -> str:
    """After a colon, the message with its type and code, as far as it is the server's own."""
    error = document.get("error", document) if isinstance(document, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        return ""
    message = _unquoted(error.get("message") or error.get("detail"))
    if _quotes(message, request):
        message = ""
    names = [str(error.get(name)) for name in ("type", "code") if error.get(name) is not None]
    told = ", ".join(name for name in names if is_name(name) and not _quotes(name, request))
    return (f": {message}" if message else "") + (f" ({told})" if told else "")


def is_name(text: str) -> bool:
    """Whether it is short and of a name's characters: a type or a code, no message."""
    return _NAME.fullmatch(text) is not None


def _unquoted(message: Any) -> str:
    """Its first line, cut, with what it quotes left out."""
    if not isinstance(message, str):
        return ""
    line = _QUOTED.sub("…", message.strip().partition("\n")[0])
    return line if len(line) <= _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]}…"


def _quotes(message: str, request: Mapping[str, Any]) -> bool:
    """Whether it shares a piece with a text that was sent, as long as the shorter of them."""
    return any(_share(message, text) for text in _private_texts(request))


def _share(message: str, text: str) -> bool:
    width = min(len(message), len(text), _SHARED_CHARACTERS)
    if width < _FEWEST_CHARACTERS:
        return False
    return any(message[i : i + width] in text for i in range(len(message) - width + 1))


def _private_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if name not in _OF_THE_PROTOCOL:
                yield from _private_texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _private_texts(item)


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
