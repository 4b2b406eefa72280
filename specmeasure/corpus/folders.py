"""Which files of a folder hold prompts, by their names alone."""

import os
from pathlib import Path

from specmeasure.corpus.compression import COMPRESSED_SUFFIXES

_TEXT_SUFFIXES = {".jsonl", ".json", ".ndjson", ".txt", ".csv", ".tsv"}
_TABLE_SUFFIXES = {".parquet", ".arrow", ".feather"}  # compressed inside, not outside
PROMPT_FILES = (
    ".jsonl, .json, .ndjson, .txt, .csv, .tsv (also .gz, .bz2, .xz, .zst), "
    ".parquet, .arrow or .feather"
)


def visible_files(folder: Path) -> list[Path]:
    """Everything below the folder in sorted order, but hidden files, hidden folders and READMEs."""
    paths: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=_reraise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        linked = [name for name in folders if Path(root, name).is_symlink()]  # not walked into
        paths += [Path(root, name) for name in (*names, *linked) if not name.startswith(".")]
    return sorted(path for path in paths if not is_readme(path))


def why_no_prompts(path: Path) -> str | None:
    """The reason to leave a file of a folder out, or None to read it."""
    if path.is_dir():
        return "a link to a folder is not followed"
    suffix = bare_suffix(path)
    if suffix in _TABLE_SUFFIXES and suffix != path.suffix.lower():
        return f"a compressed {suffix} file is not read"
    if suffix not in _TEXT_SUFFIXES | _TABLE_SUFFIXES:
        return f"not a file named {PROMPT_FILES}"
    return None if path.is_file() else "not a regular file"


def is_readme(path: Path) -> bool:
    """Whether a file is a README of any kind, which holds no prompts."""
    return path.name.split(".")[0].lower() == "readme" and not path.is_dir()


def bare_name(path: Path) -> str:
    """The file's name without the suffix of a compression.

    >>> bare_name(Path("data/HumanEval.jsonl.gz"))
    'HumanEval.jsonl'
    """
    return path.stem if path.suffix.lower() in COMPRESSED_SUFFIXES else path.name


def bare_suffix(path: Path) -> str:
    """The suffix in lower case, without that of a compression.

    >>> bare_suffix(Path("HumanEval.JSONL.gz"))
    '.jsonl'
    """
    return Path(bare_name(path)).suffix.lower()


def printable(path: Path) -> str:
    """The path as text whatever its bytes: a name that is not UTF-8 gets replacement marks."""
    return os.fsencode(path).decode(errors="replace")


def _reraise(error: OSError) -> None:
    raise error
