"""Tables without a header: which column is the prompt."""

import pytest

from specmeasure.corpus import load_corpus


def texts(name):
    return [prompt.text for prompt in load_corpus([name]).prompts]


@pytest.mark.parametrize("odd", ["And 4?\tN/A", "\tN/A", "42\t7"])
def test_the_column_is_held(save, odd):
    """Rows that look otherwise take no other column, and a blank prompt is dropped."""
    lines = ["How many are 2 and 3?\t5", "And 1?\t1,200", "And 2?\t3", odd]
    save("a.tsv", "\n".join(lines) + "\n")

    prompt = odd.split("\t")[0]
    expected = ["How many are 2 and 3?", "And 1?", "And 2?", *([prompt] if prompt else [])]

    assert expected == texts("a.tsv")


def test_several_columns_of_words(save, refusal):
    """The user says which."""
    save("a.tsv", "How many, you say?\tfive of them\n")

    assert "2 of its columns hold text. Pass --column 1" in refusal("a.tsv")


def test_no_column_of_words(save, refusal):
    """Numbers alone are no prompts."""
    save("a.tsv", "1\t2\n3\t4\n")

    assert "0 of its columns hold text" in refusal("a.tsv")


def test_many_rows(save):
    """Rows after those that decide are read like them."""
    save("a.tsv", "".join(f"What is {n} and {n}?\t{2 * n}\n" for n in range(500)))

    assert 500 == len(texts("a.tsv"))


def test_an_unnamed_index_is_no_missing_header(save):
    """As pandas writes its index: the other columns have names."""
    save("a.csv", ",question,answer\n0,What is up?,The sky\n")

    (prompt,) = load_corpus(["a.csv"]).prompts

    assert ("What is up?", ("The sky",)) == (prompt.messages[0].content, prompt.references)
