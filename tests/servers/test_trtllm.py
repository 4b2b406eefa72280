"""TensorRT-LLM's streams, constructed from its protocol's fields of 2026: none was recorded here.

The fields of ``speculative_decoding`` are those that clients of it read; the releases that have
them are not known here.
"""

from copy import deepcopy

import pytest

from specmeasure.errors import UnexpectedReply
from specmeasure.records.corpus import Message
from specmeasure.records.plan import DecodeSettings, Sampling
from specmeasure.records.serving import Evidence
from specmeasure.records.trace import FinishReason
from specmeasure.servers.server import Ask
from specmeasure.servers.trtllm import TrtllmDialect
from tests.servers.streams import documents, reply_of

STREAM = "trtllm-constructed-draft.sse"


def streamed(**changes: object) -> list[dict]:
    """The constructed stream with changed draft totals; None takes a field away."""
    objects = deepcopy(documents(STREAM))
    stats = next(
        choice["speculative_decoding"]
        for item in objects
        for choice in item["choices"]
        if "speculative_decoding" in choice
    )
    stats.update(changes)
    for name in [name for name, value in stats.items() if value is None]:
        del stats[name]
    return objects


def test_totals_and_histogram_are_read():
    """Of the choice that ends the answer."""
    reply = reply_of(TrtllmDialect(), streamed())

    assert FinishReason.BUDGET == reply.finish_reason
    assert (5, 8) == (reply.num_prompt_tokens, reply.num_emitted_tokens)
    assert (12, 4, 3) == (
        reply.counts.num_draft_tokens,
        reply.counts.num_accepted_tokens,
        reply.counts.num_drafted_blocks,
    )
    assert (1, 1, 0, 1, 0) == reply.counts.histogram
    assert reply.token_ids is None


def test_totals_alone_are_counters():
    """What a version leaves out is not known."""
    reply = reply_of(TrtllmDialect(), streamed(acceptance_histogram=None, num_spec_steps=None))

    assert Evidence.COUNTERS == reply.counts.evidence
    assert reply.counts.num_drafted_blocks is None


@pytest.mark.parametrize("field", ["total_draft_tokens", "total_accepted_draft_tokens"])
def test_missing_or_renamed_totals_are_unknown(field):
    """Nothing is made of tokens per iteration, which says nothing of drafts."""
    objects = streamed(**{field: None, "renamed": 7})
    ended = next(item for item in objects if item["choices"][0]["finish_reason"])

    assert 2.67 == ended["choices"][0]["avg_decoded_tokens_per_iter"]
    assert reply_of(TrtllmDialect(), objects).counts is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"total_draft_tokens": "12"}, r"choices\[0\].speculative_decoding.total_draft_tokens is"),
        ({"total_draft_tokens": 3}, "contradicts itself: accepted 4 of 3"),
        ({"acceptance_histogram": [3, 0]}, "the histogram say 0 accepted tokens"),
    ],
)
def test_wrong_totals_are_refused(changes, words):
    """By name."""
    with pytest.raises(UnexpectedReply, match=words):
        reply_of(TrtllmDialect(), streamed(**changes))


@pytest.mark.parametrize(
    ("reason", "expected"), [(None, FinishReason.EOS), ("\n\n", FinishReason.STOP)]
)
def test_a_stop_text_is_told_from_eos(reason, expected):
    """The text that matched, or nothing."""
    objects = streamed()
    for item in objects:
        if item["choices"][0]["finish_reason"]:
            item["choices"][0] |= {"finish_reason": "stop", "stop_reason": reason}

    assert expected == reply_of(TrtllmDialect(), objects).finish_reason


def test_only_fields_that_it_knows_are_sent():
    """It refuses others."""
    settings = DecodeSettings(sampling=Sampling(temperature=0.5), seed=3)
    body = TrtllmDialect().post(Ask(context=(1, 2), settings=settings, num_logprobs=2), "m").body

    assert {
        "model": "m",
        "prompt": [1, 2],
        "max_tokens": 128,
        "temperature": 0.5,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "seed": 3,
        "n": 1,
        "ignore_eos": False,
        "add_special_tokens": False,
        "stream": True,
        "stream_options": {"include_usage": True},
    } == body


def test_a_chat_is_rendered_by_its_template():
    """No special tokens are asked for beyond the template's."""
    ask = Ask(context=(Message(role="user", content="Say it."),), settings=DecodeSettings())
    post = TrtllmDialect().post(ask, "m")

    assert "/v1/chat/completions" == post.path
    assert "add_special_tokens" not in post.body
