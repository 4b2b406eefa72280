"""Every id once, over all files."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence


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
