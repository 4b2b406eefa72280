from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specmeasure.corpus import load_corpus
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import CorpusOptions

thoroughly = settings(
    # Files are overwritten, so the folder may be shared; the machine may be busy.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
words = st.text("ab \n\ud800", max_size=3)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
known_names = st.sampled_from(
    ["messages", "body", "conversations", "turns", "instruction", "input", "prompt", "text", "id"]
)
message_keys = st.sampled_from(["role", "content", "from", "value", "tool_calls"])
messages = st.lists(st.dictionaries(message_keys, json_values | st.just("user")), max_size=3)
rows = st.dictionaries(known_names, json_values | messages, max_size=4)


def test_corpus_keeps_order_and_reports_files(save):
    """Prompts stand in the order of files and lines, and each file says how it was read."""
    save("b.txt", "three\n")
    save("a.jsonl", [{"turns": ["one"]}, {"turns": ["two"]}])

    corpus = load_corpus(["a.jsonl", "b.txt"])

    assert ["a.jsonl:1", "a.jsonl:2", "b.txt:1"] == [prompt.source for prompt in corpus.prompts]
    assert [
        ("a.jsonl", "jsonl, FastChat turns", 2),
        ("b.txt", "text, one prompt per line", 1),
    ] == [(file.path, file.format, file.num_prompts) for file in corpus.files]


def test_nothing_left(save, refusal):
    """A corpus without prompts is an error that counts why."""
    save("a.jsonl", [{"prompt": " "}, {"turns": []}, {"messages": [{"role": "system"}]}, {"x": 1}])
    expected = (
        "no prompt is left to replay: 2 x empty prompt; 1 x no user message; "
        "1 x no field is known as a prompt; this row has x. "
        "Pass other files, or --field NAME."
    )

    assert expected == refusal("a.jsonl", skip_bad_lines=True)


def test_nothing_left_for_many_reasons(save, refusal):
    """A long list of reasons is cut, with the rest counted."""
    save("a.jsonl", [{f"x{i}": 1} for i in range(9)])

    assert "; 4 x other reasons. Pass" in refusal("a.jsonl", skip_bad_lines=True)


def test_first_bad_line_ends_the_reading(save, refusal):
    """Without skip_bad_lines there is one error, for the first bad row."""
    save("a.jsonl", [{"prompt": "x"}, {"prompt": 1}, {"prompt": 2}])
    expected = (
        "a.jsonl:2: field prompt is a number, not text or a list. "
        "Pass --field NAME, or pass --skip-bad-lines."
    )

    assert expected == refusal("a.jsonl")


@thoroughly
@given(st.lists(rows, min_size=1, max_size=4))
def test_any_rows_are_read_skipped_or_refused(save, values):
    """Whatever JSON a row holds, it becomes a prompt, a reason or one clear error."""
    save("a.jsonl", values)
    try:
        corpus = load_corpus(["a.jsonl"], CorpusOptions(skip_bad_lines=True))
    except UnreadableCorpus:
        return

    assert len(values) <= len(corpus.prompts) + sum(one.num_rows for one in corpus.dropped)
    assert 64 == len(corpus.fingerprint)


@thoroughly
@given(st.binary(max_size=60), st.sampled_from(["a.jsonl", "a.json", "a.txt", "a.log"]))
def test_any_bytes_are_read_or_refused(save, content, name):
    """No bytes lead to anything but a corpus or one clear error that names the file."""
    save(name, content)
    try:
        load_corpus([name])
    except UnreadableCorpus as error:
        assert str(error).startswith((name, "no prompt is left"))


@thoroughly
@given(st.recursive(st.just("SECRET"), lambda x: st.lists(x) | st.dictionaries(known_names, x)))
def test_no_value_is_ever_quoted(save, value):
    """Prompts are private: errors and reasons hold names, types and positions only."""
    save("a.jsonl", [{"prompt": value}, {"messages": value}, {"turns": value}, {"body": value}])
    try:
        corpus = load_corpus(["a.jsonl"])
    except UnreadableCorpus as error:
        assert "SECRET" not in str(error)
    else:
        assert not any("SECRET" in one.reason for one in corpus.dropped)
