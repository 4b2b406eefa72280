"""A source to its decompressed bytes, with enough of their beginning to recognise a format."""

import io
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from specmeasure.corpus.compression import Decompressed, find_compression
from specmeasure.corpus.sources import Source, explain_reading

HEAD_BYTES = 2**20
_MAGIC_BYTES = 6  # the longest magic of a compression
_BUFFER_BYTES = 2**18


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The decompressed bytes of one source."""

    head: bytes  # the first HEAD_BYTES, or all where there are fewer
    stream: io.BufferedReader  # all bytes, from the first
    path: Path | None  # of a file that holds these very bytes and can be sought in


@contextmanager
def open_source(source: Source, stdin: IO[bytes] | None) -> Iterator[Opened]:
    """Open a file or stdin, which stays open; read errors inside the block name the source."""
    with explain_reading(source.name), _open_raw(source, stdin) as raw:
        magic = raw.read(_MAGIC_BYTES)
        stream = rejoin(magic, raw)
        kind = find_compression(magic)
        if kind is not None:
            stream = io.BufferedReader(Decompressed(stream, kind, source.name), _BUFFER_BYTES)
        head = stream.read(HEAD_BYTES)
        is_seekable = kind is None and source.path is not None and raw.seekable()
        path = source.path if is_seekable else None
        yield Opened(head=head, stream=rejoin(head, stream), path=path)


def rejoin(head: bytes, rest: IO[bytes]) -> io.BufferedReader:
    """A stream of the bytes already read and those still to come; closing it spares the rest."""
    return io.BufferedReader(_Joined(head, rest), _BUFFER_BYTES)


class _Joined(io.RawIOBase):
    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        super().__init__()
        self._head = memoryview(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # io gives no other
        piece = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)


def _open_raw(source: Source, stdin: IO[bytes] | None) -> AbstractContextManager[IO[bytes]]:
    if source.path is not None:
        return source.path.open("rb")
    return nullcontext(sys.stdin.buffer if stdin is None else stdin)
