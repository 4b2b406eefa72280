"""Heads that are trained on a frozen target: what was asked for, and what came of it."""

from dataclasses import dataclass

from specmeasure.records.corpus import Dropped
from specmeasure.records.machine import Environment
from specmeasure.records.request import Request
from specmeasure.records.trace import CorpusFacts, ModelFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSettings:
    """The heads, and how they are trained."""

    num_heads: int = 4  # H
    num_layers: int = 1  # residual blocks of each head
    head_weight: float = 0.8  # head h's loss counts head_weight ** h
    num_epochs: int = 4
    batch_size: int = 8  # answers a step
    learning_rate: float = 1e-3  # its peak
    warmup_share: float = 0.05  # of all steps
    held_out_share: float = 0.05  # of the prompts; at least one
    learns_prompts: bool = False  # the prompts' own tokens count, too
    num_checks: int = 20  # on held-out prompts, along the training
    steps_per_checkpoint: int = 200

    def __post_init__(self) -> None:
        counts = ("num_heads", "num_epochs", "batch_size", "num_checks", "steps_per_checkpoint")
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is at least 1")
        if self.num_layers < 0:
            raise ValueError(f"num_layers is {self.num_layers}; it is at least 0")
        if self.head_weight <= 0 or self.learning_rate <= 0:
            raise ValueError("head_weight and learning_rate are above 0")
        if not (0 < self.held_out_share < 1 and 0 <= self.warmup_share < 1):
            raise ValueError("held_out_share is in (0, 1), warmup_share in [0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadTrainingRequest:
    """One training."""

    request: Request  # its plan's one arm is the baseline: how the target answers
    settings: HeadSettings = HeadSettings()
    use_references: bool = False  # the corpus's recorded responses, not the target's own answers
    answers_at_once: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsCheck:
    """The heads on held-out prompts after some steps; by head, the nearest first.

    A head that no held-out token was left for has None.
    """

    step: int
    training_loss: float | None  # nats, weighted over heads, since the last check; None: no step
    losses: tuple[float | None, ...]  # nats a token
    top_1: tuple[float | None, ...]  # share of tokens that are the head's likeliest
    top_5: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleCounts:
    """One side of the split."""

    num_prompts: int
    num_answers: int
    num_tokens: int  # of these answers


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedHeads:
    """What a folder of trained heads says of them: training.json."""

    schema_version: int
    started_at: str  # ISO 8601, UTC
    request: HeadTrainingRequest
    corpus: CorpusFacts
    environment: Environment
    target: ModelFacts
    warnings: tuple[str, ...] = ()
    left_out: tuple[Dropped, ...] = ()  # turns that could not be answered
    learnt: ExampleCounts | None = None  # None: the answers are not all there yet
    held_out: ExampleCounts | None = None
    held_out_prompts: tuple[str, ...] = ()  # ids of prompts that the heads never learnt from
    num_steps: int | None = None
    checks: tuple[HeadsCheck, ...] = ()
    training_s: float | None = None  # of its steps and checks, none twice; None: unfinished
    is_finished: bool = False
