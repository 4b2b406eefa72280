"""Suffix lookup: what followed the context's suffixes of any length, in itself and in past answers.

Oliaro et al. 2024 (SuffixDecoding, arXiv:2411.04975), section 3, as a chain. Every suffix that
stood before is followed along its most frequent continuation. A draft's chance is estimated as the
product of these frequencies; a block ends where it would fall below ``MIN_TOKEN_PROB``, and after
``MAX_SPEC_FACTOR`` times the tokens that matched. The suffix whose first ``HORIZON`` drafts have
the largest sum of chances drafts; of equal ones the longer match, then the context itself before
the past. Drafts are point masses, so that the frequencies decide nothing but what is tried.

Unlike vLLM's method of this name a match may have any length, and the sum does not depend on K, so
that fewer drafts are always the beginning of more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from specmeasure.proposers.past_answers import PastAnswers
from specmeasure.proposers.suffix_automaton import ROOT, Match, Step, SuffixAutomaton
from specmeasure.records.suffix import MAX_SPEC_FACTOR, MIN_TOKEN_PROB
from specmeasure.speculate.placing import put_tokens
from specmeasure.speculate.proposal import Proposal

HORIZON = 16  # drafts that suffixes are compared by


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """What one suffix would draft."""

    tokens: list[int]
    score: float = 0.0  # sum of the first drafts' chances: how many are expected to be kept
    num_matching: int = 0  # tokens of the suffix


NOTHING = Continuation(tokens=[])


class Source(Protocol):
    """Counted text in which the context's suffixes are looked up."""

    @property
    def automaton(self) -> SuffixAutomaton:
        """Of the text."""

    def longest(self) -> tuple[int, int]:
        """State and length of the context's longest suffix that stood in the text before."""

    def step(self, state: int) -> Step | None:
        """What followed most often; None where nothing did."""


class OwnContext:
    """Prompt and answer so far. Of equally frequent continuations the most recent is taken."""

    def __init__(self, prompt_ids: Sequence[int]) -> None:
        self.automaton = SuffixAutomaton()
        for token in prompt_ids:
            self.append(token)

    def append(self, token: int) -> None:
        """The context grew."""
        self.automaton.append(token)

    def longest(self) -> tuple[int, int]:
        """The longest suffix that stands somewhere else as well."""
        state = max(ROOT, self.automaton.link[self.automaton.last])
        return state, self.automaton.length[state]

    def step(self, state: int) -> Step | None:
        """See ``Source``."""
        following, automaton = self.automaton.transitions[state], self.automaton
        if not following:
            return None
        count, latest = automaton.count, automaton.latest
        token = max(following, key=lambda one: (count[following[one]], latest[following[one]]))
        total = sum(count[one] for one in following.values())
        return Step(token=token, state=following[token], share=count[following[token]] / total)


class OthersAnswers:
    """Past answers without those of the context's own conversation."""

    def __init__(self, past: PastAnswers, prompt_ids: Sequence[int]) -> None:
        self.automaton = past.automaton
        self._past = past
        self._own: Mapping[int, int] = past.own_counts(prompt_ids)
        self._match = Match(past.automaton)
        for token in prompt_ids:
            self.append(token)

    def append(self, token: int) -> None:
        """The context grew."""
        self._match.append(token)

    def longest(self) -> tuple[int, int]:
        """The longest suffix that an answer of another conversation holds."""
        state, length = self._match.state, self._match.length
        count = self.automaton.count
        while state != ROOT and count[state] == self._own.get(state, 0):
            state = self.automaton.link[state]
            length = self.automaton.length[state]
        return state, length

    def step(self, state: int) -> Step | None:
        """See ``Source``."""
        return self._past.step(state, self._own)


class SuffixProposer:
    """Looks up in prompt and answer, and in past answers of other conversations."""

    def __init__(self, *, past: PastAnswers | None = None, device: torch.device) -> None:
        self._past = past
        self._device = device
        self._sources: tuple[OwnContext | OthersAnswers, ...] = ()
        self._drafts: list[int] = []

    def begin(self, prompt_ids: Sequence[int]) -> None:
        """Index the prompt, and leave its own conversation's answers out of the past."""
        self._drafts = []
        past = () if self._past is None else (OthersAnswers(self._past, prompt_ids),)
        self._sources = (OwnContext(prompt_ids), *past)

    def propose(self, num_tokens: int) -> Proposal:
        """The best continuation's first drafts, at most ``num_tokens``; maybe nothing."""
        best = NOTHING
        for source in self._sources:  # of equal ones the first stays
            found = best_continuation(source, most=max(num_tokens, HORIZON))
            best = max(best, found, key=lambda one: (one.score, one.num_matching))
        self._drafts = best.tokens[:num_tokens]
        return Proposal(tokens=put_tokens(self._drafts, self._device))

    def commit(self, num_accepted: int, next_token: int) -> None:
        """Index what was emitted."""
        for token in (*self._drafts[:num_accepted], next_token):
            for source in self._sources:
                source.append(token)


def best_continuation(source: Source, *, most: int) -> Continuation:
    """The suffix of the largest score; of equal ones the longest.

    Suffixes that stand at the same places go on alike, so that one of each kind is tried: the
    longest, which may draft most.
    """
    best = NOTHING
    state, length = source.longest()
    while state != ROOT:
        budget = int(length * MAX_SPEC_FACTOR)
        if min(budget, HORIZON) <= best.score:  # shorter ones cannot be better
            break
        found = _follow(source, state, length, most=min(budget, most))
        if found.score > best.score:
            best = found
        state = source.automaton.link[state]
        length = source.automaton.length[state]
    return best


def _follow(source: Source, state: int, length: int, *, most: int) -> Continuation:
    tokens: list[int] = []
    chance, score = 1.0, 0.0
    while len(tokens) < most:
        step = source.step(state)
        if step is None or chance * step.share < MIN_TOKEN_PROB:
            break
        chance, state = chance * step.share, step.state
        if len(tokens) < HORIZON:
            score += chance
        tokens.append(step.token)
    return Continuation(tokens=tokens, score=score, num_matching=length)
