"""vLLM 0.32.0's recorded streams, and what would be wrong with them."""

from copy import deepcopy

import pytest

from specmeasure.errors import UnexpectedReply
from specmeasure.records.corpus import Message
from specmeasure.records.plan import DecodeSettings, Sampling
from specmeasure.records.serving import Evidence
from specmeasure.records.trace import DraftCounts, FinishReason
from specmeasure.servers.server import Ask, Reply
from specmeasure.servers.vllm import VllmDialect
from tests.servers.streams import documents, reply_of

DETAILED = "vllm-0.32.0-draft_model-detailed-text.sse"
CHAT = (Message(role="user", content="Say it."),)


def recorded(name: str, ask: Ask | None = None) -> Reply:
    return reply_of(VllmDialect(), documents(name), *([ask] if ask else []))


def with_stats(**changes: object) -> list[dict]:
    """A recorded stream whose draft stats are changed; None takes a field away."""
    streamed = deepcopy(documents(DETAILED))
    stats = streamed[-1]["metrics"]["speculative_decoding"]
    stats.update(changes)
    for name in [name for name, value in stats.items() if value is None]:
        del stats[name]
    return streamed


def test_detailed_stats_are_blocks():
    """Steps, histogram and totals are the same blocks; with the first token they are the answer."""
    reply = recorded(DETAILED)
    counts = reply.counts

    assert Evidence.BLOCKS == counts.evidence
    assert (72, 32, 18) == (
        counts.num_draft_tokens,
        counts.num_accepted_tokens,
        counts.num_drafted_blocks,
    )
    assert (7, 2, 2, 2, 5) == counts.histogram
    assert 18 == len(counts.steps)
    assert [(4, 0), (4, 0), (4, 2)] == list(counts.steps[:3])
    num_cut = 3  # of the last block, by the budget of 48 tokens: vLLM counts them as accepted
    assert reply.num_emitted_tokens == 1 + 32 + 18 - num_cut


def test_every_event_but_the_last_is_a_block():
    """What a chunk holds is what its step accepted, and one more; the budget cuts the last one."""
    chunks = [event["choices"][0]["token_ids"] for event in documents(DETAILED) if event["choices"]]
    accepted = [accepted for _, accepted in recorded(DETAILED).counts.steps]

    assert [1, *(number + 1 for number in accepted[:-1]), 2] == [len(chunk) for chunk in chunks]


def test_chat_has_the_same_facts():
    """A chat's ids, usage and drafts stand elsewhere and say as much; its role is no token."""
    reply = recorded("vllm-0.32.0-draft_model-detailed-chat.sse")

    assert 48 == len(reply.token_ids) == reply.num_emitted_tokens
    assert 18 == reply.num_prompt_tokens
    assert (56, 33, 14) == (
        reply.counts.num_draft_tokens,
        reply.counts.num_accepted_tokens,
        reply.counts.num_drafted_blocks,
    )
    assert reply.num_emitted_tokens == 1 + 33 + 14
    assert FinishReason.BUDGET == reply.finish_reason
    assert 2.0 == reply.ttft_s


def test_ngram_steps_draft_what_they_found():
    """Of 24 tokens five blocks had drafts, the last of three: steps without any are not told."""
    reply = recorded("vllm-0.32.0-ngram-detailed-ids.sse")

    assert ((4, 0), (4, 0), (4, 4), (4, 2), (3, 3)) == reply.counts.steps
    assert (2, 0, 1, 1, 1) == reply.counts.histogram
    assert 24 == len(reply.token_ids)


def test_summary_is_a_histogram():
    """Without steps, how often how many drafts were kept."""
    counts = recorded("vllm-0.32.0-draft_model-summary-ids.sse").counts

    assert Evidence.HISTOGRAM == counts.evidence
    assert counts.num_drafted_blocks == sum(counts.histogram)
    assert counts.num_accepted_tokens == sum(j * n for j, n in enumerate(counts.histogram))


def test_baseline_says_nothing_of_drafts():
    """No stats is None, not zero drafts."""
    reply = recorded("vllm-0.32.0-baseline-ids.sse")

    assert reply.counts is None
    assert (24, 14) == (reply.num_emitted_tokens, reply.num_prompt_tokens)


