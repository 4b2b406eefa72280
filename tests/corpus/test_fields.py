import pytest

from specmeasure.records.corpus import Prompt

CHAT = [{"role": "user", "content": "hi"}]


def said(prompt: Prompt) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in prompt.messages]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": CHAT, "prompt": "no", "turns": ["no"]},
        {"custom_id": "1", "method": "POST", "body": {"model": "m", "messages": CHAT}},
        {"conversations": [{"from": "human", "value": "hi"}], "text": "no"},
        {"turns": ["hi"], "reference": ["no"]},
        {"turns": "hi"},
        {"turns": CHAT},
        {"instruction": "hi", "input": "", "output": "no"},
        {"instruction": "hi", "output": "no", "text": "hi no"},
        {"question": "hi", "answer": "no"},
        {"question": [CHAT], "function": [{"name": "greet"}]},
        {"messages": None, "prompt": "", "question": "hi"},
    ],
)
def test_chat_fields(load_rows, row):
    """Fields that ask a chat model become messages, by the order of recognition."""
    assert [("user", "hi")] == said(load_rows(row).prompts[0])


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "hi", "completion": "no", "response": "no"},
        {"prompt": ["hi"]},
        {"body": {"prompt": "hi", "max_tokens": 5}},
        {"text": "hi", "code": "no", "task_id": 1},
        {"prompt": "hi", "text": " "},
        {"prompt": "hi", "turns": 2},
    ],
)
def test_completion_fields(load_rows, row):
    """Fields that hold a bare prompt become a completion text."""
    assert "hi" == load_rows(row).prompts[0].text


@pytest.mark.parametrize("extra", ["input", "context"])
def test_instruction_with_input(load_rows, extra):
    """Alpaca's input and Dolly's context stand below the instruction, after a blank line."""
    prompt = load_rows({"instruction": "Sum up.", extra: "Long text"}).prompts[0]

    assert [("user", "Sum up.\n\nLong text")] == said(prompt)


def test_instruction_with_input_by_name(load_rows):
    """Naming the field of an ambiguous row does not lose the input."""
    row = {"instruction": "Sum up.", "input": "Long text", "text": "else"}

    assert [("user", "Sum up.\n\nLong text")] == said(
        load_rows(row, field="instruction").prompts[0]
    )


@pytest.mark.parametrize(
    ("path", "row"),
    [
        ("a.b", {"a": {"b": "hi"}}),
        ("a[1].b", {"a": [0, {"b": "hi"}]}),
        ("a[0][0]", {"a": [["hi"]]}),
        ("a.b", {"a.b": "hi"}),
        ("output", {"prompt": "no", "output": "hi"}),
    ],
)
def test_field_path(load_rows, path, row):
    """A path leads through names and indices, and wins over what is recognised."""
    assert "hi" == load_rows(row, field=path).prompts[0].text


@pytest.mark.parametrize(
    "value", [["hi", "ho"], [{"role": "user", "content": "hi"}, {"role": "user", "content": "ho"}]]
)
def test_field_path_to_turns(load_rows, value):
    """At a path, a list of strings is turns and a list of objects is messages."""
    prompt = load_rows({"log": {"asked": value}}, field="log.asked").prompts[0]

    assert [("user", "hi"), ("user", "ho")] == said(prompt)


@pytest.mark.parametrize("path", ["data.question", "data.turns"])
def test_field_path_keeps_the_meaning_of_the_name(load_rows, path):
    """A string under a chat name is a chat wherever it stands."""
    leaf = path.rpartition(".")[2]

    assert [("user", "hi")] == said(load_rows({"data": {leaf: "hi"}}, field=path).prompts[0])


def test_format_names_the_fields(load_rows):
    """A file says which fields its prompts came from, in order of appearance."""
    corpus = load_rows({"turns": ["a"]}, {"prompt": "b"}, {"turns": ["c"]})

    assert "jsonl, FastChat turns, field prompt" == corpus.files[0].format


def test_ambiguous_row(refuse_row):
    """Several fields that could each be the prompt are never chosen between, nor skipped."""
    row = {"prompt": "a", "question": "b", "text": "c"}
    expected = (
        "rows.jsonl:1: fields question, prompt, text could each be the prompt. "
        "Pass --field question, or another of them."
    )

    assert expected == refuse_row(row)
    assert expected == refuse_row(row, skip_bad_lines=True)


