"""Texts that no user types: encoded bytes, and words drawn at random."""

import re
from collections import Counter

_ENCODED = re.compile(r"[A-Za-z0-9+/=_-]{200,}|(?:[0-9a-fA-F]{2}\s?){150,}")
_FEWEST_WORDS = 50
_LOOKED_AT = 5000  # characters
_FEWEST_WORDS_TO_REPEAT = 120
_SELDOM = 0.08  # of words are the five commonest; in sentences and code an eighth or more
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def looks_encoded(text: str) -> bool:
    """Whether base64 or hexadecimal digits are most of a text's beginning."""
    beginning = text[:_LOOKED_AT]
    encoded = sum(len(match.group()) for match in _ENCODED.finditer(beginning))
    return encoded > len(beginning) / 2


def looks_random(text: str) -> bool:
    """Whether a text is made of tokens or words at random, as load generators make them.

    Decoded random tokens hold broken characters or mix scripts inside words; in random words no
    word returns. Short texts, and scripts that do not part words, are never called random.
    """
    beginning = text[:_LOOKED_AT]
    words = beginning.split()
    if len(words) < _FEWEST_WORDS:
        return False
    if beginning.count(_REPLACEMENT) > len(beginning) / 50:
        return True
    mixed = sum(_mixes_scripts(word) for word in words)
    common = sum(count for _, count in Counter(words).most_common(5))
    is_long = len(words) >= _FEWEST_WORDS_TO_REPEAT
    return mixed > len(words) / 5 or (is_long and common < _SELDOM * len(words))


def _mixes_scripts(word: str) -> bool:
    """Latin letters beside letters of another script in one word."""
    letters = [character for character in word if character.isalpha()]
    latin = sum(character.isascii() for character in letters)
    foreign = sum(ord(character) > 0x24F for character in letters)
    return latin > 0 and foreign > 0
