"""Which prompts the models of a run can hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Plan


class Tokenises(Protocol):
    """What is asked of an engine here."""

    def context_ids(self, prompt: Prompt, replies: Sequence[str]) -> list[int]:
        """Token ids of the prompt's next turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How long a prompt's first context is, and why the prompt cannot be replayed, if it cannot."""

    num_tokens: int
    reason: str | None = None


def fit_of(prompt: Prompt, engine: Tokenises, plan: Plan, limit: int | None) -> Fit:
    """Whether a prompt's first turn fits.

    Args:
        prompt: to be asked.
        engine: that reads it.
        plan: with the budget, unless the prompt asks for another.
        limit: tokens that the models hold; None: no limit is known.
    """
    try:
        num_tokens = len(engine.context_ids(prompt, []))
    except UnreadableCorpus as error:
        return Fit(num_tokens=0, reason=str(error).removeprefix(f"{prompt.source}: "))
    if num_tokens == 0:
        return Fit(num_tokens=0, reason="no tokens")
    budget = plan.settings_for(prompt.asked).max_new_tokens
    if limit is None or num_tokens + budget <= limit:
        return Fit(num_tokens=num_tokens)
    reason = f"prompt and {budget} new tokens pass the models' context of {limit} tokens"
    return Fit(num_tokens=num_tokens, reason=reason)
