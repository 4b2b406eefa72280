"""The tree that Medusa drafts by default, sought on calibration data for a chat model of 7 B.

Cai et al. 2024 (arXiv:2401.10774, section 3.2 and its appendix on optimized trees); the nodes are
``mc_sim_7b_63`` of the authors' repository, FasterDecoding/Medusa (medusa/model/medusa_choices.py).
"""

from specmeasure.records.tree import TokenTree

# Of each node that has any, named by its path of ranks, the number of children.
_NUM_CHILDREN = {"": 10, "0": 10, "1": 7, "2": 3, "3": 2}
_NUM_CHILDREN |= dict.fromkeys("456789", 1)
_NUM_CHILDREN |= {"00": 10, "01": 3, "02": 2, "10": 2, "20": 1}
_NUM_CHILDREN |= dict.fromkeys(("03", "04", "05", "06", "07"), 1)
_NUM_CHILDREN |= {"000": 2}

PAPER_TREE = TokenTree.of(
    [*map(int, parent), rank] for parent, number in _NUM_CHILDREN.items() for rank in range(number)
)  # 63 nodes, 4 deep
