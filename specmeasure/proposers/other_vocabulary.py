"""A draft model with another tokenizer: by the tokens that both know, or by its text.

Timor et al. 2025 (arXiv:2502.05202): token-level intersection (Algorithm 4) keeps any target's
distribution; string-level exact match (Algorithm 2) is for greedy targets and drafts with the whole
of its own vocabulary. After a token that ends inside a character neither drafts.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from specmeasure.proposers.draft_model import Drafted, marked, next_draft
from specmeasure.proposers.retokenising import DraftContext, KeptModel, Spelling
from specmeasure.records.plan import GREEDY, DraftSampling, Sampling
from specmeasure.speculate.proposal import CachedModel, Proposal
from specmeasure.speculate.sampling import NOT_A_TOKEN, greedy_tokens

LOOK_BEHIND = 16  # emitted tokens that are spelled again together with what was drafted
_MOST_STEPS = 4  # of a draft whose tokens are short, for each draft that is wanted
_FIRST_GUESS = 4.0  # bytes of a token, before any was seen


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoVocabularies:
    """How the tokens of a draft and a target stand to each other.

    ``shared_draft_ids`` and ``shared_target_ids`` are the same tokens, pair by pair, none twice.
    """

    target: Spelling
    draft: Spelling
    pieces: Sequence[bytes]  # by id of the target, what it says to the draft
    shared_draft_ids: tuple[int, ...]
    shared_target_ids: tuple[int, ...]
    target_size: int  # columns of the target's logits
    draft_ids: tuple[int, ...]  # what the draft may say: tokens with text, and the end
    draft_end: int | None  # both end-of-sequence tokens, or neither
    target_end: int | None

    def new_context(self) -> DraftContext:
        """For what the target emits, as the draft reads it."""
        return DraftContext(
            self.draft, self.pieces, drops_first_space=self.target.drops_first_space
        )


class SharedTokensProposer:
    """Drafts tokens that the target knows as well, sampled as the target samples, or greedy.

    The draft's law is that of its logits over the shared tokens, after temperature, top-k and
    top-p; other tokens of the target have no chance in it.

    Args:
        draft_model: of ``vocabularies.draft``.
        vocabularies: its tokens and the target's.
        sampling: the target's; its drafts' unless ``draft_sampling`` says greedy.
        draft_sampling: see ``DraftSampling``.
        longest: tokens that the draft model holds; it drafts nothing beyond. None: any number.
        forgets_any: see ``KeptModel``.
        generator: on ``device``.
        device: where ids and probabilities go.
    """

    def __init__(  # noqa: PLR0913 - a draft model's arguments and what its context needs
        self,
        draft_model: CachedModel,
        vocabularies: TwoVocabularies,
        sampling: Sampling,
        *,
        draft_sampling: DraftSampling = DraftSampling.PROBABILISTIC,
        longest: int | None = None,
        forgets_any: bool = False,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self._model = KeptModel(draft_model, forgets_any=forgets_any, device=device)
        self._context = vocabularies.new_context()
        self._sampling = sampling if draft_sampling is DraftSampling.PROBABILISTIC else GREEDY
        self._longest = longest
        self._generator = generator
        self._draft_ids = torch.tensor(vocabularies.shared_draft_ids, device=device)  # [S]
        self._target_ids = torch.tensor(vocabularies.shared_target_ids, device=device)  # [S]
        self._target_size = vocabularies.target_size
        self._drafts = torch.empty(0, dtype=torch.int64, device=device)
        self._steps: list[Tensor] = []  # drafts that were read, in the draft's ids, each [1]

    def begin(self, prompt_ids: Sequence[int]) -> None:
        """Read the prompt's text."""
        self._context.begin(prompt_ids)
        self._context.respell()
        fits = self._longest is None or len(self._context.ids) <= self._longest
        self._model.begin(self._context.ids if fits else [])
        self._drafts, self._steps = self._drafts[:0], []

    def propose(self, num_tokens: int) -> Proposal:
        """``num_tokens`` shared tokens, with their laws [N, V] when sampled; maybe nothing."""
        logits = self._logits(num_tokens)
        if logits is None:
            return Proposal(tokens=self._drafts)
        drafts: list[Drafted] = []  # among the shared tokens
        for num_left in reversed(range(num_tokens)):
            shared = logits.index_select(-1, self._draft_ids)
            drafts.append(next_draft(shared, self._sampling, generator=self._generator))
            if num_left:
                self._steps.append(self._draft_ids[drafts[-1].token])
                logits = self._model.step(self._steps[-1])
        places = marked(drafts)
        laws = [one.probs for one in drafts if one.probs is not None]  # each [1, S]
        whole = self._target_ids[places.clamp_min(0)]
        self._drafts = whole.masked_fill(places == NOT_A_TOKEN, NOT_A_TOKEN)
        return Proposal(tokens=self._drafts, probs=self._scattered(laws) if laws else None)

    def commit(self, num_accepted: int, next_token: int) -> None:
        """Take over what was emitted; what was read in vain is forgotten when drafting again."""
        if self._steps:
            self._model.drafted(torch.cat(self._steps).tolist())
            self._steps = []
        self._context.extend([*self._drafts[:num_accepted].tolist(), next_token])
        self._drafts = self._drafts[:0]

    def _logits(self, num_tokens: int) -> Tensor | None:
        """After the committed text; None: nothing is drafted here."""
        if not num_tokens or not self._context.is_whole:
            return None
        return _read_context(self._context, self._model, num_tokens, self._longest)

    def _scattered(self, laws: Sequence[Tensor]) -> Tensor:
        """Laws over the target's tokens: [N, V]."""
        among_shared = torch.cat(list(laws))
        whole = among_shared.new_zeros(len(laws), self._target_size)
        return whole.index_copy(-1, self._target_ids, among_shared)


