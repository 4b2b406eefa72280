import torch
from hypothesis import given
from hypothesis import strategies as st

from specmeasure.proposers.ngram import NgramProposer
from specmeasure.records.plan import NgramPick

EARLIEST, LATEST = NgramPick.EARLIEST, NgramPick.LATEST


def proposer(
    max_ngram: int = 3, min_ngram: int = 1, pick: NgramPick = NgramPick.EARLIEST
) -> NgramProposer:
    return NgramProposer(
        max_ngram=max_ngram, min_ngram=min_ngram, pick=pick, device=torch.device("cpu")
    )


def drafts(ids: list[int], num_tokens: int, pick: NgramPick = EARLIEST, **sizes: int) -> list[int]:
    one = proposer(**sizes, pick=pick)
    one.begin(ids)
    return one.propose(num_tokens).tokens.tolist()


def test_longest_match_wins():
    """A longer suffix is looked up before a shorter one, wherever it stands."""
    assert [9] == drafts([1, 2, 9, 7, 2, 8, 1, 2], 1, max_ngram=2)


def test_earliest_occurrence_wins():
    """Among equal matches the first is continued, as vLLM and transformers do."""
    assert [5, 3] == drafts([3, 5, 3, 6, 3], 2, max_ngram=1)


def test_latest_occurrence_wins_where_asked():
    """The most recent of equal matches is continued, as far as there is something to continue."""
    assert [6, 3] == drafts([3, 5, 3, 6, 3], 4, LATEST, max_ngram=1)
    assert [1] == drafts([1, 1, 1], 4, LATEST, max_ngram=1)


def test_longest_match_wins_over_the_latest():
    """The pick chooses among occurrences of one n-gram, never a shorter n-gram."""
    assert [9] == drafts([1, 2, 9, 7, 2, 8, 1, 2], 1, LATEST, max_ngram=2)


def test_nothing_to_say_is_an_empty_proposal():
    """An unknown suffix, or one shorter than the smallest n-gram, drafts nothing."""
    assert [] == drafts([1, 2, 3], 4)
    assert [] == drafts([1], 4, max_ngram=3, min_ngram=2)
    assert [] == drafts([1, 1, 1], 0)


def test_emitted_tokens_are_looked_up_too():
    """The answer itself becomes part of what is searched."""
    one = proposer(max_ngram=2, min_ngram=2)
    one.begin([4, 5])
    for token in (6, 4, 5):
        one.propose(2)
        one.commit(0, token)

    assert [6, 4] == one.propose(2).tokens.tolist()


def written_out(ids: list[int], sizes: range, pick: NgramPick) -> list[int]:
    """All that follows the n-gram, found by scanning the ids."""
    for size in sizes:
        starts = [i for i in range(len(ids) - size) if ids[i : i + size] == ids[-size:]]
        if len(ids) >= size and starts:
            return ids[(starts[0] if pick is EARLIEST else starts[-1]) + size :]
    return []


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
    st.integers(0, 40),
    st.integers(1, 6),
    st.tuples(st.integers(1, 5), st.integers(1, 5)).map(sorted),
    st.sampled_from(NgramPick),
)
def test_equals_a_search_written_out(ids, num_prompt, num_tokens, sizes, pick):
    """After a prompt and every emitted token the index finds what a scan finds, in any sizes."""
    shortest, longest = sizes
    one = proposer(longest, shortest, pick)
    one.begin(ids[:num_prompt])
    for place in range(num_prompt, len(ids)):
        one.propose(num_tokens)
        one.commit(0, ids[place])
    expected = written_out(ids, range(longest, shortest - 1, -1), pick)[:num_tokens]

    assert expected == one.propose(num_tokens).tokens.tolist()
