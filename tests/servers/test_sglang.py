"""SGLang's streams, constructed from documented fields of 0.4 to 0.5.15: none was recorded here.

One answer of nine tokens, in objects of 1, 1, 3 and 4: the first token, and blocks that kept 0, 2
and 3 of 4 drafts.
"""

from copy import deepcopy
from dataclasses import replace

import pytest

from specmeasure.errors import UnexpectedReply
from specmeasure.records.corpus import Message
from specmeasure.records.plan import DecodeSettings, Sampling
from specmeasure.records.serving import Evidence
from specmeasure.records.trace import DraftCounts, FinishReason
from specmeasure.servers.server import Ask, Reply
from specmeasure.servers.sglang import SglangDialect
from tests.servers.streams import ASK, documents, reply_of

IDS = (11, 12, 13, 14, 15, 16, 17, 18, 2)
TEXT = "one two three four five six seven eight"
COUNTS = DraftCounts(
    num_draft_tokens=12,
    num_accepted_tokens=5,
    num_drafted_blocks=3,
    histogram=(1, 0, 1, 1, 0),
)


def constructed(name: str, ask: Ask = ASK) -> Reply:
    return reply_of(SglangDialect(), documents(f"sglang-{name}.sse"), ask)


def with_meta(**changes: object) -> list[dict]:
    """The stream of 0.5.15 with changes in its last object; None takes a field away."""
    streamed = deepcopy(documents("sglang-0.5.15-constructed.sse"))
    meta = streamed[-1]["meta_info"]
    meta.update(changes)
    for name in [name for name, value in meta.items() if value is None]:
        del meta[name]
    return streamed


@pytest.mark.parametrize("name", ["0.5.15-constructed", "0.5.15-constructed-incremental"])
def test_repeating_and_incremental_streams_are_the_same_answer(name):
    """An object with as many ids as tokens were completed is all of the answer so far."""
    reply = constructed(name)

    assert IDS == reply.token_ids
    assert TEXT == reply.text
    assert (5, 9) == (reply.num_prompt_tokens, reply.num_emitted_tokens)
    assert FinishReason.EOS == reply.finish_reason
    assert COUNTS == reply.counts


def test_a_stream_without_ids_repeats_itself():
    """As old servers' do; the answer is compared as text."""
    streamed = deepcopy(documents("sglang-0.5.15-constructed.sse"))
    for item in streamed:
        del item["output_ids"]
    reply = reply_of(SglangDialect(), streamed)

    assert TEXT == reply.text
    assert reply.token_ids is None
    assert 9 == reply.num_emitted_tokens


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0.5.15-constructed", COUNTS),
        ("0.5.9-constructed", COUNTS),
        ("0.4-constructed", None),
        ("baseline-constructed", None),
        (
            "branch-constructed",
            DraftCounts(
                num_draft_tokens=11,
                num_accepted_tokens=5,
                num_drafted_blocks=3,
                steps=((4, 0), (4, 2), (3, 3)),
            ),
        ),
    ],
)
def test_counts_have_names_by_era(name, expected):
    """Verified blocks without drafted tokens say nothing, and a rate is never read."""
    assert expected == constructed(name).counts


def test_aliases_are_read_without_the_new_names():
    """They were kept for one release."""
    streamed = with_meta(
        spec_num_correct_drafts=None,
        spec_num_proposed_drafts=None,
        spec_correct_drafts_histogram=None,
    )

    assert COUNTS == reply_of(SglangDialect(), streamed).counts


def test_without_a_histogram_totals_are_counters():
    """An empty list is none."""
    streamed = with_meta(spec_correct_drafts_histogram=[], spec_accept_histogram=None)
    counts = reply_of(SglangDialect(), streamed).counts

    assert Evidence.COUNTERS == counts.evidence
    assert 3 == counts.num_drafted_blocks


