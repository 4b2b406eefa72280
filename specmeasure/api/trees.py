"""Trees of drafts as a user names them: a chain, the paper's, or a file."""

import json
from pathlib import Path

from specmeasure.errors import UnusablePlan
from specmeasure.records.medusa_tree import PAPER_TREE
from specmeasure.records.tree import TokenTree

MOST_NODES = 512  # each is a row of the target's pass


def read_tree(text: str) -> TokenTree:
    """The tree of ``chain:N``, ``paper`` or a JSON file.

    A file holds paths of ranks, in any order: as a bare list, the form of Medusa's own choices, or
    under ``paths`` of a document such as ``specmeasure heads tree`` writes.

    Raises:
        UnusablePlan: neither of these, or not a tree; says which node is at fault.

    >>> read_tree("chain:2").paths
    ((0,), (0, 0))
    >>> read_tree("paper").num_nodes
    63
    """
    if text == "paper":
        return PAPER_TREE
    if text.startswith("chain:"):
        return _chain(text)
    path = Path(text).expanduser()
    if not path.is_file():
        raise UnusablePlan(f"tree {text}: no such file. Name a JSON file, chain:N or paper.")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnusablePlan(f"tree {text}: not JSON ({error}).") from error
    return _tree(text, document.get("paths") if isinstance(document, dict) else document)


def write_tree(tree: TokenTree) -> str:
    """A document that ``read_tree`` reads.

    >>> print(write_tree(TokenTree.chain(2)), end="")
    {"paths": [[0], [0, 0]]}
    """
    return json.dumps({"paths": tree.paths}) + "\n"


def _chain(text: str) -> TokenTree:
    number = text.removeprefix("chain:")
    if not number.isdecimal() or not 1 <= int(number) <= MOST_NODES:
        raise UnusablePlan(f"tree {text}: N of chain:N is a number from 1 to {MOST_NODES}.")
    return TokenTree.chain(int(number))


def _tree(text: str, paths: object) -> TokenTree:
    if not isinstance(paths, list) or not all(_is_path(one) for one in paths):
        raise UnusablePlan(
            f'tree {text}: expected paths of ranks, as in [[0], [1], [0, 0]] or {{"paths": '
            "[[0], [1], [0, 0]]}."
        )
    if len(paths) > MOST_NODES:
        raise UnusablePlan(f"tree {text}: {len(paths)} nodes; at most {MOST_NODES} are verified.")
    try:
        return TokenTree.of(paths)
    except ValueError as error:
        raise UnusablePlan(f"tree {text}: {error}.") from error


def _is_path(found: object) -> bool:
    return isinstance(found, list) and all(type(rank) is int for rank in found)
