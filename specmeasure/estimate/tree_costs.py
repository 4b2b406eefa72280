"""What whole blocks of trees take, by their number of nodes and by context.

Trees of some sizes were timed, each of a fixed shape (see ``engines/tree_costs.py``): what a shape
changes at the same number of nodes is not known. Between sizes and contexts lie straight lines, as
in ``cost``; a block without drafts takes a plain step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.cost import RoundMedians, interpolate
from specmeasure.estimate.intervals import Floats
from specmeasure.estimate.replay import Whole
from specmeasure.records.costs import CostTable


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeCosts:
    """One candidate's seconds at a table's context lengths [C].

    The first of R rows are medians over the table's rounds; the others, medians over as many
    rounds drawn with replacement. A table of one round has no others.
    """

    context_lengths: Floats  # [C]
    step_s: Floats  # [R, C] the plain loop's time per token
    block_s: Floats  # [R, C, N] a block of each of the asked numbers of nodes
    num_rounds: int

    def seconds(self, contexts: Whole) -> Floats:
        """Medians for blocks at contexts of so many tokens [n]: [n, N]."""
        return np.asarray(context_shares(contexts, self.context_lengths) @ self.block_s[0])

    def step_seconds(self, contexts: Whole) -> Floats:
        """Medians for plain steps at contexts of so many tokens [n]: [n]."""
        return np.asarray(context_shares(contexts, self.context_lengths) @ self.step_s[0])


def tree_costs(
    table: CostTable, candidate: str, num_nodes: Sequence[int], *, seed: int
) -> TreeCosts:
    """Interpolate the table's medians for trees of so many nodes, and those of resampled rounds.

    The rounds drawn are those that ``block_costs`` draws for the same seed. More nodes than were
    timed go on as the last two, though never cheaper than the last.

    Raises:
        InsufficientEvidence: the table times no trees of this candidate.
    """
    rounds = [
        (one, one.drafts[candidate].tree_s)
        for one in table.rounds
        if candidate in one.drafts and one.drafts[candidate].tree_s is not None
    ]
    if not rounds:
        known = [name for name, one in table.rounds[0].drafts.items() if one.tree_s is not None]
        raise InsufficientEvidence(
            f"the costs of {table.machine} hold no times of trees of {candidate!r}, only of: "
            f"{', '.join(known) or 'none'}. Measure the costs with this candidate's heads, on a "
            "target whose cache holds full attention."
        )
    medians = RoundMedians(len(rounds), seed=seed)
    step_s = medians([one.step_s for one, _ in rounds])
    from_none = np.concatenate([step_s[:, :, None], medians([tree for _, tree in rounds])], axis=2)
    return TreeCosts(
        context_lengths=np.array(table.context_lengths, dtype=np.float64),
        step_s=step_s,
        block_s=interpolate(from_none, (0, *table.num_nodes), np.array(num_nodes, dtype=np.intp)),
        num_rounds=len(rounds),
    )


def context_shares(contexts: Whole, context_lengths: Floats) -> Floats:
    """How much of each timed context [C] a block at so many tokens [n] takes: [n, C].

    Rows sum to 1; outside what was timed the nearest takes all. Summed over blocks they tell what
    the blocks take at any row of costs.

    >>> context_shares(np.array([5, 15, 90]), np.array([10.0, 20.0])).tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    places = np.arange(len(context_lengths))
    nearest = np.interp(contexts, context_lengths, places)
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(nearest[:, None] - places)))
