"""Every prompt once and every id once, over all files."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from specmeasure.corpus.reading import FileReading
from specmeasure.records.corpus import Prompt, SkippedPrompt


def make_distinct(readings: Sequence[FileReading]) -> list[FileReading]:
    """Drop prompts that ask what an earlier one asked, then give each of the rest its own id."""
    firsts: dict[str, Prompt] = {}  # by content hash
    stems: dict[str, str] = {}  # of the file where the first one stands
    for reading in readings:
        for prompt in reading.prompts:
            firsts.setdefault(prompt.content_hash, prompt)
            stems.setdefault(prompt.content_hash, reading.source.stem)
    names = unique_ids([first.prompt_id for first in firsts.values()], list(stems.values()))
    ids = dict(zip(firsts, names, strict=True))
    return [_keep_firsts(reading, firsts, ids) for reading in readings]


def unique_ids(ids: Sequence[str], stems: Sequence[str]) -> list[str]:
    """Ids that collide get their file's stem in front, then #2, #3 where that is not enough.

    >>> unique_ids(["7", "7", "8"], ["chat", "code", "code"])
    ['chat-7', 'code-7', '8']
    >>> unique_ids(["7", "7"], ["chat", "chat"])
    ['chat-7', 'chat-7#2']
    """
    num_uses = Counter(ids)
    taken = {prompt_id for prompt_id, uses in num_uses.items() if uses == 1}
    spellings: dict[str, Iterator[str]] = {}
    unique: list[str] = []
    for prompt_id, stem in zip(ids, stems, strict=True):
        if num_uses[prompt_id] == 1:
            unique.append(prompt_id)
            continue
        name = f"{stem}-{prompt_id}"
        untried = spellings.setdefault(name, _spell(name))
        free = next(spelling for spelling in untried if spelling not in taken)
        taken.add(free)
        unique.append(free)
    return unique


def _spell(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}#{count}" for count in itertools.count(2))


def _keep_firsts(
    reading: FileReading, firsts: Mapping[str, Prompt], ids: Mapping[str, str]
) -> FileReading:
    prompts: list[Prompt] = []
    skipped = list(reading.skipped)
    for prompt in reading.prompts:
        content = prompt.content_hash
        if firsts[content] is prompt:
            prompts.append(replace(prompt, prompt_id=ids[content]))
        else:
            reason = f"duplicate of {ids[content]}"
            skipped.append(SkippedPrompt(source=prompt.source, reason=reason))
    return replace(reading, prompts=tuple(prompts), skipped=tuple(skipped))
