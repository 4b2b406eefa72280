"""What a replay recorded: the target's answers, and how every candidate would have drafted them.

A candidate is an ``Arm`` whose K is the most drafts that are looked at. Numbers stand in the
standard library's arrays, one entry per token of an answer, so that millions of positions fit.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from specmeasure.records.corpus import Dropped
from specmeasure.records.costs import CostTable
from specmeasure.records.machine import Environment, Worker
from specmeasure.records.plan import Sampling, TrialKey
from specmeasure.records.request import Request
from specmeasure.records.trace import CorpusFacts, FinishReason, ModelFacts


class TokenClass(StrEnum):
    """What a token of an answer is made of."""

    WORD = "words"
    NAME = "names"  # a capitalised word inside a sentence
    DIGITS = "digits"
    PUNCTUATION = "punctuation"
    CODE = "code"  # brackets, operators, identifiers with underscores
    WHITESPACE = "whitespace"
    OTHER_SCRIPT = "other scripts"
    SPECIAL = "special tokens"  # end of sequence and the like


TOKEN_CLASSES = tuple(TokenClass)  # an answer's tokens name theirs by its place here


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of the target that all candidates are scored on. Knows no text."""

    key: TrialKey  # of the baseline arm
    labels: dict[str, str]
    prompt_hash: str
    sampling: Sampling
    max_new_tokens: int | None  # the budget that real decoding had; None: a recorded response
    num_prompt_tokens: int
    num_tokens: int
    finish_reason: FinishReason
    ids_hash: str
    token_ids: tuple[int, ...] | None = None  # kept while recording, then with --include-text only
    prompt_ids: tuple[int, ...] | None = None  # likewise


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetScores:
    """The target along one answer, [T] each.

    Distributions are those that are sampled from, after temperature, top-k and top-p; of a greedy
    answer they are the softmax of the logits.
    """

    token_class: "array[int]"  # "b", place in TOKEN_CLASSES
    entropy: "array[float]"  # "f", nats
    token_prob: "array[float]"  # "f", of the emitted token
    token_rank: "array[int]"  # "i", 0: no token was likelier


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftScores:
    """A draft model along one answer, [T] each, given the answer's own earlier tokens."""

    accept_chance: "array[float]"  # "f", that the emitted token would have been an accepted draft
    argmax_hit: "array[int]"  # "b", 1 where the draft's likeliest token is the emitted one
    entropy: "array[float]"  # "f", nats
    total_variation: "array[float]"  # "f", distance of draft and target distributions
    token_rank: "array[int]"  # "i", of the emitted token in the draft's distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupScores:
    """A lookup along one answer, [T] each, for the block that would start at each token.

    One lookup drafts the whole block, so that later drafts depend on where it started.
    """

    num_drafts: "array[int]"  # "h", found, at most the candidate's K; 0 where nothing matched
    num_matching: "array[int]"  # "h", of them, up to the first that differs from the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadScores:
    """Heads along one answer, for the block that would start at each token: [T, H] row by row.

    Head h drafts the token h places behind the block's start. It sees nothing of what the heads
    before it drafted, so that it knows less than a draft model would: its chance depends on where
    the block started.
    """

    num_heads: int  # H
    # "i", of the answer's token under the head, equal logits in the order of their ids; 0: its
    # likeliest; -1: the answer ends before, or the prefill emits the block's first token
    rank: "array[int]"
    accept_chance: "array[float]"  # "f", that it would have been an accepted draft; 0 without one


CandidateScores = DraftScores | LookupScores | HeadScores


@dataclass(frozen=True, slots=True, kw_only=True)
class Plausibility:
    """How well recorded responses fit the target that is said to have written them."""

    num_answers: int
    num_other_greedy_answers: int  # of greedy ones, more tokens than rounding explains differ
    num_tokens: int
    mean_rank: float  # 0: always the target's likeliest token
    num_sampled_tokens: int  # of answers that were not greedy; the rest is of these
    num_impossible_tokens: int  # outside top-k or top-p
    mean_log_prob: float | None  # nats, impossible tokens left out; None: nothing was sampled
    expected_log_prob: float | None  # of what the target draws itself: minus its entropy
    z_score: float | None  # of the difference; None also where no token was uncertain


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """One replay."""

    request: Request  # its plan's arms are the baseline, then the candidates
    use_references: bool = False  # the corpus's recorded responses are the target's own
    batch_size: int = 16
    num_confirmed: int = 0  # best candidates that are then run for real


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayManifest:
    """Everything needed to understand, resume or repeat a replay."""

    schema_version: int
    started_at: str  # ISO 8601, UTC
    request: ReplayRequest
    corpus: CorpusFacts
    environment: Environment
    target: ModelFacts
    warnings: tuple[str, ...] = ()
    workers: tuple[Worker, ...] = ()  # that answered and scored beside each other


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateFacts:
    """What was needed to score one candidate."""

    name: str
    models: tuple[ModelFacts, ...] = ()  # the draft; empty for lookups and early exits
    model_bytes: int = 0  # weights beside the target's
    cache_bytes_per_token: float = 0.0  # beside the target's
    # 2 x the parameters that a draft token passes through, beside those that verify it
    num_flops_per_draft: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingFacts:
    """What the recording took."""

    generation_s: float | None  # None: recorded responses, or an interrupted session's
    num_generated_tokens: int
    peak_memory_bytes: int | None
    largest_pair_bytes: int  # weights of the target and the largest draft
    num_target_flops_per_token: float
    target_bytes: int  # weights
    target_cache_bytes_per_token: float
    plausibility: Plausibility | None = None  # of recorded responses
    scoring_s: float | None = None  # likewise
    left_out: tuple[Dropped, ...] = ()  # turns that could not be replayed


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayTrace:
    """A recorded replay. ``target`` and each of ``scores`` are aligned with ``answers``."""

    manifest: ReplayManifest
    answers: tuple[Answer, ...]
    target: tuple[TargetScores, ...]
    scores: Mapping[str, tuple[CandidateScores, ...]]  # by the candidate's name
    candidates: tuple[CandidateFacts, ...]
    recording: RecordingFacts
    costs: CostTable
