"""What the tokens of a tokenizer spell, and how it spells a text in the middle of another.

Byte-level BPE, sentencepiece's space marks, byte tokens and added tokens are not told apart: a
token is decoded behind another, and what comes out is compared.
"""

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

ANCHORS = ("\n", "a", ".", "=")  # texts to spell another one behind
BROKEN = "\N{REPLACEMENT CHARACTER}"  # some bytes of a character
SAMPLE = "The cat sat on a mat; 12 dogs ran, didn't they?"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenizerSpelling:
    """``Spelling`` of a transformers tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.special_ids = frozenset(tokenizer.all_special_ids) | frozenset(
            id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special
        )

    @cached_property
    def token_bytes(self) -> tuple[bytes | None, ...]:
        """By id, as in the middle of a text; None: a special token, or nothing is known of it."""
        pieces = {id_: piece for piece, id_ in self._tokenizer.get_vocab().items()}
        anchor = self._ids("a")[-1:]
        before = self._text(anchor)
        ids = sorted(pieces.keys() - self.special_ids)
        texts = self._tokenizer.batch_decode(
            [[*anchor, id_] for id_ in ids], clean_up_tokenization_spaces=False
        )
        found: list[bytes | None] = [None] * (max(pieces) + 1)
        for id_, text in zip(ids, texts, strict=True):
            if text.startswith(before):
                found[id_] = _bytes_of(text.removeprefix(before), pieces[id_])
        return tuple(found)

    @cached_property
    def beginning(self) -> tuple[int, ...]:
        """Ids that stand before every text."""
        whole, bare = list(self._tokenizer("a")["input_ids"]), self._ids("a")
        for place in range(len(whole) - len(bare) + 1):
            if whole[place : place + len(bare)] == bare:
                return tuple(whole[:place])
        return ()

    @cached_property
    def drops_first_space(self) -> bool:
        """Whether a space that its first token spells is none of the text."""
        ids = self._ids("a")
        spelled = self.token_bytes[ids[0]] if ids else None
        return spelled is not None and spelled[:1] == b" " and self._text(ids)[:1] != " "

    @cached_property
    def spells_exactly(self) -> bool:
        """Whether what it makes of a text says the same text: no case or character is lost."""
        first, *others = SAMPLE.split(" ")
        start = self._said(self.at_start(SAMPLE))
        is_whole = start is not None and start.decode().removeprefix(" ") == SAMPLE
        return is_whole and None not in [self.after(text) for text in (first, f" {others[0]}")]

    def at_start(self, text: str) -> list[int]:
        """Ids of a text, ``beginning`` left out."""
        return self._ids(text)

    def after(self, text: str) -> list[int] | None:
        """Ids of a text in the middle of another; None: no ids spell exactly this."""
        wanted = text.encode()
        return next((ids for ids in self._ways(text) if self._said(ids) == wanted), None)

    def _ways(self, text: str) -> Iterator[list[int]]:
        """Ids that may spell a text: some tokenizers put a space before whatever they are given."""
        yield self._ids(text)
        if text.startswith(" "):
            yield self._ids(text[1:])
        for anchor in ANCHORS:
            before, whole = self._ids(anchor), self._ids(anchor + text)
            if whole[: len(before)] == before:
                yield whole[len(before) :]

    def _said(self, ids: list[int]) -> bytes | None:
        spelled = [self.token_bytes[id_] for id_ in ids]
        known = [one for one in spelled if one is not None]
        return b"".join(known) if len(known) == len(spelled) else None

    def _ids(self, text: str) -> list[int]:
        if self._tokenizer.is_fast:  # past the wrapper, which costs more than the work
            backend = self._tokenizer.backend_tokenizer
            return list(backend.encode(text, add_special_tokens=False).ids)
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _text(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def _bytes_of(text: str, piece: str) -> bytes | None:
    """The bytes of a token that decodes to ``text``; of a broken character, as its piece says."""
    if BROKEN not in text:
        return text.encode()
    byte = _BYTE_TOKEN.fullmatch(piece)
    if byte is not None:
        return bytes([int(byte[1], 16)])
    if not set(piece) <= _BYTE_OF.keys():
        return None
    spelled = bytes(_BYTE_OF[char] for char in piece)
    return spelled if spelled.decode(errors="replace") == text else None


def _byte_level_alphabet() -> dict[str, int]:
    """Character → byte of byte-level BPE (Radford et al. 2019, GPT-2): what prints is itself."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printed]
    alphabet = {chr(byte): byte for byte in printed}
    return alphabet | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_level_alphabet()
