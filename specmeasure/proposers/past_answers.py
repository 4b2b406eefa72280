"""Earlier answers, indexed once and shared by all arms; a prompt's own are left out exactly.

An answer never helps itself: whoever decodes a prompt draws on no earlier answer of the same
conversation, whichever turn it answered.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from specmeasure.proposers.suffix_automaton import ROOT, Step, SuffixAutomaton

MOST_TOKENS = 1 << 18  # of answers that are indexed, the last ones; about 150 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class PastAnswer:
    """What was answered, and how its conversation began."""

    opening_ids: tuple[int, ...]  # the first turn's context
    token_ids: tuple[int, ...]
    other_openings: tuple[tuple[int, ...], ...] = ()  # the same, as it may be sent as well


class PastAnswers:
    """A counting automaton over answers; no substring spans two.

    Args:
        answers: oldest first.
        most_tokens: only the last answers of so many tokens together are indexed.
    """

    def __init__(self, answers: Sequence[PastAnswer], *, most_tokens: int = MOST_TOKENS) -> None:
        kept = _last(answers, most_tokens)
        self.automaton = SuffixAutomaton()
        self.num_answers = len(kept)
        self.num_left_out = len(answers) - len(kept)
        self._openings: list[tuple[bytes, ...]] = []  # of each answer
        self._answers = [answer.token_ids for answer in kept]
        self._steps: dict[int, Step | None] = {}
        for answer in kept:
            self.automaton.begin()
            for token in answer.token_ids:
                self.automaton.append(token)
            self._openings.append(tuple(map(_packed, (answer.opening_ids, *answer.other_openings))))

    @property
    def num_bytes(self) -> int:
        """Of memory that the index takes, without the token ids."""
        return self.automaton.num_bytes

    def own_counts(self, context_ids: Sequence[int]) -> Mapping[int, int]:
        """By state, how often its substrings stand in answers of this context's conversation.

        These are the answers whose opening begins the context, or is begun by it.
        """
        context = _packed(context_ids)
        own = [
            token_ids
            for openings, token_ids in zip(self._openings, self._answers, strict=True)
            if any(context.startswith(one) or one.startswith(context) for one in openings)
        ]
        ends = Counter(state for token_ids in own for state in self.automaton.read(token_ids))
        return self._with_suffixes(ends)

    def step(self, state: int, own_counts: Mapping[int, int]) -> Step | None:
        """What followed a substring most often, in answers of other conversations.

        Of equally frequent tokens the smallest id is taken: the order of answers says nothing.
        """
        if state in own_counts:
            return self._found_step(state, own_counts)
        if state not in self._steps:
            self._steps[state] = self._found_step(state, {})
        return self._steps[state]

    def _found_step(self, state: int, own_counts: Mapping[int, int]) -> Step | None:
        following, count = self.automaton.transitions[state], self.automaton.count
        counts = {one: count[after] - own_counts.get(after, 0) for one, after in following.items()}
        total = sum(counts.values())
        if not total:
            return None
        token = min(counts, key=lambda one: (-counts[one], one))
        return Step(token=token, state=following[token], share=counts[token] / total)

    def _with_suffixes(self, counts: Counter[int]) -> Counter[int]:
        """Counts of where prefixes end, handed on to the states of their suffixes."""
        link, length = self.automaton.link, self.automaton.length
        touched = set(counts)
        for end in counts:
            state = link[end]
            while state > ROOT and state not in touched:
                touched.add(state)
                state = link[state]
        for state in sorted(touched, key=length.__getitem__, reverse=True):
            if link[state] > ROOT:
                counts[link[state]] += counts[state]
        return counts


def _last(answers: Sequence[PastAnswer], most_tokens: int) -> list[PastAnswer]:
    """The last answers that fit, in order."""
    kept: list[PastAnswer] = []
    room = most_tokens
    for answer in reversed(answers):
        room -= len(answer.token_ids)
        if room < 0:
            break
        kept.append(answer)
    return kept[::-1]


def _packed(ids: Iterable[int]) -> bytes:
    """Ids as bytes, as many for each, so that one begins another exactly if their bytes do."""
    return array("q", ids).tobytes()
