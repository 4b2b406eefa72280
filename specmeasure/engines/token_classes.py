"""What each token of an answer is made of, told from its text alone."""

import unicodedata
from array import array
from collections.abc import Sequence
from typing import Any

from specmeasure.records.replay import TOKEN_CLASSES, TokenClass

_SENTENCE_ENDS = frozenset(".!?:\n\"'“”‘’)(-*#>")
_CODE = frozenset("{}[]()<>=+*/\\|&^%$#@_;~`")
BROKEN = "\N{REPLACEMENT CHARACTER}"  # some bytes of a character that several tokens spell
_PLACES = {name: place for place, name in enumerate(TOKEN_CLASSES)}


class TokenClassifier:
    """Classes of tokens by one tokenizer; remembers the text of every id that it has seen."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special = frozenset(tokenizer.all_special_ids) | frozenset(
            id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special
        )
        self._texts: dict[int, str] = {}

    def classify(self, token_ids: Sequence[int]) -> "array[int]":
        """Places in ``TOKEN_CLASSES``."""
        classes, before = array("b"), "\n"
        for token in token_ids:
            is_special = token in self._special
            text = "" if is_special else self._text(token)
            found = TokenClass.SPECIAL if is_special else token_class(text, before)
            classes.append(_PLACES[found])
            before = text or before
        return classes

    def _text(self, token: int) -> str:
        """With the space before it, which sentencepiece drops from a single token."""
        if token not in self._texts:
            piece = str(self._tokenizer.convert_ids_to_tokens(token))
            text = str(self._tokenizer.decode([token]))
            starts_word = piece.startswith("▁") and not text.startswith(" ")
            self._texts[token] = f" {text}" if starts_word else text
        return self._texts[token]


def token_class(text: str, before: str = "\n") -> TokenClass:
    """The class of one token's text.

    Args:
        text: with the space before it, if any.
        before: the text of the token before it; a capital letter after the end of a sentence makes
            no name.

    >>> [token_class(t, " the").value for t in (" Paris", " 42", ".", " get_name", "  ", "été")]
    ['names', 'digits', 'punctuation', 'code', 'whitespace', 'words']
    """
    said = text.strip()
    letters = [char for char in said if char.isalpha()]
    if not said:
        found = TokenClass.WHITESPACE
    elif any(char in _CODE for char in said):
        found = TokenClass.CODE
    elif any(char.isdigit() for char in said):
        found = TokenClass.DIGITS
    elif BROKEN in said or not all("LATIN" in unicodedata.name(char, "") for char in letters):
        found = TokenClass.OTHER_SCRIPT
    elif not letters:
        found = TokenClass.PUNCTUATION
    else:
        found = TokenClass.NAME if _is_name(text, before) else TokenClass.WORD
    return found


def _is_name(text: str, before: str) -> bool:
    """A capital letter at the start of a word, inside a sentence."""
    earlier = before.strip(" ")
    starts_sentence = not earlier or earlier[-1] in _SENTENCE_ENDS
    starts_word = text[0].isspace() or not before[-1:].isalnum()
    return text.strip()[0].isupper() and starts_word and not starts_sentence
