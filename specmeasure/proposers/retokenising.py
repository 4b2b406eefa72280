"""What a draft with another tokenizer reads of the target's tokens: their text, in its own tokens.

Nothing here knows how a tokenizer works. It is told by ``Spelling``, and what it says is compared
with the bytes that its tokens stand for.
"""

import codecs
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from specmeasure.speculate.proposal import CachedModel

WINDOW_BYTES = 64  # at the end of a text, spelled again when it grows; the rest stays
_MOST_WINDOW_BYTES = 4 * WINDOW_BYTES  # a text without spaces is spelled again as a whole
_MOST_CHANGED = 2 * WINDOW_BYTES  # ids at the end that are compared one by one
_SPACE = b" "


class Spelling(Protocol):
    """One tokenizer: ids of a text, and the bytes of each id."""

    @property
    def token_bytes(self) -> Sequence[bytes | None]:
        """By id, as in the middle of a text; None: a special token, or nothing is known of it."""

    @property
    def beginning(self) -> tuple[int, ...]:
        """Ids that stand before every text."""

    @property
    def drops_first_space(self) -> bool:
        """Whether a space that its first token spells is none of the text."""

    def at_start(self, text: str) -> list[int]:
        """Ids of a text, ``beginning`` left out."""

    def after(self, text: str) -> list[int] | None:
        """Ids of a text in the middle of another; None: no ids spell exactly this."""


class DraftContext:
    """A text that grows by the target's tokens, in the draft's.

    Equal to spelling the whole text anew each time, at the cost of its last ``WINDOW_BYTES``: what
    lies further back is kept where the window's first half comes out as before.

    Args:
        draft: the tokenizer that spells.
        pieces: by id of the target, what it says to the draft.
        drops_first_space: the target's first token spells a space that is none of the text.
    """

    def __init__(
        self, draft: Spelling, pieces: Sequence[bytes], *, drops_first_space: bool
    ) -> None:
        self.ids: list[int] = []  # as of the last ``respell``
        self._draft = draft
        self._pieces = pieces
        self._drops_first_space = drops_first_space
        self.begin([])

    def begin(self, target_ids: Sequence[int]) -> None:
        """Start another text."""
        self.ids = []
        self._text = bytearray()  # whole characters; what is no UTF-8 is replaced
        self._num_spelled = 0  # bytes of it that ``ids`` spell
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.extend(target_ids)

    def extend(self, target_ids: Sequence[int]) -> None:
        """Add what the target emitted."""
        for token in target_ids:
            piece = self._pieces[token]
            if not self._text and self._drops_first_space:
                piece = piece.removeprefix(_SPACE)
            self._text += self._decoder.decode(piece).encode()

    @property
    def is_whole(self) -> bool:
        """Whether the text ends with a whole character."""
        return not self._decoder.getstate()[0]

    @property
    def is_empty(self) -> bool:
        return not self._text

    def respell(self) -> None:
        """Bring ``ids`` up to date."""
        if not self._respell_end():
            self.ids = [*self._draft.beginning, *self._draft.at_start(self._text.decode())]
        self._num_spelled = len(self._text)

    def _respell_end(self) -> bool:
        """Whether it was enough to spell the end again."""
        place = self._window_start()
        if place is None:
            return False
        lengths = [len(self._draft.token_bytes[token] or b"") for token in self.ids[place:]]
        start = self._num_spelled - sum(lengths)
        found = self._draft.after(self._text[start:].decode())
        num_sure = sum(sum(lengths[: i + 1]) <= sum(lengths) / 2 for i in range(len(lengths)))
        if found is None or found[:num_sure] != self.ids[place : place + num_sure]:
            return False
        self.ids[place:] = found
        return True

    def _window_start(self) -> int | None:
        """The place in ``ids`` of a word's first token, ``WINDOW_BYTES`` or more before the end."""
        start = self._num_spelled
        for place in range(len(self.ids) - 1, -1, -1):
            spelled = self._draft.token_bytes[self.ids[place]]
            size = len(spelled or b"")
            if spelled is None or start < size or self._text[start - size : start] != spelled:
                return None
            start -= size
            window = self._num_spelled - start
            if window > _MOST_WINDOW_BYTES:
                return None
            if window >= WINDOW_BYTES and _starts_word(spelled):
                return place if start else None
        return None


class KeptModel:
    """A draft model that follows ids whose end may change: only what changed is read again.

    Args:
        model: the draft.
        forgets_any: its cache can drop tokens that it settled long ago, too.
        device: where ids go.
    """

    def __init__(self, model: CachedModel, *, forgets_any: bool, device: torch.device) -> None:
        self._model = model
        self._forgets_any = forgets_any
        self._device = device
        self._read: list[int] = []
        self._num_settled = 0

    def begin(self, ids: Sequence[int]) -> None:
        """Read all but the last of them, which the next ones may change."""
        self._model.reset(rolls_back=True)
        self._read = list(ids[:-1])
        self._num_settled = len(self._read)
        if self._read:
            self._model.prefill(self._read)

    def follow(self, ids: list[int]) -> Tensor:
        """Logits [1, V] after ids, of which there is at least one."""
        same = _num_common(self._read, ids[:-1])
        if not same or (same < self._num_settled and not self._forgets_any):
            self._model.reset(rolls_back=True)
            logits = self._model.prefill(list(ids))
            self._num_settled = len(ids)
        else:
            self._model.rollback(len(self._read) - same)
            self._num_settled = same
            logits = self._model.forward(torch.tensor(ids[same:], device=self._device))[-1:]
        self._read = list(ids)
        return logits

    def step(self, token: Tensor) -> Tensor:
        """Logits [1, V] after one draft [1] more; tell ``drafted`` of it."""
        return self._model.forward(token)[-1:]

    def drafted(self, ids: Sequence[int]) -> None:
        """What ``step`` read since ``follow``."""
        self._read += ids


def _num_common(ids: list[int], others: list[int]) -> int:
    """How many are equal from the start."""
    shorter = min(len(ids), len(others))
    place = max(0, shorter - _MOST_CHANGED)
    if ids[:place] != others[:place]:  # quicker than one by one, and seldom true
        place = 0
    while place < shorter and ids[place] == others[place]:
        place += 1
    return place


def _starts_word(spelled: bytes) -> bool:
    return spelled.startswith(_SPACE) and spelled[1:2] not in (_SPACE, b"")