def test_speculation_without_the_flag_says_nothing_of_drafts():
    """A chat from an n-gram server without --per-request-spec-decode-metrics: ids and usage."""
    reply = recorded("vllm-0.32.0-ngram-none-chat.sse")

    assert reply.counts is None
    assert (24, 23) == (len(reply.token_ids), reply.num_prompt_tokens)


@pytest.mark.parametrize("kind", ["baseline", "draft_model-detailed"])
def test_eos_is_an_id_without_text(kind):
    """EOS is counted by usage and stands among the ids; its moment is the answer's."""
    reply = recorded(f"vllm-0.32.0-{kind}-eos.sse")

    assert ((2,), "", 1) == (reply.token_ids, reply.text, reply.num_emitted_tokens)
    assert FinishReason.EOS == reply.finish_reason
    assert (1.0, 0.0) == (reply.ttft_s, reply.decode_s)


def test_no_blocks_is_zero_drafts():
    """A speculative server that had no time to draft says so: an empty histogram."""
    counts = recorded("vllm-0.32.0-draft_model-detailed-eos.sse").counts

    assert (
        DraftCounts(
            num_draft_tokens=0,
            num_accepted_tokens=0,
            num_drafted_blocks=0,
            histogram=(0, 0, 0, 0, 0),
        )
        == counts
    )


def test_stop_text_is_no_eos_and_loses_the_stats():
    """A stop text ends the request in vLLM's front end, which then has no draft stats to send."""
    reply = recorded("vllm-0.32.0-draft_model-summary-stop.sse")

    assert FinishReason.STOP == reply.finish_reason
    assert (2, ".") == (len(reply.token_ids), reply.text)
    assert reply.counts is None


def test_a_further_eos_is_no_stop_text():
    """A stop_reason that is an id is one of the model's further ends."""
    streamed = documents("vllm-0.32.0-baseline-eos.sse")
    streamed[0]["choices"][0]["stop_reason"] = 2

    assert FinishReason.EOS == reply_of(VllmDialect(), streamed).finish_reason


@pytest.mark.parametrize("kind", ["logprobs", "chat-logprobs"])
def test_logprobs_are_by_id(kind):
    """Each emitted token is its greedy place's likeliest, with the two next ones beside it."""
    ask = Ask(context="any", settings=DecodeSettings(), num_logprobs=3)
    reply = recorded(f"vllm-0.32.0-ngram-detailed-{kind}.sse", ask)

    assert reply.token_ids == tuple(place.token_id for place in reply.logprobs)
    for place in reply.logprobs:
        assert 3 == len(place.alternatives)
        assert (
            place.logprob == place.alternatives[place.token_id] == max(place.alternatives.values())
        )


def test_an_error_in_the_stream_is_raised():
    """vLLM refuses some requests after a status of 200."""
    with pytest.raises(UnexpectedReply, match=r"error \(BadRequestError, 400\)"):
        recorded("vllm-0.32.0-ngram-refused.sse")


def test_missing_steps_leave_the_histogram():
    """Each level of evidence stands by itself."""
    reply = reply_of(VllmDialect(), with_stats(per_step_accepted=None))

    assert Evidence.HISTOGRAM == reply.counts.evidence
    reply = reply_of(VllmDialect(), with_stats(per_step_accepted=None, acceptance_histogram=None))
    assert Evidence.COUNTERS == reply.counts.evidence


@pytest.mark.parametrize("name", ["num_draft_tokens", "num_accepted_draft_tokens"])
def test_missing_or_renamed_totals_are_no_counts(name):
    """Unknown is None, never zero."""
    assert reply_of(VllmDialect(), with_stats(**{name: None, f"{name}_v2": 3})).counts is None


def test_a_renamed_home_is_no_counts():
    """Stats at a place nobody knows are not measured."""
    streamed = documents(DETAILED)
    streamed[-1]["metrics"] = {"spec_decode": streamed[-1]["metrics"]["speculative_decoding"]}

    assert reply_of(VllmDialect(), streamed).counts is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_draft_tokens", "72"),
        ("num_draft_tokens", 72.0),
        ("num_accepted_draft_tokens", -1),
        ("num_spec_steps", True),
        ("acceptance_histogram", [7, None, 2, 2, 5]),
        ("acceptance_histogram", 7),
        ("per_step_drafted", "4,4"),
        ("per_step_accepted", [0, {}]),
    ],
)
def test_a_field_of_another_type_is_named(field, value):
    """The error names the field by its path and does not quote it."""
    with pytest.raises(UnexpectedReply, match=rf"metrics.speculative_decoding.{field} is "):
        reply_of(VllmDialect(), with_stats(**{field: value}))


