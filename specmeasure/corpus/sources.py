"""Files, folders, globs, "-" and "hf:" names to sources. Knows names, not what they hold."""

import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from specmeasure.corpus.dataset_names import DatasetName, is_dataset_name, parse_dataset_name
from specmeasure.corpus.folders import (
    PROMPT_FILES,
    bare_name,
    bare_suffix,
    is_readme,
    printable,
    visible_files,
    why_no_prompts,
)
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import Dropped

_MOST_PLACES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file to read, one split of a dataset, or stdin."""

    path: Path | None = None
    dataset: DatasetName | None = None  # stdin has neither

    @property
    def name(self) -> str:
        """The source as the user wrote it, printable whatever its bytes."""
        if self.dataset is not None:
            return self.dataset.word
        return "stdin" if self.path is None else printable(self.path)

    @property
    def stem(self) -> str:
        """The file's name without its suffixes, or the dataset's own name.

        >>> Source(path=Path("data/HumanEval.jsonl.gz")).stem
        'HumanEval'
        """
        if self.dataset is not None:
            return self.dataset.stem
        return self.name if self.path is None else Path(bare_name(Path(self.name))).stem

    @property
    def suffix(self) -> str:
        """Lower case, without that of a compression; "" for what has no file name."""
        return "" if self.path is None else bare_suffix(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSources:
    """What the user's words stand for: files to read and files left out."""

    sources: tuple[Source, ...]
    left_out: tuple[Dropped, ...]  # files of folders that hold no prompts, by reason


def find_sources(words: Sequence[str]) -> FoundSources:
    """Each source once: in the order of the words, sorted inside a folder or a glob."""
    if not words:
        raise UnreadableCorpus(
            "no prompts were given. Pass a file, a folder, a glob, a dataset (hf:org/name:split) "
            "or - (stdin)."
        )
    sources: dict[str, Source] = {}
    reasons: dict[str, str] = {}
    places: dict[str, str] = {}
    for word in words:
        if word == "-" or is_dataset_name(word):
            sources.setdefault(word, _read_word(word))
            continue
        for path, reason in _match(word).items():
            real = os.path.realpath(path)
            if reason is None:
                sources.setdefault(real, Source(path=path))
            else:
                reasons[real] = reason
                places[real] = printable(path)
    unread = [real for real in reasons if real not in sources]
    return FoundSources(
        sources=tuple(sources.values()),
        left_out=_count([(reasons[real], places[real]) for real in unread]),
    )


@contextmanager
def explain_reading(name: str) -> Iterator[None]:
    """What the system refuses becomes an error that names the file."""
    try:
        yield
    except OSError as error:
        raise UnreadableCorpus(
            f"{name}: cannot be read ({error.strerror or type(error).__name__}). "
            f"Check the file and its permissions."
        ) from error


def _read_word(word: str) -> Source:
    return Source() if word == "-" else Source(dataset=parse_dataset_name(word))


def _count(
    rows: list[tuple[str, str]],  # reason and place
) -> tuple[Dropped, ...]:
    by_reason = itertools.groupby(sorted(rows, key=lambda row: row[0]), lambda row: row[0])
    found = {reason: [place for _, place in group] for reason, group in by_reason}
    return tuple(
        Dropped(reason=reason, num_rows=len(places), places=tuple(places[:_MOST_PLACES]))
        for reason, places in found.items()
    )


def _match(word: str) -> dict[Path, str | None]:
    """The files that a word stands for, each with the reason to leave it out, if any."""
    with explain_reading(word):
        files: dict[Path, str | None] = {}
        for path in _expand(word):
            files.update(_list_files(path))
    if all(files.values()):
        raise UnreadableCorpus(
            f"{word}: no file named {PROMPT_FILES} among {len(files)} files. "
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


def _list_files(path: Path) -> dict[Path, str | None]:
    if path.is_dir():
        return {inner: why_no_prompts(inner) for inner in visible_files(path)}
    return {path: None}
