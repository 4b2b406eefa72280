"""Files that are no prompt text, known by their first bytes or by their name."""

from specmeasure.corpus.compression import find_compression
from specmeasure.corpus.sources import Source
from specmeasure.errors import UnreadableCorpus

_UNPACK = "Unpack it first, and pass the folder"
_EXPORT = "Export the prompts as jsonl, one object per line"
_ENCODE = "Convert it to UTF-8, e.g. with iconv"
_PICKLE = "a pickle, which could run code when loaded"

_MAGICS = (
    (b"SQLite format 3", "an SQLite database", _EXPORT),
    (b"\x89HDF", "an HDF5 file", _EXPORT),
    (b"\x93NUMPY", "a numpy array", _EXPORT),
    (b"FEA1", "a feather table of version 1", "Write it again with pyarrow, as version 2"),
    (b"%PDF-", "a PDF", _EXPORT),
    (b"\x80\x02", _PICKLE, _EXPORT),
    (b"\x80\x03", _PICKLE, _EXPORT),
    (b"\x80\x04", _PICKLE, _EXPORT),
    (b"\x80\x05", _PICKLE, _EXPORT),
    (b"PK\x03\x04", "a zip archive", _UNPACK),
    (b"PK\x05\x06", "an empty zip archive", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"Rar!", "a rar archive", _UNPACK),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "Decompress it first"),
    (b"\xff\xfe\x00\x00", "UTF-32 text", _ENCODE),
    (b"\x00\x00\xfe\xff", "UTF-32 text", _ENCODE),
    (b"\xff\xfe", "UTF-16 text", _ENCODE),
    (b"\xfe\xff", "UTF-16 text", _ENCODE),
)
_PICKLE_SUFFIXES = {".pkl", ".pickle"}  # protocol 0 is text


def refuse_foreign(
    head: bytes,  # the first bytes of the file, decompressed
    source: Source,
) -> None:
    """Raise UnreadableCorpus for what is not text; silent about text of a wrong format."""
    kind = find_compression(head)
    if kind is not None:
        raise UnreadableCorpus(
            f"{source.name}: this is {kind} inside a compressed file. Decompress it once."
        )
    for magic, found, remedy in _MAGICS:
        if head.startswith(magic):
            raise UnreadableCorpus(f"{source.name}: this is {found}. {remedy}.")
    if source.suffix in _PICKLE_SUFFIXES:
        raise UnreadableCorpus(f"{source.name}: this is {_PICKLE}. {_EXPORT}.")
    refuse_nul(head, source.name)


def refuse_nul(
    content: bytes,
    name: str,
    *,
    offset: int = 0,  # where content starts in its file
) -> None:
    """Raise UnreadableCorpus where there is a NUL byte, which no text holds."""
    if b"\0" in content:
        raise UnreadableCorpus(
            f"{name}: a NUL byte at byte offset {offset + content.index(0)}: "
            f"this is binary, not UTF-8 text. {_EXPORT}."
        )
