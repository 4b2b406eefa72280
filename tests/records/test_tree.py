import pytest
from hypothesis import given
from hypothesis import strategies as st

from specmeasure.records.drafted import drafted_tree, kept_nodes, turned_down
from specmeasure.records.tree import TokenTree
from tests.fakes import make_block

TREE = TokenTree.of([(0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (0, 0, 0)])
DRAFTS = (11, 12, 13, 21, 22, 23, 31)


@st.composite
def any_tree(draw) -> TokenTree:
    """Grown node by node."""
    paths: list[tuple[int, ...]] = [(0,)]
    for _ in range(draw(st.integers(0, 12))):
        parent = draw(st.sampled_from([(), *paths]))
        paths.append((*parent, sum(path[:-1] == parent for path in paths)))
    return TokenTree.of(paths)


@given(any_tree())
def test_parents_stand_before_their_children(tree: TokenTree):
    """And siblings in the order of their ranks, so that the first is tried first."""
    for place, (path, parent) in enumerate(zip(tree.paths, tree.parents, strict=True)):
        assert parent < place
        assert (tree.paths[parent] if parent >= 0 else ()) == path[:-1]
    for node in range(-1, tree.num_nodes):
        assert list(range(len(tree.children(node)))) == [
            tree.paths[child][-1] for child in tree.children(node)
        ]


@given(any_tree(), st.integers(0, 5))
def test_a_cut_tree_is_the_beginning_of_the_tree(tree: TokenTree, depth: int):
    """Nodes down to a depth stand where they stood, with the parents that they had."""
    cut = tree.down_to(depth)
    num_nodes = cut.num_nodes if cut else 0

    assert tree.paths[:num_nodes] == (cut.paths if cut else ())
    assert tree.parents[:num_nodes] == (cut.parents if cut else ())
    assert min(depth, tree.depth) == (cut.depth if cut else 0)


@given(any_tree(), st.data())
def test_a_path_is_found_by_its_tokens(tree: TokenTree, data):
    """Siblings with different tokens: the kept tokens lead to the nodes that held them."""
    draft_ids = [7 * path[-1] + len(path) for path in tree.paths]
    node = data.draw(st.integers(-1, tree.num_nodes - 1))
    path: list[int] = []
    while node >= 0:
        path.insert(0, node)
        node = tree.parents[node]

    assert tuple(path) == tree.path_along(draft_ids, [draft_ids[one] for one in path])


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ((), "at least one node"),
        (((0, 0),), "no parent"),
        (((1,),), "without its likelier"),
        (((0,), (0,)), "once each"),
        (((0,), (0, 0), (1,)), "by depth"),
        (((-1,),), "no path of ranks"),
        (((),), "no path of ranks"),
    ],
)
def test_what_is_no_tree_is_refused(paths, message):
    """With what is wrong about it."""
    with pytest.raises(ValueError, match=message):
        TokenTree(paths=paths)


def test_a_chain_is_a_tree():
    """Each node the only child of the one before."""
    chain = TokenTree.chain(4)

    assert (4, 4, (-1, 0, 1, 2)) == (chain.num_nodes, chain.depth, chain.parents)


def test_drafts_of_another_tree_are_refused():
    """A block whose nodes are more or fewer than its depth of the arm's tree has."""
    whole = make_block(7, 0, draft_depth=3, draft_ids=DRAFTS)

    assert TREE == drafted_tree(whole, TREE)
    assert TREE.down_to(1) == drafted_tree(make_block(3, 0, draft_depth=1), TREE)
    assert None is drafted_tree(make_block(7, 0), TREE)
    for tree in (None, TokenTree.chain(3)):
        with pytest.raises(ValueError, match="7 nodes 3 deep"):
            drafted_tree(whole, tree)
    with pytest.raises(ValueError, match="2 drafts in a tree of 7"):
        TREE.path_along((1, 2), ())


@pytest.mark.parametrize(
    ("emitted", "path", "siblings"),
    [
        ((9,), (), (11, 12, 13)),
        ((12, 9), (1,), (23,)),
        ((13, 9), (2,), ()),  # a leaf: the target's own token is a bonus
        ((11, 21, 9), (0, 3), (31,)),
        ((11, 21, 31, 9), (0, 3, 6), ()),
    ],
)
def test_what_was_kept_and_what_was_turned_down(emitted, path, siblings):
    """The path of the kept tokens, and the children of its end."""
    block = make_block(7, len(path), draft_depth=3, draft_ids=DRAFTS, emitted_ids=emitted)

    assert path == kept_nodes(block, TREE)
    assert siblings == turned_down(block, TREE)
    assert None is turned_down(block, None) or not siblings


def test_what_was_turned_down_of_a_chain():
    """The first that was not kept; nothing after all, or at an answer's end."""
    ids = {"draft_ids": (5, 6, 7)}

    assert (6,) == turned_down(make_block(3, 1, **ids), None)
    assert () == turned_down(make_block(3, 3, **ids), None)
    assert () == turned_down(make_block(3, 1, truncated=True, **ids), None)
    assert () == turned_down(make_block(0, 0, draft_ids=()), None)
    assert None is turned_down(make_block(3, 1), None)
