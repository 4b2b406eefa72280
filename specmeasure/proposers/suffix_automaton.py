"""A suffix automaton that counts: every substring that was read, how often it stood there.

Blumer et al. 1985 (The smallest automaton recognizing the subwords of a text); several sequences
share one automaton. Knows nothing of drafting.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from sys import getsizeof

ROOT, NOWHERE = 0, -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The most frequent continuation of a substring."""

    token: int
    state: int  # of the substring with the token
    share: float  # of the places where anything followed


class SuffixAutomaton:
    """States are sets of substrings that end at the same places; ``ROOT`` is the empty one.

    A new token takes amortised constant time, and one step for each set of places at which the
    sequence's suffixes end: few in text, one per token in a run of one and the same.

    Args:
        transitions: by state, token → the state of the longer substring.
        link: by state, that of its longest suffix that stands at more places.
        length: by state, of its longest substring.
        count: by state, at how many places it ends.
        latest: by state, number of tokens that had been read where it was last seen to end.
    """

    def __init__(self) -> None:
        self.transitions: list[dict[int, int]] = [{}]
        self.link = array("i", [NOWHERE])
        self.length = array("i", [0])
        self.count = array("i", [0])
        self.latest = array("i", [0])
        self.last = ROOT  # the whole of the sequence that is being read
        self.num_tokens = 0

    def begin(self) -> None:
        """Start another sequence: no substring spans two."""
        self.last = ROOT

    def append(self, token: int) -> None:
        """Read one more token of the sequence, and count all suffixes that it completes."""
        self.last = self._extended(self.last, token)
        self.num_tokens += 1
        state = self.last
        while state > ROOT:
            self.count[state] += 1
            self.latest[state] = self.num_tokens
            state = self.link[state]

    def read(self, tokens: Sequence[int]) -> list[int]:
        """The states of all prefixes of a sequence that was appended before."""
        states, state = [], ROOT
        for token in tokens:
            state = self.transitions[state][token]
            states.append(state)
        return states

    @property
    def num_bytes(self) -> int:
        """Of memory, without the token ids, which are shared."""
        arrays = (self.link, self.length, self.count, self.latest)
        return (
            sum(map(getsizeof, arrays))
            + getsizeof(self.transitions)
            + sum(map(getsizeof, self.transitions))
        )

    def _extended(self, last: int, token: int) -> int:
        """The state of the sequence at ``last`` with one more token."""
        known = self.transitions[last].get(token)
        if known is not None:  # an earlier sequence went on like this
            return self._exactly(last, token, known)
        state = self._add(self.length[last] + 1, {})
        place = last
        while place != NOWHERE and token not in self.transitions[place]:
            self.transitions[place][token] = state
            place = self.link[place]
        if place != NOWHERE:
            found = self._exactly(place, token, self.transitions[place][token])
            self.link[state] = found
        return state

    def _exactly(self, place: int, token: int, found: int) -> int:
        """The state whose longest substring is that of ``place`` with the token: split if need be.

        What is longer in ``found`` stands at fewer places from now on.
        """
        length = self.length[place] + 1
        if self.length[found] == length:
            return found
        short = self._add(length, dict(self.transitions[found]))
        self.link[short] = self.link[found]
        self.count[short], self.latest[short] = self.count[found], self.latest[found]
        self.link[found] = short
        while place != NOWHERE and self.transitions[place].get(token) == found:
            self.transitions[place][token] = short
            place = self.link[place]
        return short

    def _add(self, length: int, transitions: dict[int, int]) -> int:
        self.transitions.append(transitions)
        self.link.append(ROOT)
        self.length.append(length)
        self.count.append(0)
        self.latest.append(0)
        return len(self.transitions) - 1


class Match:
    """The longest suffix of a growing context that an automaton knows, at any length."""

    def __init__(self, automaton: SuffixAutomaton) -> None:
        self._automaton = automaton
        self.state = ROOT
        self.length = 0

    def append(self, token: int) -> None:
        """Follow the context by one token, in amortised constant time."""
        automaton = self._automaton
        while self.state != ROOT and token not in automaton.transitions[self.state]:
            self.state = automaton.link[self.state]
            self.length = automaton.length[self.state]
        following = automaton.transitions[self.state].get(token)
        if following is not None:
            self.state = following
            self.length += 1
