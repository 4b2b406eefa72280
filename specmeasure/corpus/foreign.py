"""Files that are no prompt text, known by their first bytes or by their name."""

from specmeasure.corpus.sources import Source
from specmeasure.errors import UnreadableCorpus

_UNPACK = "Decompress it first"
_EXPORT = "Export the prompts as jsonl, one object per line"
_ENCODE = "Convert it to UTF-8, e.g. with iconv"

_MAGICS = (
    (b"PAR1", "a parquet table", _EXPORT),
    (b"ARROW1", "an arrow table", _EXPORT),
    (b"SQLite format 3", "an SQLite database", _EXPORT),
    (b"\x89HDF", "an HDF5 file", _EXPORT),
    (b"\x93NUMPY", "a numpy array", _EXPORT),
    (b"%PDF-", "a PDF", _EXPORT),
    (b"\x80\x02", "a pickle, which could run code when loaded", _EXPORT),
    (b"\x80\x03", "a pickle, which could run code when loaded", _EXPORT),
    (b"\x80\x04", "a pickle, which could run code when loaded", _EXPORT),
    (b"\x80\x05", "a pickle, which could run code when loaded", _EXPORT),
    (b"PK\x03\x04", "a zip archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (b"BZh", "compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "compressed with xz", _UNPACK),
    (b"\x1f\x8b", "gzip inside gzip", _UNPACK),
    (b"\xff\xfe", "UTF-16 text", _ENCODE),
    (b"\xfe\xff", "UTF-16 text", _ENCODE),
)
_SUFFIXES = {  # text by their bytes, but not one prompt per line
    ".csv": ("a table", _EXPORT),
    ".tsv": ("a table", _EXPORT),
    ".pkl": ("a pickle, which could run code when loaded", _EXPORT),
    ".pickle": ("a pickle, which could run code when loaded", _EXPORT),
}


def refuse_foreign(
    head: bytes,  # the first bytes of the file, decompressed
    source: Source,
) -> None:
    """Raise UnreadableCorpus for what is not text; silent about text of a wrong format."""
    for magic, found, remedy in _MAGICS:
        if head.startswith(magic):
            raise UnreadableCorpus(f"{source.name}: this is {found}. {remedy}.")
    if source.suffix in _SUFFIXES:
        found, remedy = _SUFFIXES[source.suffix]
        raise UnreadableCorpus(f"{source.name}: this is {found}. {remedy}.")
    if b"\0" in head:
        offset = head.index(b"\0")
        raise UnreadableCorpus(
            f"{source.name}: a NUL byte at byte offset {offset}: this is binary, not UTF-8 text. "
            f"{_EXPORT}."
        )
