"""The one seam between a run and whatever decodes."""

from collections.abc import Sequence
from typing import Protocol

from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Arm, DecodeSettings
from specmeasure.records.trace import Audit, ModelFacts, Observation


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

    def audit(self, context_ids: Sequence[int], token_ids: Sequence[int]) -> Audit:
        """Teacher-force a greedy answer through the target (no baseline comparison yet)."""
