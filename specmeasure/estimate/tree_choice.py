"""Which tree of heads to run on this workload, and what choosing it on the same prompts is worth.

Trees of all sizes are grown on all prompts and valued on them, which flatters them. So each half of
the prompts is valued with the tree that the other half grew, and the fastest of those with the size
that the other half chose; both halves take the same costs. The paper's default tree and chains of
every length stand beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate import acceptance
from specmeasure.estimate.acceptance import AcceptanceCounts
from specmeasure.estimate.choice import choose_length, split_halves
from specmeasure.estimate.cost import BlockCosts, CostError, Spending, block_costs, speedup_spread
from specmeasure.estimate.head_trees import (
    MAX_RANK,
    Path,
    Places,
    count_walk,
    growth,
    growth_by_products,
    product_length,
    rank_shares,
    read_places,
    walk_tree,
)
from specmeasure.estimate.intervals import Floats, Intervals, Spread
from specmeasure.estimate.traffic import Traffic, traffic_of
from specmeasure.estimate.tree_costs import TreeCosts, tree_costs
from specmeasure.estimate.walk_costs import WalkSpending, spend_walk
from specmeasure.records.costs import CostTable
from specmeasure.records.estimates import Estimate, Unmeasured
from specmeasure.records.heads import SizedTree, TreeStudy, TreeValue
from specmeasure.records.plan import Arm
from specmeasure.records.replay import HeadScores, ReplayTrace
from specmeasure.records.tree import TokenTree

SIZES = (8, 16, 32, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeQuestion:
    """Which trees to look at."""

    sizes: tuple[int, ...] = SIZES  # rising, from 1
    max_rank: int = MAX_RANK  # choices of a head that trees are made of
    paper: TokenTree | None = None  # the paper's default tree

    def __post_init__(self) -> None:
        if not self.sizes or list(self.sizes) != sorted(set(self.sizes)) or self.sizes[0] < 1:
            raise ValueError(f"sizes {list(self.sizes)} are not rising whole numbers from 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Valued:
    """One tree on all answers."""

    tree: TokenTree
    counts: AcceptanceCounts  # by prompt
    spending: WalkSpending | None  # None: its blocks were not timed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Workload:
    """The answers that trees are valued on, and what that takes."""

    places: Places
    shares: Floats  # [H, R] of each head's places, by the rank of their token
    traffic: Traffic
    intervals: Intervals
    chain_costs: BlockCosts
    tree_costs: TreeCosts | Unmeasured
    first_half: NDArray[np.bool_]  # [n] of the prompts
    max_rank: int

    def value(self, tree: TokenTree, costs: BlockCosts | TreeCosts | Unmeasured) -> _Valued:
        walk = walk_tree(self.places, tree)
        return _Valued(
            tree=tree,
            counts=count_walk(self.places, walk),
            spending=(
                None if isinstance(costs, Unmeasured) else spend_walk(self.places, walk, costs)
            ),
        )

    def ranks_of(self, prompts: NDArray[np.bool_]) -> NDArray[np.intp]:
        """[N, H] where blocks of these prompts can start."""
        return self.places.ranks[self.places.is_decoded & prompts[self.places.of_prompts]]

    def speedup(self, valued: Sequence[_Valued], own: Sequence[NDArray[np.bool_]]) -> Estimate:
        """Of prompts decoded with the tree that is theirs; the first one's costs give their error.

        Args:
            valued: one or several trees.
            own: [n] of each, the prompts that it decodes.
        """
        spent = [one.spending for one in valued if one.spending is not None]
        if isinstance(self.tree_costs, Unmeasured) and len(spent) < len(valued):
            return self.tree_costs
        found = speedup_spread(
            spent[0].baseline_s, _joined(spent, own), spent[0].cost_error, self.intervals
        )
        return self.intervals.around(found) if isinstance(found, Spread) else found

    def lead(
        self, valued: Sequence[_Valued], own: Sequence[NDArray[np.bool_]], other: _Valued
    ) -> Estimate:
        """How many times faster than all prompts decoded by another tree or a chain, paired."""
        spent = [one.spending for one in valued if one.spending is not None]
        if other.spending is None or len(spent) < len(valued):
            return _reason(self)
        theirs = other.spending
        error = CostError.of(
            np.log(theirs.total_speculative_s[1:] / spent[0].total_speculative_s[1:]),
            theirs.num_rounds,
        )
        found = speedup_spread(theirs.speculative_s, _joined(spent, own), error, self.intervals)
        return self.intervals.around(found) if isinstance(found, Spread) else found

    def length(self, valued: Sequence[_Valued], own: Sequence[NDArray[np.bool_]]) -> Estimate:
        """τ likewise."""
        accepted, blocks = (
            np.asarray(
                sum(
                    np.where(prompts, getattr(one.counts, name), 0.0)
                    for one, prompts in zip(valued, own, strict=True)
                )
            )
            for name in ("num_accepted", "num_drafted_blocks")
        )
        return acceptance.length(accepted, blocks, self.intervals)

    def told(self, name: str, valued: _Valued) -> TreeValue:
        everyone = np.ones(len(self.first_half), dtype=np.bool_)
        spending = valued.spending
        return TreeValue(
            name=name,
            tree=valued.tree,
            mean_acceptance_length=self.length([valued], [everyone]),
            tokens_per_target_pass=acceptance.tokens_per_target_pass(valued.counts, self.intervals),
            num_passes=round(float(valued.counts.num_passes.sum())),
            decode_speedup=self.speedup([valued], [everyone]),
            speedup=None if spending is None else spending.speedup,
            product_length=product_length(self.shares, valued.tree),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grown:
    """The trees of every size that some prompts grow."""

    order: tuple[Path, ...]
    valued: tuple[_Valued, ...]  # by size

    @classmethod
    def on(cls, workload: _Workload, prompts: NDArray[np.bool_], sizes: Sequence[int]) -> "_Grown":
        order = growth(workload.ranks_of(prompts), sizes[-1], max_rank=workload.max_rank)
        trees = [TokenTree.of(order[:size]) for size in sizes]
        return cls(
            order=order, valued=tuple(workload.value(one, workload.tree_costs) for one in trees)
        )


def study_trees(  # noqa: PLR0913 - what a study is asked with
    trace: ReplayTrace,
    candidate: str,
    question: TreeQuestion,
    intervals: Intervals,
    *,
    costs: CostTable | None = None,
    seed: int = 0,
) -> TreeStudy:
    """Trees of every size for the heads that a replay recorded, valued on its greedy answers.

    Where the table times no trees, lengths are told and speeds are not.

    Args:
        trace: the replay.
        candidate: the name of its heads.
        question: which trees.
        intervals: how they are made.
        costs: of another machine; None: the replay's own.
        seed: of the halves.

    Raises:
        InsufficientEvidence: no greedy answer longer than one token, or no ranks of heads.
    """
    table = costs or trace.costs
    workload = _workload(trace, candidate, question, intervals, table=table, seed=seed)
    everyone = np.ones(len(workload.first_half), dtype=np.bool_)
    most = len(growth(workload.ranks_of(everyone), question.sizes[-1], max_rank=question.max_rank))
    sizes = sorted({min(size, most) for size in question.sizes})
    whole = _Grown.on(workload, everyone, sizes)
    halves = [
        _Grown.on(workload, half, sizes) for half in (workload.first_half, ~workload.first_half)
    ]
    best, alike = _best_size(workload, whole, sizes, seed=seed)
    chains = _chains(workload)
    chosen = _chosen_by_half(workload, halves)
    fitted: Estimate = _reason(workload)
    lead: Estimate = fitted
    if chosen is not None:
        crossed = [halves[1].valued[chosen[1]], halves[0].valued[chosen[0]]]
        own = [workload.first_half, ~workload.first_half]
        fitted = workload.speedup(crossed, own)
        lead = workload.lead(crossed, own, max(chains, key=_speed))
    return TreeStudy(
        candidate=candidate,
        num_heads=workload.places.num_heads,
        max_rank=question.max_rank,
        num_prompts=workload.places.num_prompts,
        num_answers=len(workload.places.first),
        num_sampled_answers=len(trace.answers) - len(workload.places.first),
        sizes=tuple(
            _sized(workload, whole, halves, size, place) for place, size in enumerate(sizes)
        ),
        chains=tuple(workload.told(f"chain of {one.tree.num_nodes}", one) for one in chains),
        paper=_paper(workload, question.paper),
        best_size=best,
        indistinguishable=alike,
        chosen_by_half=None if chosen is None else (sizes[chosen[0]], sizes[chosen[1]]),
        cross_fitted_speedup=fitted,
        lead_over_chain=lead,
        timed_nodes=table.num_nodes,
        num_cost_rounds=len(table.rounds),
        seed=seed,
    )


def value_arms(
    trace: ReplayTrace,
    candidate: str,
    arms: Sequence[Arm],
    intervals: Intervals,
    *,
    seed: int = 0,
) -> tuple[TreeValue, ...]:
    """What arms of these heads would do: each arm's tree, or a chain of its K drafts.

    Raises:
        InsufficientEvidence: no greedy answer longer than one token, or no ranks of heads.
    """
    most = max((arm.num_speculative_tokens for arm in arms), default=1)
    question = TreeQuestion(sizes=(most,))
    workload = _workload(trace, candidate, question, intervals, table=trace.costs, seed=seed)
    return tuple(
        workload.told(
            arm.name,
            workload.value(TokenTree.chain(arm.num_speculative_tokens), workload.chain_costs)
            if arm.tree is None
            else workload.value(arm.tree, workload.tree_costs),
        )
        for arm in arms
    )


def cut_tree(tree: TokenTree, *, depth: int, max_rank: int) -> TokenTree | None:
    """What of a tree heads can draft: so deep, of so many choices; None: nothing.

    >>> cut_tree(TokenTree.of([[0], [1], [0, 0]]), depth=2, max_rank=1)
    TokenTree(paths=((0,), (0, 0)))
    """
    paths = [path for path in tree.paths if len(path) <= depth and max(path) < max_rank]
    return TokenTree.of(paths) if paths else None


def _workload(  # noqa: PLR0913 - what a study is asked with
    trace: ReplayTrace,
    candidate: str,
    question: TreeQuestion,
    intervals: Intervals,
    *,
    table: CostTable,
    seed: int,
) -> _Workload:
    scored = list(zip(trace.answers, trace.scores[candidate], strict=True))
    greedy = [(answer, one) for answer, one in scored if answer.sampling.is_greedy]
    if not any(answer.num_tokens > 1 for answer, _ in greedy):
        raise InsufficientEvidence(
            "no greedy answer longer than one token: trees are valued exactly on greedy answers "
            "alone, because ranks say nothing of what is drawn. Record the profile with "
            "--temperature 0, and --no-row-sampling where rows ask for another."
        )
    answers = [answer for answer, _ in greedy]
    traffic = traffic_of(answers)
    places = read_places(answers, [one for _, one in greedy], traffic.prompts)
    own = next(one for _, one in greedy if isinstance(one, HeadScores))
    paper_nodes = 0 if question.paper is None else question.paper.num_nodes
    sizes = range(max(question.sizes[-1], paper_nodes) + 1)
    try:
        timed: TreeCosts | Unmeasured = tree_costs(table, candidate, sizes, seed=seed)
    except InsufficientEvidence as lacking:
        timed = Unmeasured(reason=str(lacking))
    return _Workload(
        places=places,
        shares=rank_shares(places.ranks[places.is_decoded], question.max_rank),
        traffic=traffic,
        intervals=intervals,
        chain_costs=block_costs(table, candidate, own.num_heads, seed=seed),
        tree_costs=timed,
        first_half=split_halves(traffic.categories, seed=seed),
        max_rank=question.max_rank,
    )


def _chains(workload: _Workload) -> list[_Valued]:
    """Of 1, 2, … heads."""
    lengths = range(1, workload.places.num_heads + 1)
    return [workload.value(TokenTree.chain(one), workload.chain_costs) for one in lengths]


def _speed(one: _Valued) -> float:
    return 0.0 if one.spending is None else one.spending.speedup


def _joined(spent: Sequence[WalkSpending], own: Sequence[NDArray[np.bool_]]) -> Floats:
    """Seconds [n] of every prompt, by the tree that is its own."""
    parts = zip(spent, own, strict=True)
    return np.asarray(sum(np.where(prompts, one.speculative_s, 0.0) for one, prompts in parts))


def _sized(
    workload: _Workload, whole: _Grown, halves: Sequence[_Grown], size: int, place: int
) -> SizedTree:
    first, second = workload.first_half, ~workload.first_half
    crossed = [halves[1].valued[place], halves[0].valued[place]]
    everyone = np.ones(len(first), dtype=np.bool_)
    products = TokenTree.of(
        growth_by_products(workload.ranks_of(everyone), size, max_rank=workload.max_rank)
    )
    return SizedTree(
        num_nodes=size,
        best=workload.told(f"best of {size}", whole.valued[place]),
        cross_fitted_length=workload.length(crossed, [first, second]),
        cross_fitted_speedup=workload.speedup(crossed, [first, second]),
        num_shared_nodes=len(set(halves[0].order[:size]) & set(halves[1].order[:size])),
        by_products=workload.told(
            f"by products of {size}", workload.value(products, workload.tree_costs)
        ),
    )


def _paper(workload: _Workload, paper: TokenTree | None) -> TreeValue | None:
    cut = paper and cut_tree(paper, depth=workload.places.num_heads, max_rank=workload.max_rank)
    if cut is None:
        return None
    return workload.told("paper's default", workload.value(cut, workload.tree_costs))


def _best_size(
    workload: _Workload, whole: _Grown, sizes: Sequence[int], *, seed: int
) -> tuple[int | None, tuple[int, ...]]:
    """The size predicted fastest, and those that are not told from it."""
    spent = [one.spending for one in whole.valued if one.spending is not None]
    if not spent:
        return None, ()
    choice = choose_length(
        Spending(
            baseline_s=spent[0].baseline_s,
            speculative_s=np.stack([one.speculative_s for one in spent], axis=1),
            part_baseline_s=spent[0].total_baseline_s[None],
            part_speculative_s=np.stack([one.total_speculative_s for one in spent])[None],
            num_rounds=spent[0].num_rounds,
        ),
        np.arange(workload.places.num_prompts),
        workload.traffic.categories,
        workload.intervals,
        seed=seed,
    )
    return sizes[choice.best - 1], tuple(sizes[place - 1] for place in choice.indistinguishable)


def _chosen_by_half(workload: _Workload, halves: Sequence[_Grown]) -> tuple[int, int] | None:
    """The places of the sizes that each half finds fastest, with its own trees on itself."""
    if isinstance(workload.tree_costs, Unmeasured):
        return None
    first, second = (
        int(
            np.argmin(
                [
                    one.spending.speculative_s[prompts].sum()
                    for one in grown.valued
                    if one.spending is not None
                ]
            )
        )
        for grown, prompts in zip(halves, (workload.first_half, ~workload.first_half), strict=True)
    )
    return first, second


def _reason(workload: _Workload) -> Unmeasured:
    costs = workload.tree_costs
    return costs if isinstance(costs, Unmeasured) else Unmeasured(reason="nothing was chosen")
