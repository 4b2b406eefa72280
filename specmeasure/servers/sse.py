"""Server-sent events, as far as completions need them: the data of each event, in bytes."""


class EventParser:
    """Bytes in, whole events out; a chunk may end anywhere, inside a character, too."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        r"""The data of the events that end in this chunk.

        >>> events = EventParser()
        >>> events.feed(b'data: {"a":'), events.feed(b"1}\r\n\r\n: a comment\n\ndata: [DONE]\n\n")
        ([], [b'{"a":1}', b'[DONE]'])
        """
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        ended = []
        for line in lines:
            event = self._take(line.removesuffix(b"\r"))
            if event is not None:
                ended.append(event)
        return ended

    def _take(self, line: bytes) -> bytes | None:
        """Read one line; an empty one ends an event, which is returned if it has data."""
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":  # other fields, and comments, whose name is empty, say nothing
                self._data.append(value.removeprefix(b" "))
            return None
        event = b"\n".join(self._data) if self._data else None
        self._data.clear()
        return event
