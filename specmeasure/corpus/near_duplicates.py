"""Prompts that nearly repeat an earlier one, by MinHash (Broder 1997) and banded LSH."""

from collections.abc import Sequence

from datasketch import MinHash, MinHashLSH

_SIMILAR = 0.8  # Jaccard similarity of shingles
_NUM_PERMUTATIONS = 64
_SHINGLE_WORDS, _SHINGLE_CHARACTERS = 3, 8
_LOOKED_AT = 20_000  # characters of a text


def find_near_duplicates(texts: Sequence[str]) -> list[int]:
    """Places of texts whose shingles are, by the estimate, at least 80 % an earlier text's.

    Words are shingled in threes; texts without spaces, as in Chinese or Thai, by characters.
    """
    index = MinHashLSH(threshold=_SIMILAR, num_perm=_NUM_PERMUTATIONS)
    hashes: dict[int, MinHash] = {}
    repeats = []
    for place, text in enumerate(texts):
        own = MinHash(num_perm=_NUM_PERMUTATIONS)
        own.update_batch(shingles(text[:_LOOKED_AT]))
        if any(hashes[other].jaccard(own) >= _SIMILAR for other in index.query(own)):
            repeats.append(place)
        else:
            hashes[place] = own
            index.insert(place, own)
    return repeats


def shingles(text: str) -> list[bytes]:
    """What a text is compared by, each once.

    >>> shingles("one two three four")
    [b'one two three', b'two three four']
    """
    parts: Sequence[str] = text.lower().split()
    size, joint = _SHINGLE_WORDS, " "
    if len(text) > _SHINGLE_CHARACTERS * 4 * len(parts):
        parts, size, joint = text, _SHINGLE_CHARACTERS, ""
    last = max(1, len(parts) - size + 1)
    return list(dict.fromkeys(joint.join(parts[i : i + size]).encode() for i in range(last)))
