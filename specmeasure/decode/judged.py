"""Which drafts stood at which place of a finished answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specmeasure.records.drafted import drafted_tree, kept_nodes
from specmeasure.records.trace import BlockRecord
from specmeasure.records.tree import TokenTree


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The drafts for one emitted token's place."""

    drafts: tuple[int, ...]  # in the order in which they are tried; empty: there were none
    block_start: int  # place in the answer of the block's first token
    num_before: int  # drafts of the block that were kept before this place


def judged_drafts(blocks: Sequence[BlockRecord], tree: TokenTree | None = None) -> list[Judged]:
    """By emitted token: the drafts that the target judged for its place, of a tree all siblings.

    The prefill's token and bonus tokens had none. A recovered token stands where all were rejected.
    Which drafts stand at a place is settled before its token is drawn.

    Args:
        blocks: of one answer.
        tree: the whole tree, of blocks that drafted one; a budget cuts it to a depth.

    Raises:
        ValueError: the blocks do not hold their ids, or drafted trees of another shape.
    """
    found: list[Judged] = []
    for block in blocks:
        start = len(found)
        siblings = list(_siblings(block, tree))
        found += [
            Judged(drafts=drafts, block_start=start, num_before=place)
            for place, drafts in enumerate(siblings[: block.num_emitted_tokens])
        ]
    return found


def first_rejected(blocks: Sequence[BlockRecord], judged: Sequence[Judged]) -> list[int | None]:
    """By block: the place in the answer where all drafts were rejected; None where none were."""
    found: list[int | None] = []
    start = 0
    for block in blocks:
        place = start + block.num_accepted_tokens
        is_rejected = not block.truncated and bool(judged[place].drafts)
        found.append(place if is_rejected else None)
        start += block.num_emitted_tokens
    return found


def _siblings(block: BlockRecord, tree: TokenTree | None) -> Iterator[tuple[int, ...]]:
    """The drafts for each place of a block, also for those behind its end."""
    if block.draft_ids is None:
        raise ValueError("the blocks hold no draft ids")
    drafted = drafted_tree(block, tree)
    if drafted is None:
        yield from ((draft,) for draft in block.draft_ids)
    else:
        for node in (-1, *kept_nodes(block, drafted)):
            yield tuple(block.draft_ids[child] for child in drafted.children(node))
    yield ()  # the bonus token's
