"""How a dataset is named: hf:org/name/config:split@revision, or hf:./folder:split."""

import re
from dataclasses import dataclass
from pathlib import Path

from specmeasure.errors import UsageError

_PREFIX = "hf:"
_FORMS = "hf:org/name:split, hf:org/name/config:split (also @revision), or hf:./folder:split"
_HUB = re.compile(
    r"(?P<id>[\w.-]+(?:/[\w.-]+)?)"
    r"(?:/(?P<config>[^/:@]+))?"
    r"(?::(?P<split>[^:@]+))?"
    r"(?:@(?P<revision>[^:@]+))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetName:
    """A dataset on a hub or in a folder, as far as the user has named it."""

    word: str  # as the user wrote it
    place: str  # a hub's id, or a folder
    is_local: bool
    config: str | None = None
    split: str | None = None
    revision: str | None = None

    @property
    def stem(self) -> str:
        """The last part of the id or path, for categories.

        >>> parse_dataset_name("hf:org/chats:train").stem
        'chats'
        """
        return Path(self.place).name or "dataset"


def is_dataset_name(word: str) -> bool:
    """Whether a word names a dataset and no file."""
    return word.startswith(_PREFIX)


def parse_dataset_name(word: str) -> DatasetName:
    """The parts of the name; UsageError where it has none of the known forms.

    >>> name = parse_dataset_name("hf:org/chats/en:train@v1.0")
    >>> name.place, name.config, name.split, name.revision
    ('org/chats', 'en', 'train', 'v1.0')
    """
    body = word.removeprefix(_PREFIX)
    if body.startswith((".", "/", "~")):
        return _parse_folder(word, body)
    found = _HUB.fullmatch(body)
    if found is None:
        raise UsageError(f"{word}: not a dataset's name. Write {_FORMS}.")
    if Path(found["id"]).exists():  # the library would silently prefer the folder
        raise UsageError(
            f"{word}: a folder {found['id']} exists here too. Write hf:./{found['id']} to read it, "
            f"or start from another folder to read the hub's."
        )
    return DatasetName(
        word=word,
        place=found["id"],
        is_local=False,
        config=found["config"],
        split=found["split"],
        revision=found["revision"],
    )


def _parse_folder(word: str, body: str) -> DatasetName:
    folder, _, split = (body, "", "") if _is_folder(body) else body.rpartition(":")
    if not _is_folder(folder):
        raise UsageError(f"{word}: no such folder. Check the path, or write {_FORMS}.")
    return DatasetName(
        word=word, place=str(Path(folder).expanduser()), is_local=True, split=split or None
    )


def _is_folder(path: str) -> bool:
    return bool(path) and Path(path).expanduser().is_dir()
