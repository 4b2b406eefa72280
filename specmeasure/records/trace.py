"""What was observed: blocks, trials and the manifest that says where and with what.

Raw facts only; acceptance rates, speedups and verdicts are computed later.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from specmeasure.records.corpus import CorpusOptions, Dropped, SourceFile
from specmeasure.records.decision import Policy
from specmeasure.records.machine import Crowding, Environment, Fleet, Worker
from specmeasure.records.memory import MemoryPrediction
from specmeasure.records.plan import GREEDY, Plan, Sampling, TrialKey
from specmeasure.records.serving import Evidence, Load, ServerFacts


class FinishReason(StrEnum):
    """Why a trial stopped emitting."""

    EOS = "eos"
    STOP = "stop"  # a text that the prompt names
    BUDGET = "budget"  # max_new_tokens
    RECORDED = "recorded"  # where a recorded response ends


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRecord:
    """One target pass: what was drafted, what survived, what it cost.

    The first block of a trial is the prefill: no drafts, one emitted token, and ``draft_s`` is the
    proposer's own prefill.
    """

    num_draft_tokens: int  # 0 when the proposer had nothing to say
    num_accepted_tokens: int  # drafts kept; excludes the recovered or bonus token
    num_emitted_tokens: int  # what the user received from this pass
    context_length: int  # tokens the target had processed before this pass
    draft_s: float
    verify_s: float
    truncated: bool = False  # cut by EOS or a stop text inside its accepted drafts: right-censored
    draft_depth: int | None = None  # of a tree: the most drafts it could have kept; None: a chain
    draft_ids: tuple[int, ...] | None = None  # kept with --include-text only
    emitted_ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.num_accepted_tokens <= self.most_accepted <= self.num_draft_tokens:
            raise ValueError(f"accepted {self.num_accepted_tokens} of {self.num_draft_tokens}")
        expected = self.num_accepted_tokens + (0 if self.truncated else 1)
        if self.num_emitted_tokens != expected:
            raise ValueError(
                f"a block emits its accepted drafts plus one token, or, cut, the drafts alone: "
                f"{self.num_emitted_tokens} emitted, {expected} expected"
            )

    @property
    def most_accepted(self) -> int:
        """Drafts that the block could have kept: all of a chain, a tree's depth."""
        return self.num_draft_tokens if self.draft_depth is None else self.draft_depth


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftCounts:
    """What a server says of its drafts, of one request or of one window; more where it says more.

    These are the server's own counts: of a last block that EOS or the budget cuts, engines count
    differently, and no pass without drafts is among them.
    """

    num_draft_tokens: int
    num_accepted_tokens: int
    num_drafted_blocks: int | None = None  # None: not told
    accepted_by_position: tuple[int, ...] | None = None  # [K] blocks that kept draft i + 1
    histogram: tuple[int, ...] | None = None  # [K + 1] blocks that accepted exactly j
    steps: tuple[tuple[int, int], ...] | None = None  # drafted and accepted tokens, block by block

    def __post_init__(self) -> None:
        if not 0 <= self.num_accepted_tokens <= self.num_draft_tokens:
            raise ValueError(f"accepted {self.num_accepted_tokens} of {self.num_draft_tokens}")
        self._agree("accepted tokens", self.num_accepted_tokens, self._accepted_sums())
        self._agree("drafted blocks", self.num_drafted_blocks, self._block_sums())
        if self.steps is not None:
            drafted = sum(drafted for drafted, _ in self.steps)
            self._agree("drafted tokens", self.num_draft_tokens, {"steps": drafted})

    @property
    def evidence(self) -> Evidence:
        if self.steps is not None:
            return Evidence.BLOCKS
        return Evidence.COUNTERS if self.histogram is None else Evidence.HISTOGRAM

    def _accepted_sums(self) -> dict[str, int]:
        sums = {}
        if self.accepted_by_position is not None:
            sums["positions"] = sum(self.accepted_by_position)
        if self.histogram is not None:
            sums["histogram"] = sum(j * number for j, number in enumerate(self.histogram))
        if self.steps is not None:
            sums["steps"] = sum(accepted for _, accepted in self.steps)
        return sums

    def _block_sums(self) -> dict[str, int]:
        sums = {}
        if self.histogram is not None:
            sums["histogram"] = sum(self.histogram)
        if self.steps is not None:
            sums["steps"] = len(self.steps)
        return sums

    def _agree(self, what: str, total: int | None, sums: dict[str, int]) -> None:
        for name, found in sums.items():
            if total is not None and found != total:
                raise ValueError(f"the {name} say {found} {what}, the sum {total}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspectToken:
    """An emitted token that one prefill over the finished text would not have picked.

    Args:
        index: place in the emitted tokens, from 0.
        delta: top logit minus this token's logit, the smaller over both shapes.
        noise: largest difference at this place between one-row and prefill logits.
    """

    index: int
    delta: float
    noise: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.delta) and math.isfinite(self.noise)):
            raise ValueError(f"token {self.index}: delta {self.delta}, noise {self.noise}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Where an answer first leaves the baseline arm's, and how close the two tokens were there."""

    index: int  # place in the emitted tokens, from 0
    token_id: int | None  # None: this answer ends before that place
    baseline_token_id: int | None  # likewise
    gap: float | None  # logits between the two tokens, in one pass; None: one of them is missing
    noise: float | None  # largest difference at this place between one-row and prefill logits


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The teacher-forced check of one greedy trial; classification comes later."""

    num_checked_tokens: int
    suspects: tuple[SuspectToken, ...]  # delta > 0 only; empty means identical
    divergence: Divergence | None = None  # from the baseline arm's answer; None: equal


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A sum over tokens whose mean is 0 if they follow the target's own distribution.

    Given the text before it, a token's score has known moments under the target; what is kept is
    the sum of what exceeded the mean, and the sums of the central moments.
    """

    excess: float
    variance: float
    third_moment: float = 0.0  # of laws as lopsided as a rare token's, a normal tail is far off

    def __add__(self, other: "Score") -> "Score":
        return Score(
            excess=self.excess + other.excess,
            variance=self.variance + other.variance,
            third_moment=self.third_moment + other.third_moment,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """How far the tokens lean towards the draft, where a draft was judged.

    ``score`` sums min(draft_probs / target_probs, cap) of the emitted tokens beyond its mean under
    the target. Were a share ε of the target's law replaced by the draft's, the sum would be
    ε · ``shift`` on average.
    """

    score: Score
    shift: float  # Σ (mean of the score under the draft − under the target)
    num_judged: int
    total_variation: float  # Σ over judged drafts of the distance between the two laws


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledAudit:
    """The teacher-forced check of one sampled trial against the target's own distribution.

    ``pit`` are randomised probability integral transforms, one a token, each uniform on [0, 1] and
    independent of the others if the tokens follow the target. They tell no text.
    """

    pit: tuple[float, ...]
    num_impossible: int  # tokens that the target gives no chance at these sampling settings
    surprise: Score  # of −log target_probs, in nats
    pull: Pull | None = None  # None: the arm has no drafts whose law is known


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenProbs:
    """Chances of emitted and of rejected tokens, kept with --include-text only, for a viewer."""

    target: tuple[float, ...]  # of each emitted token
    draft: tuple[float, ...] | None  # of the same tokens; None without a draft whose law is known
    rejected_target: tuple[float | None, ...] = ()  # by block: of the first rejected draft
    rejected_draft: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """Everything that is found out about a finished trial after its time was taken."""

    audit: Audit | None = None  # of a greedy trial
    sampled_audit: SampledAudit | None = None  # of a sampled one
    is_correct: bool | None = None  # None: the prompt has no reference, or answers are not checked
    token_probs: TokenProbs | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What decoding one context with one arm showed."""

    blocks: tuple[BlockRecord, ...]
    token_ids: tuple[int, ...]  # emitted, EOS included; never written unless text is kept
    num_prompt_tokens: int
    finish_reason: FinishReason
    ttft_s: float  # request start to first token: both prefills, no tokenisation
    decode_s: float  # first token to last token
    model_bytes: int  # weights this arm needs
    cache_bytes: int  # key and value tensors this arm held at the end
    peak_memory_bytes: int | None  # device allocator's peak, or the process's resident size
    capture_s: float | None = None  # spent on graphs before it, in no other time; None: none made

    def __post_init__(self) -> None:
        emitted = sum(block.num_emitted_tokens for block in self.blocks)
        if emitted != len(self.token_ids):
            raise ValueError(f"blocks emitted {emitted} tokens, the trial {len(self.token_ids)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One trial as the trace keeps it: ids are hashed unless text is kept."""

    key: TrialKey
    prompt_hash: str  # of what is asked, the same in every run over the same prompt
    labels: dict[str, str]  # slices the prompt belongs to: category, source, language, fields
    sampling: Sampling = GREEDY
    error: str | None = None  # set: the trial failed and nothing below is known
    num_prompt_tokens: int | None = None
    num_emitted_tokens: int | None = None
    ids_hash: str | None = None  # sha256 over the emitted ids
    token_ids: tuple[int, ...] | None = None  # kept with --include-text only
    prompt_ids: tuple[int, ...] | None = None  # likewise
    finish_reason: FinishReason | None = None
    ttft_s: float | None = None
    decode_s: float | None = None
    model_bytes: int | None = None
    cache_bytes: int | None = None
    peak_memory_bytes: int | None = None
    capture_s: float | None = None  # as observed; an arm's first trial includes the warm-up's
    crowding: Crowding | None = None  # None: not observed
    worker: int | None = None  # that measured it, by number; None: the run had no workers
    checks: Checks | None = None  # None: it failed, or its checks did
    blocks: Sequence[BlockRecord] = ()  # evidence BLOCKS; else empty
    # of requests to a server:
    group: int | None = None  # prompts that share a window; None: each prompt stands alone
    counts: DraftCounts | None = None  # None: the server says nothing of this request
    sent_s: float | None = None  # after its window began
    num_retries: int | None = None  # after 429, 503 or a refused connection

    def __post_init__(self) -> None:
        if isinstance(self.blocks, list):  # as JSON is read
            object.__setattr__(self, "blocks", tuple(self.blocks))

    @property
    def failed(self) -> bool:
        return self.error is not None

    @property
    def audit(self) -> Audit | None:
        return self.checks.audit if self.checks else None

    @property
    def sampled_audit(self) -> SampledAudit | None:
        return self.checks.sampled_audit if self.checks else None

    @property
    def category(self) -> str:
        return self.labels["category"]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class WindowKey:
    """One stretch of load on one arm's server."""

    load: Load
    group: int
    arm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRecord:
    """What one window showed beyond its requests."""

    key: WindowKey
    duration_s: float  # first request sent to last token received
    num_emitted_tokens: int
    mean_in_flight: float  # requests, over the window's duration
    counters: DraftCounts | None  # the server's, after − before; None: it has none
    num_counted_tokens: int | None  # emitted, by the server's own counter
    memory_bytes: int | None  # resident, of a managed server's processes; the most seen


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherVocabulary:
    """How the tokens of a draft with another tokenizer become the target's.

    Sampled answers' drafts are tokens that both know; greedy ones' are matched by text, if they can
    be (Timor et al. 2025, arXiv:2502.05202, Algorithms 4 and 2).
    """

    num_draft_tokens: int
    num_target_tokens: int
    num_shared_tokens: int  # that spell the same
    matches_text: bool  # both tokenizers give back exactly the text that they are given

    def __post_init__(self) -> None:
        if self.num_shared_tokens > min(self.num_draft_tokens, self.num_target_tokens):
            raise ValueError(f"{self.num_shared_tokens} shared tokens, more than there are")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What was loaded for one role."""

    name: str  # as the user gave it, or "embedded:target"
    fingerprint: str  # sha256 over config and weight files, or the hub's commit
    num_parameters: int
    dtype: str
    device: str
    cache: str  # how its cache is rolled back: "crop", "record and crop", "snapshot and replay"
    vocab_size: int  # ids that the tokenizer knows; logits beyond it are dropped
    replays_graphs: bool = False  # its passes are captured once and launched whole
    other_vocabulary: OtherVocabulary | None = None  # of a draft; None: it is the target's


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusFacts:
    """The corpus of a run, without its text."""

    sources: tuple[str, ...]  # as given, made absolute
    options: CorpusOptions
    fingerprint: str
    num_prompts: int  # replayed
    files: tuple[SourceFile, ...]
    dropped: tuple[Dropped, ...]  # of all files, and prompts that the models cannot hold
    samplings: tuple[tuple[Sampling, int], ...] = ()  # with the number of prompts of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One of the moments at which a sequential run may stop, fixed before it began."""

    num_prompts: int  # recorded by then
    num_trials: int  # planned for them


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything needed to understand, resume or repeat a run."""

    schema_version: int
    started_at: str  # ISO 8601, UTC
    argv: tuple[str, ...]
    plan: Plan
    corpus: CorpusFacts
    environment: Environment
    models: tuple[ModelFacts, ...]  # target first
    num_planned_trials: int
    policy: Policy  # as stated before the run
    looks: tuple[Look, ...] = ()  # of a run that stops when it is decided; the last is the most
    warnings: tuple[str, ...] = ()
    servers: tuple[ServerFacts, ...] = ()  # of a run on servers, by arm; ``models`` is empty then
    planned_by_load: tuple[int, ...] = ()  # trials of all arms, in the order of the plan's loads
    memory: MemoryPrediction | None = None  # reckoned before loading; None: it could not be
    fleet: Fleet | None = None  # None: measured in one process
    workers: tuple[Worker, ...] = ()  # of a fleet, also those that came later or died

    def environment_of(self, worker: int | None) -> Environment:
        """Where the trials of a worker took place; None: of a run without workers."""
        own = (one.environment for one in self.workers if one.number == worker)
        return next(own, self.environment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A recorded run, sealed or not."""

    manifest: Manifest
    trials: tuple[TrialRecord, ...]
    sealed: bool  # False: the run was interrupted and can be resumed
    windows: tuple[WindowRecord, ...] = ()  # of a run on servers
    num_void: int = 0  # trials measured again, since their worker died before their turn was whole
