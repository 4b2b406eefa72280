"""The tree that a block drafted, and what the target kept of it.

A block's record holds its nodes' ids in the tree's order; the shape is the arm's.
"""

from specmeasure.records.trace import BlockRecord
from specmeasure.records.tree import TokenTree


def drafted_tree(block: BlockRecord, tree: TokenTree | None) -> TokenTree | None:
    """The part of a tree that a block drafted; None: a chain, or nothing.

    Raises:
        ValueError: the block drafted a tree of another shape.
    """
    if not block.draft_depth:
        return None
    cut = tree.down_to(block.draft_depth) if tree else None
    if cut is None or cut.num_nodes != block.num_draft_tokens:
        raise ValueError(
            f"a block drafted {block.num_draft_tokens} nodes {block.draft_depth} deep, not this "
            "arm's tree"
        )
    return cut


def kept_nodes(block: BlockRecord, drafted: TokenTree) -> tuple[int, ...]:
    """The nodes of its tree that a block kept.

    Raises:
        ValueError: the block does not hold its ids, or what it kept is no path.
    """
    if block.draft_ids is None or block.emitted_ids is None:
        raise ValueError("the blocks hold no draft ids")
    return drafted.path_along(block.draft_ids, block.emitted_ids[: block.num_accepted_tokens])


def turned_down(block: BlockRecord, tree: TokenTree | None) -> tuple[int, ...] | None:
    """Drafts that the target judged for its own token's place; a tree's siblings in their order.

    Empty where there were none: a bonus token, an answer's end, or a pass without drafts. None:
    not known, for the block does not hold its ids, or the tree is not given.
    """
    if block.truncated or block.num_accepted_tokens == block.most_accepted:
        return ()
    if block.draft_ids is None:
        return None
    if block.draft_depth is None:
        return block.draft_ids[block.num_accepted_tokens :][:1]
    if tree is None or block.emitted_ids is None:
        return None
    drafted = drafted_tree(block, tree)
    if drafted is None:
        return ()
    last = (-1, *kept_nodes(block, drafted))[-1]
    return tuple(block.draft_ids[child] for child in drafted.children(last))
