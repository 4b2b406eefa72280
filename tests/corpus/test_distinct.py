from hypothesis import given, settings
from hypothesis import strategies as st

from specmeasure.corpus import load_corpus
from specmeasure.corpus.distinct import unique_ids
from specmeasure.records.corpus import Corpus


def ids(corpus: Corpus) -> list[str]:
    return [prompt.prompt_id for prompt in corpus.prompts]


def test_duplicates_are_dropped_and_counted(load_rows):
    """A prompt that asks what an earlier one asked is dropped, whatever its id or category."""
    corpus = load_rows(
        {"id": "a", "prompt": "hi", "category": "x"},
        {"id": "b", "prompt": "ho"},
        {"id": "c", "text": "hi"},
    )

    assert ["a", "b"] == ids(corpus)
    assert [(("rows.jsonl:3",), "duplicate")] == [(d.places, d.reason) for d in corpus.dropped]


def test_chat_and_text_are_no_duplicates(load_rows):
    """The same words sent as a chat and as a text are two requests."""
    assert 2 == len(load_rows({"question": "hi"}, {"prompt": "hi"}).prompts)


def test_duplicates_across_files(save):
    """Files count what they keep, and the duplicates that they hold of earlier files."""
    save("a.jsonl", [{"id": 1, "prompt": "hi"}])
    save("b.jsonl", [{"id": 1, "prompt": "ho"}, {"id": 2, "prompt": "hi"}])

    corpus = load_corpus(["a.jsonl", "b.jsonl"])

    assert [1, 1] == [file.num_prompts for file in corpus.files]
    assert ["a-1", "b-1"] == ids(corpus)
    assert ("b.jsonl:2",) == corpus.files[1].dropped[0].places


def test_duplicates_do_not_make_ids_collide(save):
    """A copy of a file changes no id: its prompts are gone before ids are compared."""
    save("a.jsonl", [{"id": 1, "prompt": "hi"}])
    save("b.jsonl", [{"id": 1, "prompt": "hi"}])

    assert ["1"] == ids(load_corpus(["a.jsonl", "b.jsonl"]))


def test_equal_stems_get_numbers():
    """Where the stem does not tell ids apart, a number does; no taken id is used."""
    stems = ["f", "f", "g", "g", "f"]

    assert ["f-1", "f-1#2", "g-1", "g-1#3", "g-1#2"] == unique_ids(
        ["1", "1", "1", "1", "g-1#2"], stems
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["1", "a-1", "a-a-1", "a-1#2"]), st.sampled_from("ab"))))
def test_ids_are_unique(pairs):
    """Whatever ids and stems there are, no two prompts share an id and lone ids are kept."""
    before = [pair[0] for pair in pairs]
    after = unique_ids(before, [pair[1] for pair in pairs])

    assert len(pairs) == len(set(after))
    assert all(old == new for old, new in zip(before, after, strict=True) if before.count(old) == 1)