def test_unknown_fields(refuse_row):
    """A row without a known field is told which fields it has and which one may be meant."""
    expected = (
        "rows.jsonl:1: no field is known as a prompt; this row has id, answer, query. "
        "Pass --field query, or pass --skip-bad-lines."
    )

    assert expected == refuse_row({"id": "1", "answer": "x", "query": "y"})


def test_unknown_fields_with_a_nested_prompt(refuse_row):
    """A known name one level down is offered as a path."""
    message = refuse_row({"user": "u", "call": {"model": "m", "messages": CHAT}})

    assert message.endswith("Pass --field call.messages, or pass --skip-bad-lines.")


def test_no_fields(refuse_row):
    """An empty object has no field to offer."""
    expected = (
        "rows.jsonl:1: no field is known as a prompt; this row has no fields. "
        "Pass --field NAME, or pass --skip-bad-lines."
    )

    assert expected == refuse_row({})


def test_missing_path(refuse_row):
    """A path that leads nowhere is told what the row has."""
    expected = (
        "rows.jsonl:1: nothing at field 'a[3].c'; this row has a. "
        "Pass --field a, or pass --skip-bad-lines."
    )

    assert expected == refuse_row({"a": [{"b": "x"}]}, field="a[3].c")


def test_malformed_path(refuse_row):
    """A path that cannot be one is an error of the request, not of the line."""
    expected = "rows.jsonl:1: no path 'a[x]'. Pass --field NAME, or a path as in a.b or a[0].b."

    assert expected == refuse_row({"a": "x"}, field="a[x]", skip_bad_lines=True)


def test_length_only_trace(refuse_row):
    """A Mooncake trace holds no text, so no acceptance can be measured on it."""
    expected = (
        "rows.jsonl:1: this trace has lengths (input_length, output_length, hash_ids) but holds "
        "no text. Record the prompts themselves: acceptance cannot be measured on lengths, "
        "or pass --skip-bad-lines."
    )
    row = {"timestamp": 0, "input_length": 9, "output_length": 5, "hash_ids": [1]}

    assert expected == refuse_row(row)


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2], [3]]])
def test_token_ids(load_rows, prompt):
    """A list of whole numbers is a prompt that was tokenised before; a list of lists, several."""
    corpus = load_rows({"prompt": prompt})

    assert (1, 2, 3) == sum((one.token_ids for one in corpus.prompts), ())


def test_list_of_prompts(refuse_row, load_rows):
    """Several strings are a batch to some and turns to others; naming the field means turns."""
    expected = (
        "rows.jsonl:1: field prompt is a list of several strings. Pass --field prompt to replay "
        "them as the turns of one chat, or write one row for each, or pass --skip-bad-lines."
    )

    assert expected == refuse_row({"prompt": ["a", "b"]})
    assert 2 == len(load_rows({"prompt": ["a", "b"]}, field="prompt").prompts[0].turns)


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"prompt": 7}, "field prompt is a number, not text or a list"),
        ({"prompt": {"text": "x"}}, "field prompt is an object, not text or a list"),
        ({"messages": "x"}, "field messages is a string that is no prompt"),
        ({"turns": [True]}, "field turns holds numbers that are no token ids"),
        ({"turns": ["a", None]}, "turns[1] is null, not a string"),
        ({"turns": [None]}, "field turns is a list that is no prompt"),
        ({"instruction": "x", "input": ["y"]}, "field input is a list, not a string"),
    ],
)
def test_wrong_types(refuse_row, row, found):
    """A field of the wrong type is named with its type, never with its value."""
    assert refuse_row(row).startswith(f"rows.jsonl:1: {found}. ")


def test_long_names_are_shortened(refuse_row):
    """A field name that may be a prompt itself is not quoted in full."""
    message = refuse_row({"x" * 500: 1, **{f"f{i}": 1 for i in range(30)}})

    assert f"this row has {'x' * 40}…, f0, f1" in message
    assert "f18 and 11 more. Pass --field NAME" in message
