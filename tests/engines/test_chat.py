import json
from dataclasses import replace

import pytest

from specmeasure import demo
from specmeasure.engines.chat import ChatTokenizer
from specmeasure.engines.loading import load_tokenizer
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import Message, Prompt
from specmeasure.records.plan import ModelOptions

TOOLS = json.dumps([{"type": "function", "function": {"name": "book_table", "parameters": {}}}])
SHOWS_TOOLS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for call in m.tool_calls or [] %}[{{ call.function.name }}]{% endfor %}{% endfor %}"
)


@pytest.fixture
def tokenizer():
    return load_tokenizer(demo.TARGET, ModelOptions())


def prompt(*messages, **changes):
    said = messages or (Message(role="user", content="A table for two, please."),)
    return Prompt(prompt_id="1", category="c", source="f.jsonl:3", messages=said, **changes)


def with_template(tokenizer, template):
    tokenizer.chat_template = template
    return ChatTokenizer(tokenizer)


def test_tools_go_through_the_template(tokenizer):
    """A template that knows tools is shown them."""
    chat = with_template(tokenizer, SHOWS_TOOLS)

    assert "book_table" in chat.text(chat.context_ids(prompt(tools=TOOLS), []))
    assert not chat.ignores_tools(prompt(tools=TOOLS))


def test_a_template_without_tools_is_found_out(tokenizer):
    """What the model never sees is reported, not assumed."""
    assert ChatTokenizer(tokenizer).ignores_tools(prompt(tools=TOOLS))


def test_tool_calls_of_the_history_reach_the_template(tokenizer):
    """An assistant message that called a tool is context like any other."""
    calls = json.dumps({"tool_calls": [{"function": {"name": "find_table", "arguments": {}}}]})
    talk = (
        Message(role="user", content="A table?"),
        Message(role="assistant", content="", extras=calls),
        Message(role="tool", content="none free"),
    )
    chat = with_template(tokenizer, SHOWS_TOOLS)

    assert "[find_table]" in chat.text(chat.context_ids(prompt(*talk), []))


def test_token_ids_stay_as_they_are(tokenizer):
    """A prompt that was tokenised before is not tokenised again."""
    given = Prompt(prompt_id="1", category="c", source="f:1", token_ids=(5, 6, 7))

    assert [5, 6, 7] == ChatTokenizer(tokenizer).context_ids(given, [])


def test_ids_of_another_tokenizer_are_refused(tokenizer):
    """An id beyond the vocabulary would be another model's token."""
    given = Prompt(prompt_id="1", category="c", source="f:1", token_ids=(5, 10**6))

    with pytest.raises(UnreadableCorpus, match="f:1: a token id is 1000000"):
        ChatTokenizer(tokenizer).context_ids(given, [])


def test_bos_is_sent_once(tokenizer):
    """A text that brings its own BOS gets no second one, and that is counted."""
    text = tokenizer.bos_token + "Hello"
    given = Prompt(prompt_id="1", category="c", source="f:1", text=text)
    chat = ChatTokenizer(tokenizer)
    adds_bos = chat.context_ids(replace(given, text="Hello"), [])[0] == tokenizer.bos_token_id

    assert 1 == chat.context_ids(given, []).count(tokenizer.bos_token_id)
    assert adds_bos == chat.doubles_bos(given)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('roles must alternate') }}", ": roles must alternate"),
        ("{{ raise_exception(messages[0].content) }}", ""),
    ],
)
def test_a_refusal_speaks_the_templates_words_only(tokenizer, template, said):
    """What a template builds from a prompt is not repeated."""
    with pytest.raises(UnreadableCorpus) as refusal:
        with_template(tokenizer, template).context_ids(prompt(), [])

    assert f"f.jsonl:3: the target's chat template refuses these messages{said}" == str(
        refusal.value
    )
