import pytest

from specmeasure.records.corpus import Prompt

USER = {"role": "user", "content": "hi"}
REPLY = {"role": "assistant", "content": "ho"}
IMAGE = {"type": "image_url", "image_url": {"url": "secret"}}


def said(prompt: Prompt) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in prompt.messages]


def talk(*pairs: tuple[str, str]) -> dict[str, object]:
    return {"conversations": [{"from": speaker, "value": words} for speaker, words in pairs]}


def test_recorded_answer_is_dropped(load_rows):
    """All assistant messages at the end are dropped, those before are context."""
    prompt = load_rows({"messages": [USER, REPLY, USER, REPLY, REPLY]}).prompts[0]

    assert [("user", "hi"), ("assistant", "ho"), ("user", "hi")] == said(prompt)


def test_roles_are_kept(load_rows):
    """OpenAI roles stay as the file says, also the opening assistant's."""
    roles = ["developer", "assistant", "user", "tool"]
    row = {"messages": [{"role": role, "content": role} for role in roles]}

    assert roles == [message.role for message in load_rows(row).prompts[0].messages]


def test_recorded_answer_is_not_read(load_rows):
    """An answer that is no text does not matter: it is dropped anyway."""
    answer = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}

    assert [("user", "hi")] == said(load_rows({"messages": [USER, answer]}).prompts[0])


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
        [{"text": "one"}, "two"],
        [{"type": "input_text", "text": "one"}, {"type": "text", "text": "two"}],
    ],
)
def test_text_parts_are_joined(load_rows, content):
    """The text parts of a message become one string, as servers do it."""
    row = {"messages": [{"role": "user", "content": content}]}

    assert [("user", "one\ntwo")] == said(load_rows(row).prompts[0])


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([{"role": "user", "content": [IMAGE]}], "a message holds a part that is not text"),
        (
            [{"role": "user", "content": [{"type": ["x"]}]}],
            "a message holds a part that is not text",
        ),
        ([REPLY], "no user message"),
        ([{"role": "system", "content": "be kind"}], "no user message"),
        ([], "empty prompt"),
        ([{"role": "user", "content": " \n"}], "empty prompt"),
    ],
)
def test_chat_that_cannot_be_replayed_is_skipped(load_rows, messages, reason):
    """What is understood but cannot be replayed is skipped with a reason, not an error."""
    corpus = load_rows({"messages": messages}, {"prompt": "other"})

    assert [(("rows.jsonl:1",), reason)] == [(one.places, one.reason) for one in corpus.dropped]
    assert 1 == len(corpus.prompts)


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ([{"content": "x"}], "messages[0] has no role"),
        ([USER, "x"], "messages[1] is a string, not an object"),
        ([{"role": "user"}], "messages[0].value is null, not text"),
        ([{"role": "user", "content": 3}], "messages[0].content is a number, not text"),
        ([{"role": "user", "content": [3]}], "messages[0].content[0] is a number, not an object"),
        (
            [{"role": "user", "content": [{"type": "text"}]}],
            "messages[0].content[0].text is null, not a string",
        ),
    ],
)
def test_malformed_messages(refuse_row, messages, found):
    """A malformed message is an error that names its position."""
    expected = (
        f'rows.jsonl:1: {found}. Write {{"role": ..., "content": ...}}, or pass --skip-bad-lines.'
    )

    assert expected == refuse_row({"messages": messages})


def test_sharegpt_speakers(load_rows):
    """ShareGPT's speakers are the four roles; the last answer is dropped."""
    row = talk(
        ("system", "s"), ("human", "a"), ("GPT", "b"), ("user", "c"), ("bing", "d"),
        ("human", "e"), ("chatgpt", "f"), ("observation", "g"), ("bard", "h"),
    )  # fmt: skip
    roles = ["system", "user", "assistant", "user", "assistant", "user", "assistant", "tool"]

    assert roles == [message.role for message in load_rows(row).prompts[0].messages]


def test_sharegpt_opening_answers_are_dropped(load_rows):
    """A talk that was cut so that it opens with answers begins with its first user."""
    row = talk(("gpt", "a"), ("system", "b"), ("gpt", "c"), ("human", "d"))

    assert [("system", "b"), ("user", "d")] == said(load_rows(row).prompts[0])


def test_sharegpt_unknown_speaker(refuse_row):
    """A speaker without a role is an error that lists the known ones, not the one found."""
    message = refuse_row(talk(("secret", "a")))

    assert message.startswith(
        "rows.jsonl:1: conversations[0].from is no known speaker. Use one of "
    )
    assert "secret" not in message


def test_user_turns_follow_each_other(load_rows):
    """Strings under turns are user messages, each a turn to decode."""
    prompt = load_rows({"turns": ["a", "b"]}).prompts[0]

    assert [("user", "a"), ("user", "b")] == said(prompt)
    assert 2 == len(prompt.turns)
