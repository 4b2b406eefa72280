"""Recorded streams, read as the client reads live ones."""

from pathlib import Path

import msgspec

from specmeasure.records.plan import DecodeSettings
from specmeasure.servers.answers import StreamedAnswer
from specmeasure.servers.connection import Sending
from specmeasure.servers.dialect import Dialect
from specmeasure.servers.server import Ask, Reply
from specmeasure.servers.sse import EventParser

PAYLOADS = Path(__file__).parents[1] / "payloads"
ASK = Ask(context="any", settings=DecodeSettings())


def documents(name: str) -> list[dict]:
    """The objects of a recorded stream."""
    events = EventParser().feed((PAYLOADS / name).read_bytes())
    return [msgspec.json.decode(event) for event in events if event != b"[DONE]"]


def reply_of(dialect: Dialect, streamed: list[dict], ask: Ask = ASK) -> Reply:
    """The reply, as if object number n had arrived n + 1 seconds after the request was sent."""
    answer = StreamedAnswer()
    for place, document in enumerate(streamed):
        answer.add(place + 1.0, dialect.read(document))
    return answer.reply(ask, Sending(sent=0.0, num_retries=0))