@pytest.mark.parametrize(
    "missing",
    [
        ("spec_num_correct_drafts", "spec_accepted_drafts"),
        ("spec_num_proposed_drafts", "spec_proposed_drafts"),
    ],
)
def test_missing_or_renamed_counts_are_unknown(missing):
    """None, never 0, and never made of the rate."""
    streamed = with_meta(**dict.fromkeys(missing), spec_renamed=5)

    assert reply_of(SglangDialect(), streamed).counts is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spec_num_correct_drafts": "5"}, "meta_info.spec_num_correct_drafts is a text"),
        ({"spec_num_correct_drafts": 13}, "meta_info contradicts itself: accepted 13 of 12"),
        ({"spec_verify_ct": 4}, "the histogram say 3 drafted blocks, the sum 4"),
        ({"spec_correct_drafts_histogram": [0, 0, 3]}, "the histogram say 6 accepted tokens"),
        ({"completion_tokens": 9.5}, "meta_info.completion_tokens is a fraction"),
        ({"finish_reason": 7}, "meta_info.finish_reason is a number"),
        ({"finish_reason": None}, "without a finish reason"),
        ({"finish_reason": {"type": "abort", "message": "secret"}}, "finish reason 'abort'"),
        ({"speculative_decoding_stats": {}}, None),
        (
            {
                "speculative_decoding_stats": {
                    "num_verified_draft_tokens": 8,
                    "num_accepted_draft_tokens": 0,
                    "verify_lengths": [5, 5],
                    "accept_lengths": [1],
                }
            },
            "2 verify_lengths, 1 accept_lengths",
        ),
    ],
)
def test_a_wrong_field_is_refused(changes, words):
    """By its path; empty stats are none."""
    if words is None:
        assert reply_of(SglangDialect(), with_meta(**changes)).counts is None
        return
    with pytest.raises(UnexpectedReply, match=words) as refused:
        reply_of(SglangDialect(), with_meta(**changes))

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        ({"type": "stop", "matched": 2}, FinishReason.EOS),
        ({"type": "stop", "matched": "\n\n"}, FinishReason.STOP),
        ({"type": "length", "length": 9}, FinishReason.BUDGET),
        ("length", FinishReason.BUDGET),
    ],
)
def test_reasons_to_finish(finish, expected):
    """A text that matched, a token that did, or the budget; once a name alone."""
    assert expected == reply_of(SglangDialect(), with_meta(finish_reason=finish)).finish_reason


def test_a_chat_has_totals_and_counts():
    """OpenAI's stream with meta_info at the choice; text comes in pieces there."""
    reply = constructed("0.5.15-constructed-chat")

    assert TEXT == reply.text
    assert (5, 9) == (reply.num_prompt_tokens, reply.num_emitted_tokens)
    assert FinishReason.EOS == reply.finish_reason
    assert COUNTS == reply.counts
    assert reply.token_ids is None


def test_logprobs_are_rows_by_id():
    """They are repeated as ids are, and taken once."""
    reply = constructed("0.5.15-constructed-logprobs", replace(ASK, num_logprobs=2))

    assert IDS == tuple(place.token_id for place in reply.logprobs)
    assert {11: -0.41, 3: -3.5} == pytest.approx(reply.logprobs[0].alternatives)
    assert -0.41 == pytest.approx(reply.logprobs[0].logprob)


@pytest.mark.parametrize("row", ["secret", [], [-0.1], ["secret", 3], [-0.1, "secret"]])
def test_a_logprob_that_is_no_row_is_refused(row):
    """What it is instead is not said."""
    streamed = deepcopy(documents("sglang-0.5.15-constructed-logprobs.sse"))
    streamed[0]["meta_info"]["output_token_logprobs"] = [row]

    with pytest.raises(UnexpectedReply, match="no row of a number and a token's id") as refused:
        reply_of(SglangDialect(), streamed)

    assert "secret" not in str(refused.value)


def test_sampling_is_said_in_full():
    """Defaults would be those of the model's files."""
    settings = DecodeSettings(
        sampling=Sampling(temperature=0.7, top_k=20), max_new_tokens=5, stop=("\n\n",), seed=3
    )
    post = SglangDialect().post(
        Ask(context=(1, 2), settings=settings, ignore_eos=True, num_logprobs=4), "m"
    )

    assert "/generate" == post.path
    assert {
        "input_ids": [1, 2],
        "sampling_params": {
            "max_new_tokens": 5,
            "temperature": 0.7,
            "top_p": 1.0,
            "top_k": 20,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "frequency_penalty": 0.0,
            "presence_penalty": 0.0,
            "stop": ["\n\n"],
            "ignore_eos": True,
            "n": 1,
        },
        "return_logprob": True,
        "top_logprobs_num": 4,
        "stream": True,
    } == post.body


def test_a_text_is_sent_as_text():
    """Its tokens are the server's business."""
    body = SglangDialect().post(Ask(context="text", settings=DecodeSettings()), "m").body

    assert "text" == body["text"]
    assert -1 == body["sampling_params"]["top_k"]
    assert "return_logprob" not in body


def test_messages_are_a_chat():
    """The server's own template renders them; the counts are asked for."""
    ask = Ask(context=(Message(role="user", content="Say it."),), settings=DecodeSettings())
    post = SglangDialect().post(ask, "m")

    assert "/v1/chat/completions" == post.path
    assert post.body["return_meta_info"] is True
    assert -1 == post.body["top_k"]