@pytest.mark.parametrize(
    "changes",
    [
        {"acceptance_histogram": [7, 2, 2, 2, 4]},
        {"num_spec_steps": 17},
        {"num_accepted_draft_tokens": 31},
        {"num_draft_tokens": 71},
        {"per_step_accepted": [4] * 17},
    ],
)
def test_counts_that_contradict_each_other_are_refused(changes):
    """Identities are checked before a number is used."""
    with pytest.raises(UnexpectedReply, match="contradicts itself"):
        reply_of(VllmDialect(), with_stats(**changes))


def test_choice_level_stats_are_an_alias():
    """The forms proposed before: at the choice, a sparse histogram, other names of totals."""
    streamed = documents(DETAILED)
    stats = streamed[-1].pop("metrics")["speculative_decoding"]
    stats["acceptance_histogram"] = {"0": 7, "1": 2, "2": 2, "3": 2, "4": 5}
    streamed[-2]["choices"][0]["speculative_decoding_stats"] = stats

    assert recorded(DETAILED).counts == reply_of(VllmDialect(), streamed).counts
    streamed[-2]["choices"][0]["speculative_decoding_stats"] = {
        "num_drafted_tokens": 500,
        "num_accepted_tokens": 413,
        "num_draft_steps": 250,
        "per_position_acceptance_rates": [0.892, 0.76],
    }
    expected = DraftCounts(num_draft_tokens=500, num_accepted_tokens=413, num_drafted_blocks=250)
    assert expected == reply_of(VllmDialect(), streamed).counts


@pytest.mark.parametrize("value", [7, [1, "2"], [1.0], [-3]])
def test_ids_of_another_type_are_named(value):
    """Ids are whole numbers in a list."""
    streamed = documents(DETAILED)
    streamed[0]["choices"][0]["token_ids"] = value

    with pytest.raises(UnexpectedReply, match=r"choices\[0\].token_ids is "):
        reply_of(VllmDialect(), streamed)


def test_ids_and_usage_agree_or_ids_were_lost():
    """In all recorded streams they are as many; an answer with fewer ids is not compared."""
    streamed = documents(DETAILED)
    del streamed[3]

    with pytest.raises(UnexpectedReply, match="token ids, its usage says 48"):
        reply_of(VllmDialect(), streamed)


def test_logprobs_by_text_are_refused():
    """A server that does not know return_tokens_as_token_ids would have texts read as ids."""
    streamed = documents("vllm-0.32.0-ngram-detailed-logprobs.sse")
    streamed[0]["choices"][0]["logprobs"]["tokens"] = [" zebra"]

    with pytest.raises(UnexpectedReply, match="return_tokens_as_token_ids") as caught:
        reply_of(VllmDialect(), streamed)
    assert "zebra" not in str(caught.value)


def test_sampling_is_said_in_full():
    """What is left out would be filled from the model's generation_config."""
    settings = DecodeSettings(sampling=Sampling(temperature=0.7), max_new_tokens=9, seed=5)
    post = VllmDialect().post(Ask(context=(1, 2), settings=settings), "m")

    assert "/v1/completions" == post.path
    expected = {
        "prompt": [1, 2],
        "temperature": 0.7,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "seed": 5,
        "max_tokens": 9,
        "n": 1,
        "ignore_eos": False,
        "return_token_ids": True,
        "add_special_tokens": False,
        "cache_salt": "5",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert {"model": "m", **expected} == post.body


def test_a_text_gets_bos_from_the_server_and_ids_none():
    """Ids were rendered here, with their BOS; a text was not."""
    for context, adds in [("text", True), ((1, 2), False), (CHAT, False)]:
        post = VllmDialect().post(Ask(context=context, settings=DecodeSettings()), "m")

        assert adds is post.body["add_special_tokens"]


def test_logprobs_are_asked_for_as_each_path_wants_them():
    """Completions take a number, chats a switch and a number."""
    for context, wanted in [((1,), {"logprobs": 4}), (CHAT, {"logprobs": True, "top_logprobs": 4})]:
        ask = Ask(context=context, settings=DecodeSettings(), num_logprobs=4)
        body = VllmDialect().post(ask, "m").body

        assert wanted.items() <= body.items()
        assert body["return_tokens_as_token_ids"]
