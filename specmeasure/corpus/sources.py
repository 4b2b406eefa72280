"""Files, folders, globs and "-" to open byte streams. Knows names and compression, not formats."""

import glob
import gzip
import io
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from specmeasure.corpus.folders import (
    bare_suffix,
    is_readme,
    printable,
    visible_files,
    why_no_prompts,
)
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import SkippedPrompt

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file to read, or stdin."""

    path: Path | None  # None is stdin

    @property
    def name(self) -> str:
        """The path as the user wrote it, printable whatever its bytes."""
        return "stdin" if self.path is None else printable(self.path)

    @property
    def stem(self) -> str:
        """The file's name without .gz and one suffix more.

        >>> Source(path=Path("data/HumanEval.jsonl.gz")).stem
        'HumanEval'
        """
        return Path(self.name.removesuffix(".gz")).stem

    @property
    def suffix(self) -> str:
        """Lower case, without .gz; "" for stdin."""
        return "" if self.path is None else bare_suffix(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSources:
    """What the user's words stand for: files to read and files left out."""

    sources: tuple[Source, ...]
    skipped: tuple[SkippedPrompt, ...]


def find_sources(words: Sequence[str]) -> FoundSources:
    """Each file once: in the order of the words, sorted inside a folder or a glob."""
    if not words:
        raise UnreadableCorpus(
            "no prompts were given. Pass a file, a folder, a glob, or - (stdin)."
        )
    sources: dict[Path | None, Source] = {}
    skipped: dict[Path, SkippedPrompt] = {}
    for word in words:
        for path, reason in _match(word).items():
            if path is None or reason is None:
                sources.setdefault(path and path.resolve(), Source(path=path))
            else:
                skipped[path.resolve()] = SkippedPrompt(source=printable(path), reason=reason)
    left_out = tuple(row for path, row in skipped.items() if path not in sources)
    return FoundSources(sources=tuple(sources.values()), skipped=left_out)


@contextmanager
def open_source(source: Source, stdin: IO[bytes] | None) -> Iterator[io.BufferedReader]:
    """The decompressed bytes; gzip is known by its magic, not by its name."""
    with _explain_reading(source.name), _open_raw(source, stdin) as raw:
        if raw.peek(2)[:2] == _GZIP_MAGIC:
            unzipped: io.BufferedReader = io.BufferedReader(gzip.GzipFile(fileobj=raw))
            with unzipped:
                yield unzipped
        else:
            yield raw


def _open_raw(source: Source, stdin: IO[bytes] | None) -> io.BufferedReader:
    if source.path is not None:
        return source.path.open("rb")
    # A copy: a reader wrapped around stdin would close it for everyone.
    return io.BufferedReader(io.BytesIO((sys.stdin.buffer if stdin is None else stdin).read()))


def _match(word: str) -> dict[Path | None, str | None]:
    """The files that a word stands for, each with the reason to leave it out, if any."""
    if word == "-":
        return {None: None}
    with _explain_reading(word):
        paths = _expand(word)
        files: dict[Path | None, str | None] = {}
        for path in paths:
            files.update(_list_files(path))
    if all(files.values()):
        raise UnreadableCorpus(
            f"{word}: no .jsonl, .json or .txt file (also .gz) among {len(files)} files. "
            f"Pass another folder, or export the prompts as jsonl."
        )
    return files


def _expand(word: str) -> list[Path]:
    if word and Path(word).exists():
        return [Path(word)]
    if not any(character in word for character in "*?["):
        raise UnreadableCorpus(
            f"{word or repr(word)}: no such file or folder. Check the path; "
            f"relative paths start at {Path.cwd()}."
        )
    # glob, not Path.glob: it takes absolute patterns and leaves hidden files out.
    matches = [Path(match) for match in sorted(glob.glob(word, recursive=True))]  # noqa: PTH207
    paths = [path for path in matches if not is_readme(path)]
    if not paths:
        raise UnreadableCorpus(
            f"{word}: matches no file. Check the pattern; ** also looks into subfolders."
        )
    return paths


def _list_files(path: Path) -> dict[Path | None, str | None]:
    if path.is_dir():
        return {inner: why_no_prompts(inner) for inner in visible_files(path)}
    return {path: None}


@contextmanager
def _explain_reading(name: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableCorpus(
            f"{name}: the gzip data is damaged or cut off. Copy or download the file again."
        ) from error
    except OSError as error:
        raise UnreadableCorpus(
            f"{name}: cannot be read ({error.strerror or type(error).__name__}). "
            f"Check the file and its permissions."
        ) from error
