"""Suffix lookup against searches written out, and the past without one's own answers."""

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from specmeasure.proposers.past_answers import PastAnswer, PastAnswers
from specmeasure.proposers.suffix import HORIZON, SuffixProposer
from specmeasure.records.suffix import MAX_SPEC_FACTOR, MIN_TOKEN_PROB

CPU = torch.device("cpu")
IDS = st.lists(st.integers(0, 2), min_size=1, max_size=24)
PAST = st.lists(
    st.builds(
        lambda opening, answer: PastAnswer(opening_ids=tuple(opening), token_ids=tuple(answer)),
        st.lists(st.integers(0, 2), min_size=1, max_size=3),
        IDS,
    ),
    max_size=5,
)


def drafts(
    prompt: list[int], num_tokens: int, past: list[PastAnswer] | None = None, *emitted: int
) -> list[int]:
    index = None if past is None else PastAnswers(past)
    one = SuffixProposer(past=index, device=CPU)
    one.begin(prompt)
    for token in emitted:
        one.propose(num_tokens)
        one.commit(0, token)
    return one.propose(num_tokens).tokens.tolist()


def is_own(answer: PastAnswer, context: list[int]) -> bool:
    shared = min(len(answer.opening_ids), len(context))
    return list(answer.opening_ids[:shared]) == context[:shared]


def followers(texts: list[list[int]], wanted: list[int]) -> list[tuple[int, int]]:
    """What followed, as places and tokens."""
    size = len(wanted)
    return [
        (i, text[i + size])
        for text in texts
        for i in range(len(text) - size)
        if text[i : i + size] == wanted
    ]


def stands(texts: list[list[int]], wanted: list[int]) -> int:
    size = len(wanted)
    return sum(t[i : i + size] == wanted for t in texts for i in range(len(t) - size + 1))


def followed(texts: list[list[int]], suffix: list[int], most: int, *, recent: bool) -> list:
    """Score and drafts of one suffix."""
    drafted: list[int] = []
    chance, score = 1.0, 0.0
    while len(drafted) < most:
        seen = followers(texts, suffix + drafted)
        counts = Counter(token for _, token in seen)
        last = {token: place for place, token in seen}
        if not counts:
            break
        token = max(counts, key=lambda one: (counts[one], last[one] if recent else -one))
        chance *= counts[token] / len(seen)
        if chance < MIN_TOKEN_PROB:
            break
        score += chance if len(drafted) < HORIZON else 0
        drafted.append(token)
    return [score, len(suffix), drafted]


def searched(context: list[int], others: list[list[int]], num_tokens: int) -> list[int]:
    """The rule by quadratic search: every suffix, in the context and in others' answers."""
    found = [[0.0, 0, []]]
    for texts, recent in (([context], True), (others, False)):
        for size in range(len(context) - recent, 0, -1):
            suffix = context[len(context) - size :]
            if stands(texts, suffix) > recent:
                most = min(int(size * MAX_SPEC_FACTOR), max(num_tokens, HORIZON))
                found.append(followed(texts, suffix, most, recent=recent))
    best = max(found, key=lambda one: (one[0], one[1]))  # of equal ones the first: the context's
    return best[2][:num_tokens]


@given(IDS, IDS, PAST, st.integers(1, 6))
def test_equals_a_search_written_out(prompt, emitted, past, num_tokens):
    """In the context and in others' answers the automata find what trying all suffixes finds."""
    others = [list(one.token_ids) for one in past if not is_own(one, prompt)]

    assert searched(prompt + emitted, others, num_tokens) == drafts(
        prompt, num_tokens, past, *emitted
    )


@given(IDS, IDS, PAST, st.integers(1, 6))
def test_an_answer_never_helps_itself(prompt, emitted, past, num_tokens):
    """A past without a conversation's own answers drafts as if they had never been indexed."""
    own = [
        PastAnswer(opening_ids=tuple(prompt), token_ids=tuple(emitted)),
        PastAnswer(opening_ids=tuple(prompt), token_ids=tuple(emitted[:1] * 3)),
    ]
    others = [one for one in past if not is_own(one, prompt)]

    assert drafts(prompt, num_tokens, others, *emitted) == drafts(
        prompt, num_tokens, own[:1] + others + own[1:], *emitted
    )


@given(IDS, IDS)
def test_only_its_own_answer_is_no_past(prompt, emitted):
    """With nothing but the conversation's own answer in the past, it drafts as without a past."""
    own = [PastAnswer(opening_ids=tuple(prompt), token_ids=tuple(emitted))]

    assert drafts(prompt, 4, None, *emitted) == drafts(prompt, 4, own, *emitted)


@given(IDS, PAST, st.integers(1, 24), st.integers(1, 24))
def test_fewer_drafts_begin_more(prompt, past, few, many):
    """K cuts a block and never chooses another, so that one replay knows every K."""
    few, many = sorted((few, many))

    assert drafts(prompt, few, past) == drafts(prompt, many, past)[:few]


def test_any_length_matches():
    """A long repeat is followed, however far back, for as many tokens as matched."""
    line = list(range(10, 30))

    assert line[10:20] == drafts([*line, 1, 2, *line[:10]], 32)


def test_later_turns_are_left_out():
    """An answer to a later turn of the same conversation helps no earlier turn either."""
    later = PastAnswer(opening_ids=(1, 2), token_ids=(5, 6, 7, 8, 9))

    assert [7, 8] == drafts([3, 5, 6], 8, [later])
    assert [] == drafts([1, 2, 5, 6], 8, [later])
    assert [] == drafts([1], 8, [later], 2, 5, 6)


def test_the_most_frequent_continuation_is_taken():
    """What followed in most past answers is drafted, whatever came last."""
    past = [PastAnswer(opening_ids=(7,), token_ids=(1, 2, 3, after, after)) for after in (4, 4, 5)]

    assert [4, 4] == drafts([0, 1, 2, 3], 2, past)


def test_the_past_is_bounded():
    """The last answers that fit are indexed; how many are not is known."""
    answers = [PastAnswer(opening_ids=(9,), token_ids=(n, n, n)) for n in range(5)]
    past = PastAnswers(answers, most_tokens=7)

    assert (2, 3, 6) == (past.num_answers, past.num_left_out, past.automaton.num_tokens)
    assert {3, 4} == past.automaton.transitions[0].keys()
    assert past.num_bytes > 0


def test_nothing_to_say_is_an_empty_proposal():
    """What never stood before drafts nothing; nor does a budget of none."""
    assert [] == drafts([1, 2, 3], 4)
    assert [] == drafts([1, 1, 1], 0)
    assert [] == drafts([], 4)
