"""A draft's tokenizer beside the target's: the same, or which tokens they share."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from specmeasure.engines.spelling import TokenizerSpelling
from specmeasure.errors import TokenizerMismatch
from specmeasure.proposers.other_vocabulary import TwoVocabularies
from specmeasure.records.plan import Sampling
from specmeasure.records.trace import OtherVocabulary

LEAST_SHARED = 0.05  # of the smaller vocabulary, to draft among shared tokens


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ComparedVocabularies:
    """What is known of a pair whose tokenizers differ, before any weights are read."""

    draft_name: str
    target: TokenizerSpelling
    draft: TokenizerSpelling
    shared: dict[int, int]  # id of the draft → id of the target, none twice; ends among them
    pieces: tuple[bytes, ...]  # by id of the target, what it says to the draft
    ends: tuple[int, int] | None  # the end-of-sequence tokens of draft and target
    facts: OtherVocabulary

    def matches_text(self, sampling: Sampling) -> bool:
        """Whether drafts for such answers are matched by text; else they are shared tokens."""
        return sampling.is_greedy and self.facts.matches_text

    def refuse_strangers(self, sampling: Sampling) -> None:
        """Raise TokenizerMismatch where drafts would be shared tokens and there are hardly any."""
        facts = self.facts
        smaller = min(facts.num_target_tokens, facts.num_draft_tokens)
        if self.matches_text(sampling) or facts.num_shared_tokens >= LEAST_SHARED * smaller:
            return
        greedily = "decode greedily (--temperature 0), or " if facts.matches_text else ""
        raise TokenizerMismatch(
            f"draft {self.draft_name}: it has another tokenizer, and only "
            f"{facts.num_shared_tokens} of the target's {facts.num_target_tokens} tokens are also "
            f"among its {facts.num_draft_tokens}: too few to draft, {sampling}. To go on, "
            f"{greedily}use a draft with the target's tokenizer."
        )

    def said(self, sampling: Sampling) -> str:
        """One sentence for a reader of the brief."""
        facts = self.facts
        way = (
            "drafts are matched by text"
            if self.matches_text(sampling)
            else "drafts are among these"
        )
        kind = "greedy" if sampling.is_greedy else "sampled"
        return (
            f"Draft {self.draft_name} has another tokenizer: {facts.num_shared_tokens} of the "
            f"target's {facts.num_target_tokens} tokens are also its own; of {kind} answers, "
            f"{way}. Spelling text anew in its tokens is part of its drafting time."
        )


def said_of_replays(compared: ComparedVocabularies, sampling: Sampling) -> str | None:
    """What a reader of a replay should know beside ``said``; None: nothing."""
    if not compared.matches_text(sampling):
        return None
    return (
        f"Draft {compared.draft_name} is matched by text: replayed at the largest K. At a smaller "
        "one a block's last draft may be cut from its word elsewhere, so that its numbers are "
        "estimates."
    )


def compare_vocabularies(
    target_tokenizer: Any, draft_tokenizer: Any, draft_name: str
) -> ComparedVocabularies | None:
    """What the two share; None: token → id agrees throughout."""
    if target_tokenizer.get_vocab() == draft_tokenizer.get_vocab():
        return None
    target, draft = TokenizerSpelling(target_tokenizer), TokenizerSpelling(draft_tokenizer)
    shared = shared_tokens(draft, target)
    ends = _ends(draft_tokenizer, target_tokenizer)
    if ends is not None:
        shared[ends[0]] = ends[1]
    return ComparedVocabularies(
        draft_name=draft_name,
        target=target,
        draft=draft,
        shared=shared,
        pieces=_pieces(target, target_tokenizer, draft_tokenizer),
        ends=ends,
        facts=OtherVocabulary(
            num_draft_tokens=len(draft_tokenizer.get_vocab()),
            num_target_tokens=len(target_tokenizer.get_vocab()),
            num_shared_tokens=len(shared),
            matches_text=target.spells_exactly and draft.spells_exactly,
        ),
    )


@lru_cache(maxsize=16)  # asked for with every answer
def sized(compared: ComparedVocabularies, draft_size: int, target_size: int) -> TwoVocabularies:
    """The pair for models whose logits have so many columns."""
    shared = {
        own: other
        for own, other in compared.shared.items()
        if own < draft_size and other < target_size
    }
    texts = [id_ for id_, one in enumerate(compared.draft.token_bytes[:draft_size]) if one]
    draft_end, target_end = compared.ends or (None, None)
    if draft_end not in shared:
        draft_end = target_end = None
    return TwoVocabularies(
        target=compared.target,
        draft=compared.draft,
        pieces=compared.pieces,
        shared_draft_ids=tuple(shared),
        shared_target_ids=tuple(shared.values()),
        target_size=target_size,
        draft_ids=(*texts, *([] if draft_end is None else [draft_end])),
        draft_end=draft_end,
        target_end=target_end,
    )


def shared_tokens(draft: TokenizerSpelling, target: TokenizerSpelling) -> dict[int, int]:
    """Ids of the draft → ids of the target that spell the same bytes, none twice."""
    theirs = _id_of_bytes(target)
    return {
        id_: theirs[spelled] for spelled, id_ in _id_of_bytes(draft).items() if spelled in theirs
    }


def _id_of_bytes(spelling: TokenizerSpelling) -> dict[bytes, int]:
    """Of tokens that spell the same, the one that the tokenizer writes, or else the last.

    Sentencepiece has a byte token beside a letter's own; the letter's comes later.
    """
    found: dict[bytes, int] = {}
    for id_, spelled in enumerate(spelling.token_bytes):
        if not spelled:
            continue
        if spelled not in found or spelling.after(spelled.decode(errors="replace")) != [
            found[spelled]
        ]:
            found[spelled] = id_
    return found


def _ends(draft_tokenizer: Any, target_tokenizer: Any) -> tuple[int, int] | None:
    draft, target = draft_tokenizer.eos_token_id, target_tokenizer.eos_token_id
    return None if draft is None or target is None else (int(draft), int(target))


def _pieces(
    target: TokenizerSpelling, target_tokenizer: Any, draft_tokenizer: Any
) -> tuple[bytes, ...]:
    """What each id of the target says to the draft.

    The target's BOS says nothing: the draft's own stands before every text. Its EOS is the draft's.
    Other special tokens are written out, and are the draft's own where it has the same.
    """
    written: dict[int, str] = {
        id_: str(target_tokenizer.convert_ids_to_tokens(id_)) for id_ in target.special_ids
    }
    if target_tokenizer.eos_token_id is not None:
        written[target_tokenizer.eos_token_id] = draft_tokenizer.eos_token or ""
    if target_tokenizer.bos_token_id is not None:
        written[target_tokenizer.bos_token_id] = ""
    return tuple(
        written[id_].encode() if id_ in written else spelled or b""
        for id_, spelled in enumerate(target.token_bytes)
    )
