"""What a replay's workers are asked for, and what they find.

A task holds token ids and no text. Findings do not depend on the worker, but for what steps cost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specmeasure.decode.batch import Generated
from specmeasure.decode.teacher import Finished
from specmeasure.engines.costs import TargetCosts
from specmeasure.engines.replay import Asked
from specmeasure.engines.replayed_target import ReplayedTarget
from specmeasure.records.costs import CostTable, DraftCosts
from specmeasure.records.plan import Sampling
from specmeasure.records.replay import CandidateFacts, CandidateScores, TargetScores
from specmeasure.records.trace import ModelFacts
from specmeasure.run.plausibility import ResponseFit

DraftedBatch = Mapping[int, Mapping[int, CandidateScores]]  # by candidate's place, then answer's


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeTarget:
    """Tell a ``ReplayedTarget``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerTurns:
    """Let the target answer; tells an ``Answered`` as each answer ends."""

    asked: Mapping[int, Asked]  # by place
    batch_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Answers of one sampling setting that are read together."""

    index: int
    sampling: Sampling
    answers: Mapping[int, Finished]  # by place


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTarget:
    """Read the target along a batch, and what reads its own pass; tells a ``TargetScored``."""

    batch: Batch
    readers: Sequence[int]  # places of candidates
    is_recorded: bool  # the answers' fit to the target is wanted, too


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreDrafts:
    """Score candidates that share a draft along a batch; tells a ``DraftsScored``."""

    batch: Batch
    places: Sequence[int]  # of candidates


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeTarget:
    """Time steps and verifications; tells a ``TimedTarget``."""

    contexts: Sequence[Sequence[int]]
    most: int  # drafts of a block


@dataclass(frozen=True, slots=True, kw_only=True)
class Weigh:
    """Weigh and time one candidate; tells a ``Weighed``."""

    place: int
    contexts: Sequence[Sequence[int]]
    most: int
    target: TargetCosts


Task = DescribeTarget | AnswerTurns | ScoreTarget | ScoreDrafts | TimeTarget | Weigh


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One answer."""

    place: int
    generated: Generated


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetScored:
    """The target along a batch."""

    positions: Mapping[int, TargetScores]  # by the answer's place
    drafted: DraftedBatch
    fit: ResponseFit | None  # None: the target gave the answers itself
    peak_memory_bytes: int  # of the worker, so far


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftsScored:
    """Candidates along a batch."""

    drafted: DraftedBatch
    models: tuple[ModelFacts, ...]  # that drafted
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedTarget:
    """The target's costs on one worker, and the table that candidates' costs are added to."""

    costs: TargetCosts
    table: CostTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """A candidate once it is scored: what it weighs, and what it costs by round."""

    facts: CandidateFacts
    rounds: tuple[DraftCosts, ...]
    peak_memory_bytes: int


Finding = ReplayedTarget | Answered | TargetScored | DraftsScored | TimedTarget | Weighed
