from specmeasure.decode.stopping import Cut, Stopping, StopTexts
from specmeasure.records.trace import FinishReason

WORDS = ["Yes", ".", " So", " what", "\n", "\n\n", "END", "E", "ND", ""]


def spell(token_ids):
    return "".join(WORDS[token] for token in token_ids)


def stopping(*texts, eos=(), budget=100):
    stop = StopTexts(texts=texts, detokenise=spell) if texts else None
    return Stopping(max_new_tokens=budget, eos_ids=frozenset(eos), stop_texts=stop)


def test_a_stop_text_ends_where_it_is_complete():
    """The token that completes the text is the last one that the user receives."""
    assert Cut(num_tokens=2, reason=FinishReason.STOP) == stopping("END").cut([0], [7, 8, 2])


def test_a_stop_text_may_begin_in_an_earlier_block():
    """Two newlines, the first emitted by the block before."""
    assert Cut(num_tokens=1, reason=FinishReason.STOP) == stopping("\n\n").cut([0, 4], [4, 3])


def test_blocks_do_not_matter_to_stops():
    """However an answer is cut into blocks, it ends at the same token."""
    answer = [0, 1, 2, 3, 4, 7, 9, 8, 2, 2]
    whole = stopping("END", "nothing").cut([], answer).num_tokens
    for size in range(1, 6):
        emitted = []
        reason = None
        while reason is None:
            cut = stopping("END", "nothing").cut(emitted, answer[len(emitted) :][:size])
            emitted += answer[len(emitted) :][: cut.num_tokens]
            reason = cut.reason

        assert (whole, FinishReason.STOP) == (len(emitted), reason)


def test_eos_wins_over_a_budget_spent_by_it():
    """An answer whose last allowed token is EOS ended by itself."""
    assert FinishReason.EOS is stopping(eos=[1], budget=2).cut([0], [1]).reason


def test_the_budget_ends_an_answer():
    """Nothing else did, and no token is left."""
    assert Cut(num_tokens=1, reason=FinishReason.BUDGET) == stopping(budget=2).cut([0], [3])


def test_an_open_answer_goes_on():
    """No reason to stop, everything received."""
    assert Cut(num_tokens=2, reason=None) == stopping("END", eos=[1]).cut([0], [3, 4])
