"""Compressed bytes to bytes, known by their first bytes and never by a name.

Knows gzip, bzip2, xz and zstd. Does not open archives: a zip holds files, not a stream.
"""

import bz2
import io
import lzma
import zlib
from typing import Protocol

import zstandard

from specmeasure.errors import UnreadableCorpus

COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
_MAGICS = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"))
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_PIECE_BYTES = 2048  # one piece of bzip2 or zstd can hold 20,000 times as much: a bomb stays small
_DAMAGES = (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, ValueError)


def find_compression(head: bytes) -> str | None:
    """The name of the compression whose magic the bytes start with."""
    if head.startswith(_ZSTD_MAGIC):
        return "zstd"
    return next((kind for magic, kind in _MAGICS if head.startswith(magic)), None)


class Decompressed(io.RawIOBase):
    """The decompressed bytes of a stream; all of its members where there are several.

    Raises UnreadableCorpus where the data end or break inside a member, or go on with other bytes.
    """

    def __init__(
        self,
        compressed: io.BufferedIOBase,
        kind: str,  # "gzip", "bzip2", "xz" or "zstd"
        name: str,
    ) -> None:
        super().__init__()
        self._compressed = compressed
        self._kind = kind
        self._name = name
        self._decoder = _new_decoder(kind)
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill the buffer; 0 only where the compressed data end as they should."""
        while not self._ready:
            compressed = self._next_compressed()
            if not compressed:
                return 0
            try:
                self._ready = memoryview(self._decoder.decompress(compressed))
            except _DAMAGES as error:
                raise self._damaged() from error
        num_bytes = min(len(buffer), len(self._ready))
        buffer[:num_bytes] = self._ready[:num_bytes]
        self._ready = self._ready[num_bytes:]
        return num_bytes

    def _next_compressed(self) -> bytes:
        if not self._decoder.eof:
            piece = self._compressed.read(_PIECE_BYTES)
            if not piece:
                raise self._damaged()
            return piece
        piece = self._decoder.unused_data or self._compressed.read(_PIECE_BYTES)
        while piece and not piece.strip(b"\0"):  # padding between members and at the end
            piece = self._compressed.read(_PIECE_BYTES)
        self._decoder = _new_decoder(self._kind) if piece else self._decoder
        return piece.lstrip(b"\0")

    def _damaged(self) -> UnreadableCorpus:
        return UnreadableCorpus(
            f"{self._name}: the {self._kind} data is damaged or cut off. "
            f"Copy or download the file again."
        )


class _Decoder(Protocol):
    """What the decompressors of the four libraries have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _new_decoder(kind: str) -> _Decoder:
    match kind:
        case "gzip":
            return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # 16: with gzip's header
        case "bzip2":
            return bz2.BZ2Decompressor()
        case "xz":
            return lzma.LZMADecompressor(lzma.FORMAT_XZ)
        case _:
            return zstandard.ZstdDecompressor().decompressobj()
