"""What a token is made of, by examples."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from specmeasure import demo
from specmeasure.engines.loading import load_tokenizer
from specmeasure.engines.token_classes import TokenClassifier, token_class
from specmeasure.records.plan import ModelOptions
from specmeasure.records.replay import TOKEN_CLASSES, TokenClass

EXAMPLES = [
    (" Paris", " in", TokenClass.NAME),
    ("Paris", " ", TokenClass.WORD),  # nothing was said before: a sentence may start
    ("Paris", "(", TokenClass.WORD),
    (" The", ".", TokenClass.WORD),
    (" The", "!", TokenClass.WORD),
    ("The", "\n\n", TokenClass.WORD),
    (" The", ". ", TokenClass.WORD),
    (" Élodie", " and", TokenClass.NAME),
    ("Script", "Java", TokenClass.WORD),  # inside a word
    ("s", "Paris", TokenClass.WORD),
    (" paris", " in", TokenClass.WORD),
    (" I", " and", TokenClass.NAME),
    (" été", " l", TokenClass.WORD),
    ("'s", "Tom", TokenClass.WORD),
    (" 42", " is", TokenClass.DIGITS),
    ("3", ".", TokenClass.DIGITS),
    (" 2nd", " the", TokenClass.DIGITS),
    (".", " end", TokenClass.PUNCTUATION),
    (" —", " so", TokenClass.PUNCTUATION),
    ("?!", " what", TokenClass.PUNCTUATION),
    ("</", " ", TokenClass.CODE),
    (" get_name", " =", TokenClass.CODE),
    ("()", "f", TokenClass.CODE),
    ("**", " so", TokenClass.CODE),
    (" x1=", " ", TokenClass.CODE),  # a sign says more than a digit
    ("  ", "\n", TokenClass.WHITESPACE),
    ("\n\t", ":", TokenClass.WHITESPACE),
    ("", "a", TokenClass.WHITESPACE),
    ("中文", "，", TokenClass.OTHER_SCRIPT),
    (" мир", " ", TokenClass.OTHER_SCRIPT),
    ("αx", " ", TokenClass.OTHER_SCRIPT),
    ("\N{REPLACEMENT CHARACTER}", " a", TokenClass.OTHER_SCRIPT),  # part of a character
    (" \N{REPLACEMENT CHARACTER}", " a", TokenClass.OTHER_SCRIPT),
    ("。", "中", TokenClass.PUNCTUATION),
]


@pytest.mark.parametrize(("text", "before", "expected"), EXAMPLES)
def test_examples(text: str, before: str, expected: TokenClass):
    """One text after another has one class."""
    assert expected == token_class(text, before)


@dataclass
class FakeTokenizer:
    """Pieces by id, with what each decodes to alone."""

    pieces: Sequence[str]
    texts: Sequence[str]
    all_special_ids: Sequence[int] = ()
    added_tokens_decoder: Mapping[int, Any] = field(default_factory=dict)
    decoded: list[int] = field(default_factory=list)

    def convert_ids_to_tokens(self, token: int) -> str:
        return self.pieces[token]

    def decode(self, ids: Sequence[int]) -> str:
        self.decoded += ids
        return self.texts[ids[0]]


@dataclass(frozen=True)
class Added:
    special: bool


def names(classes: "array[int]") -> list[TokenClass]:
    return [TOKEN_CLASSES[place] for place in classes]


def test_sentencepiece_pieces_keep_their_space():
    """The space that decoding a lone piece drops still tells a name from the end of a word."""
    tokenizer = FakeTokenizer(["▁in", "▁Paris", "Script", "▁"], ["in", "Paris", "Script", ""])

    assert [TokenClass.WORD, TokenClass.NAME] == names(TokenClassifier(tokenizer).classify([0, 1]))
    assert [TokenClass.WORD, TokenClass.WORD] == names(TokenClassifier(tokenizer).classify([0, 2]))
    assert [TokenClass.WHITESPACE] == names(TokenClassifier(tokenizer).classify([3]))


def test_special_tokens_are_told_by_id_and_by_mark():
    """End of sequence, and added tokens that are special; other added tokens are text."""
    tokenizer = FakeTokenizer(
        ["<eos>", "<call>", "hello"],
        ["<eos>", "<call>", "hello"],
        all_special_ids=[0],
        added_tokens_decoder={1: Added(special=True), 2: Added(special=False)},
    )

    assert [TokenClass.SPECIAL, TokenClass.SPECIAL, TokenClass.WORD] == names(
        TokenClassifier(tokenizer).classify([0, 1, 2])
    )


def test_a_special_token_says_nothing_of_the_next():
    """A name stays a name after a mark that no reader sees."""
    tokenizer = FakeTokenizer(["Ġsee", "<x>", "ĠParis"], [" see", "", " Paris"], [1])

    assert [TokenClass.WORD, TokenClass.SPECIAL, TokenClass.NAME] == names(
        TokenClassifier(tokenizer).classify([0, 1, 2])
    )


def test_an_answer_begins_a_sentence():
    """The first word of an answer is no name, whatever was asked."""
    tokenizer = FakeTokenizer(["Paris"], ["Paris"])

    assert [TokenClass.WORD] == names(TokenClassifier(tokenizer).classify([0]))


def test_every_id_is_decoded_once():
    """Millions of tokens cost as many lookups, not as many decodings."""
    tokenizer = FakeTokenizer(["a", "b"], ["a", "b"])
    classifier = TokenClassifier(tokenizer)
    classifier.classify([0, 1, 0, 0, 1])
    classifier.classify([1, 0])

    assert [0, 1] == sorted(tokenizer.decoded)


def test_the_embedded_vocabulary_has_a_class_for_every_id():
    """No id of a real byte-level vocabulary is without one, broken bytes among them."""
    tokenizer = load_tokenizer(demo.TARGET, ModelOptions())
    ids = sorted(tokenizer.get_vocab().values())
    classes = TokenClassifier(tokenizer).classify(ids)

    assert len(ids) == len(classes)
    assert TokenClass.SPECIAL == names(classes)[ids.index(tokenizer.eos_token_id)]
    assert {"words", "digits", "code", "whitespace", "other scripts"} < set(names(classes))
