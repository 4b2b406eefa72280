"""The one seam between a run and whatever decodes."""

from collections.abc import Sequence
from typing import Protocol

from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Arm, DecodeSettings, Sampling
from specmeasure.records.trace import (
    Audit,
    Divergence,
    ModelFacts,
    Observation,
    SampledAudit,
    TokenProbs,
)


class Engine(Protocol):
    """Decodes one context with one arm, and says what it saw."""

    models: tuple[ModelFacts, ...]  # target first
    num_threads: int  # of the CPU
    warnings: tuple[str, ...]  # what a reader of the brief should know about the set-up

    def context_ids(self, prompt: Prompt, replies: Sequence[str]) -> list[int]:
        """Token ids of the prompt's next turn, after ``replies`` to the turns before it."""

    def reply_text(self, token_ids: Sequence[int]) -> str:
        """What an answer says, as the next turn's context sees it."""

    def context_limit(self, arm: Arm) -> int | None:
        """Most tokens, prompt and answer, that the arm's models can hold; None: no limit known."""

    def observe(
        self, context_ids: Sequence[int], arm: Arm, settings: DecodeSettings
    ) -> Observation:
        """Decode once and record every block."""

    def audit(
        self,
        context_ids: Sequence[int],
        token_ids: Sequence[int],
        divergence: Divergence | None,
    ) -> Audit:
        """Teacher-force a greedy answer through the target.

        Args:
            context_ids: what it answers.
            token_ids: what was emitted.
            divergence: from the baseline's answer; the audit adds its gap and its noise.
        """

    def audit_sampled(
        self, context_ids: Sequence[int], seen: Observation, arm: Arm, settings: DecodeSettings
    ) -> SampledAudit:
        """Teacher-force a sampled answer through target and draft.

        Args:
            context_ids: what it answers.
            seen: the answer, its blocks with their draft ids.
            arm: that gave it.
            settings: it was sampled with, but for the seed: the audit's own.
        """

    def token_probs(
        self, context_ids: Sequence[int], seen: Observation, arm: Arm, sampling: Sampling
    ) -> TokenProbs:
        """Chances of an answer's tokens and of its rejected drafts."""
