"""The policy stated before the run, and what it makes of the estimates."""

from dataclasses import dataclass
from enum import StrEnum

from specmeasure.records.serving import Load


class Verdict(StrEnum):
    """The three answers."""

    GO = "GO"
    NO_GO = "NO_GO"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a user demands before speculation is turned on."""

    min_decode_speedup: float = 1.10  # the lower bound must reach it
    min_slice_speedup: float = 1.00  # no slice's upper bound may lie below it
    max_divergent_trials: int = 0
    max_chance: float = 0.001  # sampled tokens less likely than this under the target are NO_GO
    max_drift_nats: float = 0.01  # of a lossy arm, per token
    max_changed_share: float = 0.01  # of a lossy arm's tokens
    max_accuracy_loss: float = 0.02  # where answers are graded; a share of answers
    max_memory_bytes: int | None = None  # weights and cache of the arm; None: no limit
    min_prompts: int = 20
    max_noise: float = 0.02  # A/A may not exclude 1 ± this
    max_failed_share: float = 0.05  # of an arm's planned trials, failed or not recorded
    at_concurrency: int | None = None  # of runs on a server; None: the highest load measured


class RuleOutcome(StrEnum):
    """How one rule of the policy stands."""

    MET = "met"  # at the pessimistic end of the interval
    FAILED = "failed"  # even at the optimistic end
    OPEN = "open"  # the interval straddles the threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFinding:
    """One rule and the number that met or failed it."""

    rule: str  # "decode speedup ≥ 1.10 at the lower bound"
    outcome: RuleOutcome
    observed: str  # "1.42 [1.35, 1.49], 160 prompts"
    blocks_no_go: bool = False  # a failure that caps the verdict at INCONCLUSIVE, not NO_GO


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceVerdict:
    """What the speed rule says of one slice alone."""

    axis: str
    name: str
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmDecision:
    """The policy applied to one arm."""

    arm: str
    verdict: Verdict
    findings: tuple[RuleFinding, ...]
    slices: tuple[SliceVerdict, ...]
    num_prompts_to_settle: int | None  # in all; None: more prompts would not change it


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadVerdict:
    """What the same policy says at one load of a server."""

    load: Load
    arm: str  # as in ``Decision``
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer: one verdict, the arm it speaks of, and all reasons."""

    verdict: Verdict
    arm: str  # the recommended arm on GO, else the arm that came closest
    policy: Policy
    arms: tuple[ArmDecision, ...]  # best first
    load: Load | None = None  # that the verdict speaks of; None: no server, one at a time
    by_load: tuple[LoadVerdict, ...] = ()  # lightest load first


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """What predictions alone allow: NO_GO, or that a real run has to tell."""

    verdict: Verdict  # never GO: nothing was run for real
    candidate: str  # the one predicted fastest
    num_speculative_tokens: int
    reason: str
