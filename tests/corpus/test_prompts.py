import json

import pytest

from specmeasure.corpus import load_corpus
from specmeasure.records.corpus import CorpusOptions


@pytest.mark.parametrize("name", ["id", "question_id", "task_id", "custom_id", "prompt_id"])
@pytest.mark.parametrize("value", ["x/1", 1])
def test_id_of_the_row(load_rows, name, value):
    """The file's own id is kept, as a string."""
    assert str(value) == load_rows({name: value, "prompt": "hi"}).prompts[0].prompt_id


@pytest.mark.parametrize("value", [None, "", " ", True, ["x"]])
def test_id_from_the_line(load_rows, value):
    """Without a usable id, the file's stem and the line name the prompt."""
    corpus = load_rows({"prompt": "a", "id": "x"}, {"prompt": "b", "id": value})

    assert ["x", "rows-0002"] == [prompt.prompt_id for prompt in corpus.prompts]


def test_id_from_the_index(save):
    """In an array the index, counted as in the source, names the prompt."""
    save("a.json", json.dumps([{"prompt": "x"}]))
    prompt = load_corpus(["a.json"]).prompts[0]

    assert ("a-0000", "a.json[0]") == (prompt.prompt_id, prompt.source)


def test_category_of_the_row(load_rows):
    """`category` is the category; type, task and subset are not."""
    row = {"prompt": "hi", "category": "maths", "type": "no", "task": "no", "subset": "no"}

    assert "maths" == load_rows(row).prompts[0].category


@pytest.mark.parametrize("name", ["code.jsonl", "code.jsonl.gz", "in/code.txt", "code.log"])
def test_category_from_the_file(save, name):
    """Without one, the file's stem is the category."""
    save(name, [{"prompt": "hi", "category": None}])

    assert "code" == load_corpus([name]).prompts[0].category


@pytest.mark.parametrize(
    "row", [{"prompt": "hi"}, {"text": "hi"}, {"question": "hi"}, {"turns": ["hi"]}]
)
def test_forced_to_a_chat(load_rows, row):
    """chat=chat wraps a string as one user message."""
    prompt = load_rows(row, chat="chat").prompts[0]

    assert [("user", "hi")] == [(message.role, message.content) for message in prompt.messages]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "hi"},
        {"question": "hi"},
        {"turns": ["hi"]},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]},
    ],
)
def test_forced_to_a_completion(load_rows, row):
    """chat=completion sends the only user message as a text."""
    assert "hi" == load_rows(row, chat="completion").prompts[0].text


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
        [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}],
    ],
)
def test_long_chat_is_no_completion(refuse_row, messages):
    """More than one message cannot be sent as a text without a template: always an error."""
    expected = (
        "rows.jsonl:1: a chat of 2 messages cannot be sent as a completion. "
        "Pass --chat auto, or leave multi-turn and system-prompt chats out."
    )

    assert expected == refuse_row({"messages": messages}, chat="completion", skip_bad_lines=True)


def test_text_file_as_a_chat(save):
    """Lines of text can be forced to chats, too."""
    save("a.txt", "hi\n")

    assert load_corpus(["a.txt"]).prompts[0].text
    assert load_corpus(["a.txt"], CorpusOptions(chat="chat")).prompts[0].messages


def test_empty_prompts_are_skipped(load_rows):
    """White space is no prompt."""
    corpus = load_rows({"prompt": ""}, {"question": " \n"}, {"turns": ["", " "]}, {"prompt": "x"})

    assert [("empty prompt", 3)] == [(one.reason, one.num_rows) for one in corpus.dropped]


@pytest.mark.parametrize("row", [{"prompt": "\ud800"}, {"prompt": "x", "id": "\udc00"}])
def test_half_a_surrogate_pair(refuse_row, row):
    """Text that no tokenizer can encode is refused before a model is loaded."""
    expected = (
        "rows.jsonl:1: a string holds half a surrogate pair, which is not Unicode text. "
        "Write the whole pair or the character itself, or pass --skip-bad-lines."
    )

    assert expected == refuse_row(row)
