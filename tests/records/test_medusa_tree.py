from collections import Counter

from specmeasure.records.medusa_tree import PAPER_TREE

PUBLISHED = (  # in the order of the authors' file
    "0 00 1 01 2 000 10 02 3 03 4 04 20 05 001 5 06 6 07 010 11 7 08 002 30 09 8 9 100 020 12 003 "
    "40 21 004 005 0000 011 006 030 50 13 007 008 009 60 040 14 70 012 200 31 22 80 050 15 101 021 "
    "90 060 0001 16 070"
)


def test_the_papers_tree_is_the_published_one():
    """Node by node."""
    published = {tuple(map(int, path)) for path in PUBLISHED.split()}

    assert published == set(PAPER_TREE.paths)


def test_the_papers_tree_needs_four_heads():
    """63 nodes, so that a pass reads 64 rows: 10 choices first, 2 of the fourth head."""
    by_depth = Counter(map(len, PAPER_TREE.paths))

    assert 63 == PAPER_TREE.num_nodes
    assert {1: 10, 2: 28, 3: 23, 4: 2} == by_depth
