import random

from hypothesis import given
from hypothesis import strategies as st

from specmeasure.proposers.suffix_automaton import ROOT, Match, SuffixAutomaton

TOKENS = st.lists(st.integers(0, 2), max_size=25)


def read(*texts: list[int]) -> SuffixAutomaton:
    automaton = SuffixAutomaton()
    for text in texts:
        automaton.begin()
        for token in text:
            automaton.append(token)
    return automaton


def num_occurrences(texts: list[list[int]], wanted: list[int]) -> int:
    size = len(wanted)
    return sum(text[i : i + size] == wanted for text in texts for i in range(len(text) - size + 1))


@given(st.lists(TOKENS, max_size=4))
def test_counts_every_substring(texts):
    """A substring of several texts is counted as often as it stands in them, overlaps too."""
    automaton = read(*texts)
    for text in texts:
        for start in range(len(text)):
            for end in range(start + 1, len(text) + 1):
                state = automaton.read(text[start:end])[-1]

                assert num_occurrences(texts, text[start:end]) == automaton.count[state]


@given(st.lists(TOKENS, min_size=1, max_size=3))
def test_knows_nothing_else(texts):
    """No path spells what stands in no text: two texts are not joined."""
    automaton = read(*texts)
    spelled, paths = 0, [(ROOT, [])]
    while paths:
        state, path = paths.pop()
        for token, following in automaton.transitions[state].items():
            spelled += 1
            paths.append((following, [*path, token]))

            assert num_occurrences(texts, [*path, token])

    assert (
        len({tuple(t[i:j]) for t in texts for i in range(len(t)) for j in range(i + 1, len(t) + 1)})
        == spelled
    )


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40))
def test_link_is_the_longest_suffix_seen_before(ids):
    """The last state's link is the longest suffix that stands somewhere else as well."""
    automaton = read(ids)
    expected = max(
        size
        for size in range(len(ids))
        if num_occurrences([ids], ids[len(ids) - size :]) > 1 or not size
    )

    assert expected == automaton.length[automaton.link[automaton.last]]


@given(st.lists(TOKENS, max_size=3), TOKENS)
def test_match_is_the_longest_known_suffix(texts, context):
    """A growing context is followed at the longest of its suffixes that stands in a text."""
    match = Match(read(*texts))
    for place, token in enumerate(context, start=1):
        match.append(token)
        expected = max(
            size
            for size in range(place + 1)
            if not size or num_occurrences(texts, context[place - size : place])
        )

        assert expected == match.length


@given(TOKENS)
def test_latest_place_is_remembered(ids):
    """Every substring knows where it was seen last."""
    automaton = read(ids)
    for size in range(1, len(ids) + 1):
        for start in range(len(ids) - size + 1):
            state = automaton.read(ids[start : start + size])[-1]
            expected = max(
                i + size for i in range(len(ids)) if ids[i : i + size] == ids[start : start + size]
            )

            assert expected == automaton.latest[state]


def test_grows_with_the_text():
    """At most two states a token (Blumer et al. 1985), and its memory is counted."""
    rng = random.Random(1)
    short, long = (read(rng.choices(range(50), k=size)) for size in (1_000, 4_000))

    assert len(long.link) < 2 * 4_000
    assert 3 < long.num_bytes / short.num_bytes < 5
