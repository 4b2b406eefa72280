import json
from pathlib import Path

import pytest

from specmeasure.api.trees import read_tree, write_tree
from specmeasure.errors import UnusablePlan
from specmeasure.records.medusa_tree import PAPER_TREE
from specmeasure.records.tree import TokenTree


def saved(folder: Path, document: object) -> str:
    path = folder / "tree.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


def test_a_written_tree_is_read_again(tmp_path: Path):
    """Any tree, by its document; a bare list of paths in any order is the same."""
    shuffled = [list(path) for path in reversed(PAPER_TREE.paths)]

    assert PAPER_TREE == read_tree(saved(tmp_path, write_tree(PAPER_TREE)))
    assert PAPER_TREE == read_tree(saved(tmp_path, shuffled))
    assert PAPER_TREE == read_tree("paper")


def test_more_fields_beside_the_paths_are_ignored(tmp_path: Path):
    """A document may say what the tree was made for."""
    assert TokenTree.chain(1) == read_tree(saved(tmp_path, {"paths": [[0]], "made_for": "chat"}))


@pytest.mark.parametrize("text", ["chain:0", "chain:", "chain:-1", "chain:two", "chain:9999"])
def test_a_chain_has_a_number(text: str):
    """From 1 to the most that are verified."""
    with pytest.raises(UnusablePlan, match="is a number from 1 to 512"):
        read_tree(text)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "not JSON"),
        ({"nodes": []}, "expected paths of ranks"),
        ([0, 1], "expected paths of ranks"),
        ([[0], [0.5]], "expected paths of ranks"),
        ([[True]], "expected paths of ranks"),
        ([], "at least one node"),
        ([[0], [1, 0]], r"node \[1, 0\] has no parent \[1\]"),
        ([[0], [2]], r"node \[2\] stands without its likelier \[1\]"),
        ([[0], []], "no path of ranks"),
        ([[rank] for rank in range(513)], "513 nodes; at most 512"),
    ],
)
def test_what_is_no_tree_is_refused(tmp_path: Path, document: object, message: str):
    """One clear error that names the file and the node."""
    path = saved(tmp_path, document)
    with pytest.raises(UnusablePlan, match=message) as caught:
        read_tree(path)
    assert path in str(caught.value)


def test_a_missing_file_is_named():
    """With the other ways to name a tree."""
    with pytest.raises(UnusablePlan, match=r"tree no\.json: no such file.*chain:N or paper"):
        read_tree("no.json")
