"""The plain protocol: what is sent, what is read, and what stays unknown."""

import pytest

from specmeasure.errors import UnexpectedReply
from specmeasure.records.corpus import Message
from specmeasure.records.plan import DecodeSettings, Sampling
from specmeasure.records.serving import ServingEngine
from specmeasure.servers.dialects import dialect_of
from specmeasure.servers.openai import OpenaiDialect
from specmeasure.servers.refusals import own_words
from specmeasure.servers.server import Ask
from tests.servers.streams import reply_of

STANDARD = {"model", "prompt", "max_tokens", "temperature", "top_p", "n", "stream"} | {
    "stream_options",
    "frequency_penalty",
    "presence_penalty",
}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


def said(**choice: object) -> dict:
    return {"choices": [{"index": 0, **choice}]}


def test_standard_fields_alone():
    """A strict server refuses what it does not know."""
    body = OpenaiDialect().post(Ask(context="Hi", settings=DecodeSettings()), "m").body

    assert STANDARD == set(body)
    assert (0.0, 1.0, 128) == (body["temperature"], body["top_p"], body["max_tokens"])


def test_what_is_asked_beyond_them_is_sent():
    """Rather a refusal than an answer to another question."""
    sampling = Sampling(temperature=0.5, top_k=20, top_p=0.9)
    settings = DecodeSettings(sampling=sampling, stop=("END",), seed=4)
    ask = Ask(context="Hi", settings=settings, ignore_eos=True)
    body = OpenaiDialect().post(ask, "m").body

    assert STANDARD | {"top_k", "ignore_eos", "stop", "seed"} == set(body)
    assert (20, 0.9, ["END"], 4) == (body["top_k"], body["top_p"], body["stop"], body["seed"])


def test_a_chat_goes_to_the_chat_path():
    """With all that its messages hold."""
    chat = (Message(role="tool", content="4", extras='{"tool_call_id": "c1"}'),)
    post = OpenaiDialect().post(Ask(context=chat, settings=DecodeSettings()), "m")

    assert "/v1/chat/completions" == post.path
    assert [{"role": "tool", "content": "4", "tool_call_id": "c1"}] == post.body["messages"]


def test_counts_come_from_usage():
    """Three pieces, two tokens: pieces are not counted."""
    stream = [said(text="a"), said(text="b"), said(text="", finish_reason="length")]
    reply = reply_of(OpenaiDialect(), [*stream, {"choices": [], "usage": USAGE}])

    assert (3, 2) == (reply.num_prompt_tokens, reply.num_emitted_tokens)
    assert ("ab", None, None) == (reply.text, reply.token_ids, reply.counts)
    assert (1.0, 2.0) == (reply.ttft_s, reply.decode_s)


def test_without_usage_nothing_is_counted():
    """None, not the number of pieces."""
    reply = reply_of(OpenaiDialect(), [said(text="a", finish_reason="stop")])

    assert (None, None) == (reply.num_prompt_tokens, reply.num_emitted_tokens)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_thoughts_are_timed_and_no_part_of_the_answer(name):
    """Reasoning is emitted before the answer; the role alone is nothing."""
    stream = [
        said(delta={"role": "assistant", "content": ""}),
        said(delta={name: "hm", "content": None}),
        said(delta={"content": "4"}, finish_reason=None),
        said(delta={}, finish_reason="stop"),
    ]
    reply = reply_of(OpenaiDialect(), stream)

    assert ("4", 2.0, 2.0) == (reply.text, reply.ttft_s, reply.decode_s)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "a streamed object is a list, not an object"),
        ({"choices": {}}, "choices is an object, not a list"),
        ({"choices": ["a"]}, r"choices\[0\] is a text, not an object"),
        (said(text=5), r"choices\[0\].text is a number, not a text"),
        (said(delta="a"), r"choices\[0\].delta is a text, not an object"),
        (said(delta={"content": []}), r"choices\[0\].delta.content is a list, not a text"),
        (said(text="", finish_reason=1), r"choices\[0\].finish_reason is a number, not a text"),
        (
            {"choices": [], "usage": {"completion_tokens": 1.5}},
            "usage.completion_tokens is a fract",
        ),
        ({"choices": [], "usage": {"prompt_tokens": -2}}, "usage.prompt_tokens is a negative"),
        ({"choices": [{}, {}]}, "2 choices, 1 was asked for"),
        ({"error": {"message": "secret", "type": "overloaded"}}, r"an error \(overloaded\)$"),
        ({"error": "secret"}, "an error$"),
        ({"error": {"type": "no, 'secret'", "code": 7}}, r"an error \(7\)$"),
    ],
)
def test_other_types_are_named(document, words):
    """The field by its path; its value, which may be text, is not quoted."""
    with pytest.raises(UnexpectedReply, match=words) as caught:
        OpenaiDialect().read(document)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("reason", ["content_filter", "abort"])
def test_a_cut_answer_is_no_answer(reason):
    """Neither EOS nor the budget ended it."""
    with pytest.raises(UnexpectedReply, match=reason):
        reply_of(OpenaiDialect(), [said(text="a", finish_reason=reason)])


@pytest.mark.parametrize("stream", [[], [{"choices": []}], [said(text="a")]])
def test_a_stream_without_an_end_is_no_answer(stream):
    """However much of it came."""
    with pytest.raises(UnexpectedReply, match="stream ended without"):
        reply_of(OpenaiDialect(), stream)


@pytest.mark.parametrize("engine", ServingEngine)
def test_every_engine_has_its_dialect(engine):
    """Each speaks for itself."""
    assert engine is dialect_of(engine).engine


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("max_tokens=40 is over max_model_len=10.", ": max_tokens=40 is over max_model_len=10."),
        ("Unknown field 'my secret plan'", ": Unknown field …"),
        ('bad input: {"prompt": "x"}', ": bad input: …"),
        ("could not parse my secret plan for the day", ""),
        ("first line\nmy secret plan", ": first line"),
        ("x" * 300, f": {'x' * 200}…"),
        (None, ""),
    ],
)
def test_a_refusal_is_shown_without_what_was_asked(message, shown):
    """Quotations are left out, and whole messages that repeat the prompt."""
    request = {"model": "m", "prompt": "Tell me my secret plan for the day, in short."}

    assert shown == own_words({"error": {"message": message}}, request)


def test_the_protocols_own_words_are_shown():
    """Roles, the model's name and settings are no texts of a user."""
    request = {
        "model": "llama-3",
        "messages": [{"role": "user", "content": "Tell me more"}],
        "samplers": ["temperature"],
    }
    message = "llama-3 takes no temperature from a user"

    assert f": {message}" == own_words({"error": {"message": message}}, request)


def test_short_prompts_are_not_repeated_either():
    """A prompt of one word is a text, too."""
    assert "" == own_words({"error": {"message": "no zebra"}}, {"prompt": "zebra"})
    assert "" == own_words({"error": "zebra"}, {"prompt": "a zebra crossed the harbour"})
    chat = {"messages": [{"role": "user", "content": "zebra"}]}
    assert "" == own_words({"error": {"message": "no zebra", "type": "zebra"}}, chat)