class TextMatchProposer:
    """Greedy drafts in the draft's own tokens, their text spelled in the target's.

    It drafts until there are as many bytes as that many tokens of the target have had so far on
    average. The last of them may be cut otherwise where more is drafted.

    Args:
        draft_model: of ``vocabularies.draft``.
        vocabularies: its tokens and the target's.
        longest: tokens that the draft model holds; it drafts nothing beyond. None: any number.
        forgets_any: see ``KeptModel``.
        device: where ids go.
    """

    def __init__(
        self,
        draft_model: CachedModel,
        vocabularies: TwoVocabularies,
        *,
        longest: int | None = None,
        forgets_any: bool = False,
        device: torch.device,
    ) -> None:
        self._vocabularies = vocabularies
        self._model = KeptModel(draft_model, forgets_any=forgets_any, device=device)
        self._context = vocabularies.new_context()
        self._longest = longest
        self._device = device
        self._draft_ids = torch.tensor(vocabularies.draft_ids, device=device)
        self._recent = deque[int](maxlen=LOOK_BEHIND)  # the target's
        self._num_bytes = self._num_tokens = 0  # of tokens with text that were committed
        self._drafts: list[int] = []

    def begin(self, prompt_ids: Sequence[int]) -> None:
        """Read the prompt's text."""
        self._context.begin([])
        self._recent.clear()
        self._num_bytes = self._num_tokens = 0
        self._drafts = []
        self._commit(prompt_ids)
        self._context.respell()
        fits = self._longest is None or len(self._context.ids) <= self._longest
        self._model.begin(self._context.ids if fits else [])

    def propose(self, num_tokens: int) -> Proposal:
        """At most ``num_tokens`` point masses; maybe nothing."""
        self._drafts = self._drafted(num_tokens)[:num_tokens]
        return Proposal(tokens=torch.tensor(self._drafts, dtype=torch.int64, device=self._device))

    def commit(self, num_accepted: int, next_token: int) -> None:
        """Take over what was emitted."""
        self._commit([*self._drafts[:num_accepted], next_token])
        self._drafts = []

    def _commit(self, target_ids: Sequence[int]) -> None:
        self._context.extend(target_ids)
        self._recent.extend(target_ids)
        for token in target_ids:
            spelled = self._vocabularies.target.token_bytes[token]
            if spelled is not None:
                self._num_bytes += len(spelled)
                self._num_tokens += 1

    def _drafted(self, num_tokens: int) -> list[int]:
        if not num_tokens or not self._context.is_whole:
            return []
        most = _MOST_STEPS * num_tokens
        logits = _read_context(self._context, self._model, most, self._longest)
        if logits is None:
            return []
        wanted = num_tokens * self._bytes_per_token
        said, own = b"", list[int]()
        while len(own) < most and len(said) < wanted:
            if own:
                logits = self._model.step(torch.tensor(own[-1:], device=self._device))
                self._model.drafted(own[-1:])
            place = int(greedy_tokens(logits.index_select(-1, self._draft_ids)))
            if place == NOT_A_TOKEN:
                return [NOT_A_TOKEN]
            own.append(self._vocabularies.draft_ids[place])
            if own[-1] == self._vocabularies.draft_end:
                break
            said += self._vocabularies.draft.token_bytes[own[-1]] or b""
        return self._known(self._in_target_ids(_whole_characters(said), own[-1]))

    @property
    def _bytes_per_token(self) -> float:
        """Of the target's tokens so far."""
        return max(1, self._num_bytes) / self._num_tokens if self._num_tokens else _FIRST_GUESS

    def _in_target_ids(self, text: str, last: int) -> list[int]:
        """What was drafted, as the target would write it; the end, if that was drafted last."""
        if self._context.is_empty and self._vocabularies.draft.drops_first_space:
            text = text.removeprefix(" ")
        ids = self._respelled(text) if text else []
        end = self._vocabularies.target_end
        if last == self._vocabularies.draft_end and end is not None:
            return [*ids, end]
        return ids

    def _respelled(self, text: str) -> list[int]:
        """Drafted text after what was emitted.

        Spelled with the last word that was, if that comes out as it is; by itself where its
        beginning would have merged with the word's end.
        """
        target, before = self._vocabularies.target, b""
        if self._context.is_empty:
            return target.at_start(text)
        for place in range(len(self._recent) - 1, -1, -1):
            spelled = target.token_bytes[self._recent[place]]
            if spelled is None:
                break
            before = spelled + before
            if spelled.startswith(b" "):
                kept = list(self._recent)[place:]
                found = target.after(before.decode(errors="replace") + text) or []
                if found[: len(kept)] == kept:
                    return found[len(kept) :]
                break
        return target.after(text) or []

    def _known(self, ids: Sequence[int]) -> list[int]:
        """Up to the first id that the target's head does not know."""
        size = self._vocabularies.target_size
        unknown = [place for place, token in enumerate(ids) if token >= size]
        return list(ids[: unknown[0]] if unknown else ids)


def _read_context(
    context: DraftContext, model: KeptModel, num_steps: int, longest: int | None
) -> Tensor | None:
    """Logits [1, V] after the text; None: it is empty, or longer than the model holds."""
    context.respell()
    if not context.ids or (longest is not None and len(context.ids) + num_steps > longest):
        return None
    return model.follow(context.ids)


def _whole_characters(spelled: bytes) -> str:
    """Up to the first byte that is no character's, or begins one that does not end."""
    try:
        return spelled.decode()
    except UnicodeDecodeError as error:
        return spelled[: error.start].decode()
