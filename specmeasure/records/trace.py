"""What was observed: blocks, trials and the manifest that says where and with what.

Raw facts only; acceptance rates, speedups and verdicts are computed later.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from specmeasure.records.corpus import CorpusOptions, Dropped, SourceFile
from specmeasure.records.decision import Policy
from specmeasure.records.plan import GREEDY, Plan, Sampling, TrialKey


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
    draft_ids: tuple[int, ...] | None = None  # kept with --include-text only
    emitted_ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.num_accepted_tokens <= self.num_draft_tokens:
            raise ValueError(f"accepted {self.num_accepted_tokens} of {self.num_draft_tokens}")
        expected = self.num_accepted_tokens + (0 if self.truncated else 1)
        if self.num_emitted_tokens != expected:
            raise ValueError(
                f"a block emits its accepted drafts plus one token, or, cut, the drafts alone: "
                f"{self.num_emitted_tokens} emitted, {expected} expected"
            )


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
class Audit:
    """The teacher-forced check of one greedy trial; classification comes later."""

    num_checked_tokens: int
    suspects: tuple[SuspectToken, ...]  # delta > 0 only; empty means identical
    baseline_divergence: int | None  # first index that differs from the baseline arm; None: equal


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
    audit: Audit | None = None  # None: not a greedy trial, or it failed
    blocks: tuple[BlockRecord, ...] = ()

    @property
    def failed(self) -> bool:
        return self.error is not None

    @property
    def category(self) -> str:
        return self.labels["category"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a run took place."""

    versions: dict[str, str]  # package → version
    platform: str
    cpu: str
    num_cores: int
    memory_bytes: int
    accelerators: tuple[str, ...] = ()
    num_threads: int
    load_average: float | None  # one minute, before the run; None where the system has none


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
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A recorded run, sealed or not."""

    manifest: Manifest
    trials: tuple[TrialRecord, ...]
    sealed: bool  # False: the run was interrupted and can be resumed
