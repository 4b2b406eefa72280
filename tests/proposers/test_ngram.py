import torch
from hypothesis import given
from hypothesis import strategies as st

from specmeasure.proposers.ngram import NgramProposer


def proposer(max_ngram: int = 3, min_ngram: int = 1) -> NgramProposer:
    return NgramProposer(max_ngram=max_ngram, min_ngram=min_ngram, device=torch.device("cpu"))


def drafts(ids: list[int], num_tokens: int, **sizes: int) -> list[int]:
    one = proposer(**sizes)
    one.begin(ids)
    return one.propose(num_tokens).tokens.tolist()


def test_longest_match_wins():
    """A longer suffix is looked up before a shorter one, wherever it stands."""
    assert [9] == drafts([1, 2, 9, 7, 2, 8, 1, 2], 1, max_ngram=2)


def test_earliest_occurrence_wins():
    """Among equal matches the first is continued, as vLLM and transformers do."""
    assert [5, 3] == drafts([3, 5, 3, 6, 3], 2, max_ngram=1)


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


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 6))
def test_equals_a_search_written_out(ids, num_tokens):
    """The index finds what a scan from the left finds."""
    expected: list[int] = []
    for size in (3, 2, 1):
        starts = [i for i in range(len(ids) - size) if ids[i : i + size] == ids[-size:]]
        if len(ids) >= size and starts:
            start = starts[0] + size
            expected = ids[start : start + num_tokens]
            break

    assert expected == drafts(ids, num_tokens)
