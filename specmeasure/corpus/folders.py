"""Which files of a folder hold prompts, by their names alone."""

import os
from pathlib import Path

_PROMPT_SUFFIXES = {".jsonl", ".json", ".txt"}


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
    if bare_suffix(path) not in _PROMPT_SUFFIXES:
        return "not a .jsonl, .json or .txt file (also .gz)"
    return None if path.is_file() else "not a regular file"


def is_readme(path: Path) -> bool:
    """Whether a file is a README of any kind, which holds no prompts."""
    return path.name.split(".")[0].lower() == "readme" and not path.is_dir()


def bare_suffix(path: Path) -> str:
    """The suffix in lower case, without .gz.

    >>> bare_suffix(Path("HumanEval.JSONL.gz"))
    '.jsonl'
    """
    return Path(path.name.lower().removesuffix(".gz")).suffix


def printable(path: Path) -> str:
    """The path as text whatever its bytes: a name that is not UTF-8 gets replacement marks."""
    return os.fsencode(path).decode(errors="replace")


def _reraise(error: OSError) -> None:
    raise error
