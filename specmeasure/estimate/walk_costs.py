"""What answers would take, decoded by the blocks of a walk through a tree or a chain."""

from dataclasses import dataclass

import numpy as np

from specmeasure.estimate.cost import BlockCosts, CostError
from specmeasure.estimate.head_trees import Places, Walk, sums_of
from specmeasure.estimate.intervals import Floats
from specmeasure.estimate.replay import Whole
from specmeasure.estimate.tree_costs import TreeCosts, context_shares


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkSpending:
    """Seconds after the answers' first tokens, by prompt [n], and of all at every row [R]."""

    baseline_s: Floats  # [n] at the medians
    speculative_s: Floats  # [n] likewise
    total_baseline_s: Floats  # [R] at the medians, then at resampled rounds
    total_speculative_s: Floats  # [R]
    num_rounds: int

    @property
    def speedup(self) -> float:
        """Over all prompts, predicted.

        Formula: Σ baseline seconds / Σ speculative seconds
        """
        return float(self.total_baseline_s[0] / self.total_speculative_s[0])

    @property
    def cost_error(self) -> CostError:
        """Of the logarithm of the speedup."""
        ratios = self.total_baseline_s[1:] / self.total_speculative_s[1:]
        return CostError.of(np.log(ratios), self.num_rounds)


def spend_walk(places: Places, walk: Walk, costs: BlockCosts | TreeCosts) -> WalkSpending:
    """The seconds of all plain steps and of all blocks, at their contexts.

    Args:
        places: of the answers.
        walk: through them.
        costs: of blocks of 0, 1, … nodes, as many as the walk's largest block has.
    """
    steps = np.flatnonzero(places.is_decoded)
    prompts, num_prompts = places.of_prompts, places.num_prompts
    shares = context_shares(places.contexts[steps], costs.context_lengths)
    block_shares = context_shares(places.contexts[walk.starts], costs.context_lengths)
    medians = costs.block_s[0][:, walk.num_nodes].T  # [B, C]
    return WalkSpending(
        baseline_s=sums_of(shares @ costs.step_s[0], prompts[steps], num_prompts),
        speculative_s=sums_of(
            (block_shares * medians).sum(axis=1), prompts[walk.starts], num_prompts
        ),
        total_baseline_s=costs.step_s @ shares.sum(axis=0),
        total_speculative_s=np.einsum(
            "rcn,cn->r", costs.block_s, _used(block_shares, walk.num_nodes, costs.block_s.shape[2])
        ),
        num_rounds=costs.num_rounds,
    )


def _used(shares: Floats, num_nodes: Whole, width: int) -> Floats:
    """How much of every context's blocks of every size is used: [C, N]."""
    return np.stack(
        [np.bincount(num_nodes, weights=column, minlength=width) for column in shares.T]
    )
