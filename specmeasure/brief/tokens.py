"""Answers token by token, for a viewer: what was drafted, what was kept, and how likely it was.

Needs a trace that kept ids. Chooses a few trials of every category, so that a page stays small.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, zip_longest

from specmeasure.brief.names import plain
from specmeasure.records.drafted import turned_down
from specmeasure.records.trace import BlockRecord, TokenProbs, Trace, TrialRecord
from specmeasure.records.tree import TokenTree

Detokenise = Callable[[Sequence[int]], str]

MOST_TRIALS = 60
MOST_TOKENS = 15_000  # with their chances about 30 bytes each on the page
_CONTEXT = 8  # tokens before one that its text may depend on: spaces, parts of a character
_MOST_PROMPT = 2_000  # characters, the last of them
_MOST_TEXT = 60  # characters of one token
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Kind(StrEnum):
    """Where an emitted token comes from."""

    ACCEPTED = "accepted"  # a draft that was kept
    RECOVERED = "recovered"  # the target's, in place of the first rejected draft or siblings
    BONUS = "bonus"  # the target's, after a block whose drafts were all kept, or a leaf of a tree
    PLAIN = "plain"  # the target's, in a pass without drafts


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownToken:
    """One emitted token."""

    text: str  # empty where only a later token completes the character
    kind: Kind
    target_chance: float | None  # None: not known
    draft_chance: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTree:
    """The size of a block's tree of drafts."""

    num_nodes: int
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownBlock:
    """One target pass."""

    tokens: tuple[ShownToken, ...]
    rejected: tuple[str, ...]  # drafts that were not kept; the target judged only the first
    rejected_target_chance: float | None  # of the first
    rejected_draft_chance: float | None
    tree: ShownTree | None = None  # None: a chain; else the rejected are siblings, all judged


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTrial:
    """One answer of one arm."""

    prompt_id: str
    turn: int  # from 1
    repeat: int
    arm: str
    category: str
    prompt: str | None  # its end; None: not kept
    blocks: tuple[ShownBlock, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTrials:
    """What a viewer offers."""

    trials: tuple[ShownTrial, ...]
    num_left_out: int  # of the speculative arms' answers
    has_text: bool  # False: ids stand for text


def show_trials(
    trace: Trace, detokenise: Detokenise | None, *, most_tokens: int = MOST_TOKENS
) -> ShownTrials | None:
    """The first answers of every category, each with all speculative arms.

    Args:
        trace: a run.
        detokenise: turns ids into text; None shows the ids themselves.
        most_tokens: emitted and drafted ones, over all answers that are shown.

    Returns:
        None where the trace kept no ids.
    """
    if not trace.manifest.plan.include_text:
        return None
    trees = {arm.name: arm.tree for arm in trace.manifest.plan.speculative_arms}
    kept = [t for t in trace.trials if t.key.arm in trees and _is_kept(t)]
    if not kept:
        return None
    chosen: list[TrialRecord] = []
    num_tokens = 0
    for trial in _in_turn(kept):
        size = sum(1 + block.num_emitted_tokens + block.num_draft_tokens for block in trial.blocks)
        if len(chosen) < MOST_TRIALS and num_tokens + size <= most_tokens:
            chosen.append(trial)
            num_tokens += size
    return ShownTrials(
        trials=tuple(
            _show(trial, trees[trial.key.arm], detokenise or _spell_ids) for trial in chosen
        ),
        num_left_out=len(kept) - len(chosen),
        has_text=detokenise is not None,
    )


def _is_kept(trial: TrialRecord) -> bool:
    return bool(trial.blocks) and all(
        block.emitted_ids is not None and block.draft_ids is not None for block in trial.blocks
    )


def _in_turn(trials: Sequence[TrialRecord]) -> Iterator[TrialRecord]:
    """A prompt of each category, then the next of each; all arms of a prompt together."""
    by_prompt: dict[tuple[str, str, int, int], list[TrialRecord]] = defaultdict(list)
    for trial in trials:
        key = trial.key
        by_prompt[trial.category, key.prompt_id, key.turn, key.repeat].append(trial)
    by_category: dict[str, list[list[TrialRecord]]] = defaultdict(list)
    for (category, *_), group in by_prompt.items():
        by_category[category].append(group)
    for groups in zip_longest(*by_category.values(), fillvalue=[]):
        yield from chain.from_iterable(groups)


def _show(trial: TrialRecord, tree: TokenTree | None, detokenise: Detokenise) -> ShownTrial:
    probs = trial.checks.token_probs if trial.checks else None
    before, place = list(trial.prompt_ids or ()), 0
    blocks = []
    for index, block in enumerate(trial.blocks):
        emitted, num_kept = block.emitted_ids or (), block.num_accepted_tokens
        texts = _pieces(before, emitted, detokenise)
        blocks.append(
            ShownBlock(
                tokens=tuple(
                    ShownToken(
                        text=text,
                        kind=_kind(block, at, tree),
                        target_chance=probs.target[place + at] if probs else None,
                        draft_chance=probs.draft[place + at] if probs and probs.draft else None,
                    )
                    for at, text in enumerate(texts)
                ),
                rejected=_rejected([*before, *emitted[:num_kept]], block, tree, detokenise),
                rejected_target_chance=_of_block(probs, index, "rejected_target"),
                rejected_draft_chance=_of_block(probs, index, "rejected_draft"),
                tree=_size(block),
            )
        )
        before += emitted
        place += len(emitted)
    key = trial.key
    return ShownTrial(
        prompt_id=plain(key.prompt_id),
        turn=key.turn + 1,
        repeat=key.repeat,
        arm=plain(key.arm),
        category=plain(trial.category),
        prompt=_end_of(trial.prompt_ids, detokenise),
        blocks=tuple(blocks),
    )


def _kind(block: BlockRecord, place: int, tree: TokenTree | None) -> Kind:
    if place < block.num_accepted_tokens:
        return Kind.ACCEPTED
    if not block.num_draft_tokens:
        return Kind.PLAIN
    return Kind.RECOVERED if turned_down(block, tree) else Kind.BONUS


def _rejected(
    before: Sequence[int], block: BlockRecord, tree: TokenTree | None, detokenise: Detokenise
) -> tuple[str, ...]:
    """Of a chain all drafts that were not kept, each after the others; of a tree the siblings."""
    if block.draft_depth is None:
        left = (block.draft_ids or ())[block.num_accepted_tokens :]
        return _pieces(before, left, detokenise)
    siblings = turned_down(block, tree) or ()
    return tuple(piece for one in siblings for piece in _pieces(before, (one,), detokenise))


def _size(block: BlockRecord) -> ShownTree | None:
    if block.draft_depth is None:
        return None
    return ShownTree(num_nodes=block.num_draft_tokens, depth=block.draft_depth)


def _of_block(probs: TokenProbs | None, index: int, name: str) -> float | None:
    chances: tuple[float | None, ...] = getattr(probs, name) if probs else ()
    return chances[index] if index < len(chances) else None


def _end_of(prompt_ids: Sequence[int] | None, detokenise: Detokenise) -> str | None:
    if not prompt_ids:
        return None
    text = visible(detokenise(prompt_ids))
    return text if len(text) <= _MOST_PROMPT else f"… {text[-_MOST_PROMPT:]}"


def _pieces(before: Sequence[int], ids: Sequence[int], detokenise: Detokenise) -> tuple[str, ...]:
    """What each id adds to the text; half a character is added by its other half."""
    known = [*before[-_CONTEXT:], *ids]
    first = len(known) - len(ids)
    pieces = []
    for end in range(first, len(known)):
        start = max(0, end - _CONTEXT)
        shown = detokenise(known[start:end]).rstrip(_REPLACEMENT) if end > start else ""
        added = detokenise(known[start : end + 1])[len(shown) :].rstrip(_REPLACEMENT)
        pieces.append(visible(added)[:_MOST_TEXT])
    return tuple(pieces)


def visible(text: str) -> str:
    """Text without control characters; line breaks and tabs stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else "·" for char in text)


def _spell_ids(ids: Sequence[int]) -> str:
    return "".join(f"{token} " for token in ids)
