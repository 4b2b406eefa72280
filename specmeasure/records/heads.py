"""What a workload shows of Medusa heads: their accuracy, their price, and trees made for it."""

from dataclasses import dataclass
from enum import StrEnum

from specmeasure.records.estimates import Estimate
from specmeasure.records.prediction import CandidatePrediction
from specmeasure.records.tree import TokenTree


class HeadsLayout(StrEnum):
    """Whose files heads are stored as."""

    MEDUSA = "medusa"  # FasterDecoding's
    VLLM = "vllm"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsFacts:
    """What loaded heads are and weigh."""

    name: str  # folder or hub id, as the user gave it
    layout: HeadsLayout
    num_heads: int
    num_layers: int  # residual blocks of each head
    num_parameters: int  # beside the target's
    num_bytes: int  # likewise
    borrows_target_head: bool  # no vocabulary matrices: the target's output head is used
    notes: tuple[str, ...] = ()  # where its config says something else than its weights


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadAccuracy:
    """How often the token to come is among one head's likeliest."""

    head: int  # from 1: so many places behind the target's own next token
    num_places: int  # tokens that it was judged on
    top: tuple[Estimate, ...]  # shares of them: its likeliest, one of its two likeliest, …


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceAccuracy:
    """The heads on one slice of the traffic."""

    axis: str
    name: str
    num_prompts: int
    heads: tuple[HeadAccuracy, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsMemory:
    """What heads weigh beside their target."""

    num_parameters: int | None  # None: not recorded
    num_bytes: int
    target_bytes: int

    @property
    def share(self) -> float:
        """Of the target's weights."""
        return self.num_bytes / self.target_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSpread:
    """A ratio of times: the median over rounds, the least and the greatest of them."""

    value: float
    low: float
    high: float
    num_rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsProfile:
    """One set of heads on one workload."""

    name: str  # the candidate's
    heads: str  # folder or hub id
    num_prompts: int
    num_answers: int
    num_tokens: int
    accuracy: tuple[HeadAccuracy, ...]
    slices: tuple[SliceAccuracy, ...]
    memory: HeadsMemory
    pass_ratio: RoundSpread  # all heads once / a plain step of the target
    context_length: int  # at which that was timed
    chain: CandidatePrediction  # drafts in a chain, at every K


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeValue:
    """What one tree, or a chain, would do to the answers."""

    name: str  # "best of 16", "paper's", "chain of 3"
    tree: TokenTree
    mean_acceptance_length: Estimate  # τ, a block's own token with it
    tokens_per_target_pass: Estimate  # the prefill among them
    num_passes: int  # of all answers, exactly; the prefill among them
    decode_speedup: Estimate  # predicted at the table's costs
    speedup: float | None  # the same without interval; None: no tree was timed
    product_length: float  # τ, were the heads' accuracies independent: their products, summed


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedTree:
    """The best tree of a size, and what choosing it on the same prompts flatters it by."""

    num_nodes: int
    best: TreeValue
    cross_fitted_length: Estimate  # each half of the prompts with the tree that the other chose
    cross_fitted_speedup: Estimate
    num_shared_nodes: int  # of the two halves' trees
    by_products: TreeValue  # the tree that products of accuracies choose


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeStudy:
    """Trees of heads over greedy answers."""

    candidate: str
    num_heads: int
    max_rank: int  # choices of a head that trees are made of
    num_prompts: int
    num_answers: int
    num_sampled_answers: int  # left out: ranks say nothing exact of them
    sizes: tuple[SizedTree, ...]  # rising
    chains: tuple[TreeValue, ...]  # of 1, 2, … heads
    paper: TreeValue | None  # the paper's default tree, cut to these heads; None: not asked for
    best_size: int | None  # nodes of the tree predicted fastest; None: no tree was timed
    indistinguishable: tuple[int, ...]  # sizes whose speedup is not told from the best's, with it
    chosen_by_half: tuple[int, int] | None  # nodes
    cross_fitted_speedup: Estimate  # tree and size chosen on one half, valued on the other
    lead_over_chain: Estimate  # the best chain's seconds / those of the same choices, paired
    timed_nodes: tuple[int, ...]  # sizes whose blocks were timed; between them lie straight lines
    num_cost_rounds: int
    seed: int  # of the halves

    @property
    def best(self) -> SizedTree | None:
        """Of the size predicted fastest."""
        return next((one for one in self.sizes if one.num_nodes == self.best_size), None)

    @property
    def best_chain(self) -> TreeValue:
        """Predicted fastest; the one of most tokens per pass where speed is not known."""
        return max(
            self.chains,
            key=lambda one: (one.speedup or 0.0, -one.num_passes, -one.tree.num_nodes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeAgreement:
    """A tree or a chain that was run for real beside what was predicted for it."""

    arm: str
    num_nodes: int
    predicted_length: Estimate
    measured_length: Estimate
    predicted_speedup: Estimate
    measured_speedup: Estimate
    speedup_error: float | None  # predicted / measured − 1; None: one of them is not known
    num_predicted_passes: int  # of the same answers
    num_measured_passes: int
    num_same_answers: int  # greedy answers with the profile's very tokens
    num_other_answers: int
    num_equal_counts: int  # of the same answers, those with exactly as many target passes
    unequal: tuple[str, ...]  # "prompt, turn 1: 12 passes, 11 predicted", at most 10
