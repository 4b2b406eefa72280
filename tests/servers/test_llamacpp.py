"""llama.cpp's recorded streams (build 11549, in xllamacpp), and what would be wrong with them."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest

from specmeasure.errors import UnexpectedReply
from specmeasure.records.corpus import Message
from specmeasure.records.plan import DecodeSettings, Sampling
from specmeasure.records.serving import Evidence
from specmeasure.records.trace import DraftCounts, FinishReason
from specmeasure.servers.llamacpp import LlamacppDialect
from specmeasure.servers.server import Ask, Reply
from tests.servers.streams import ASK, documents, reply_of

PREFIX = "llamacpp-2026.10.11549-"
CHAT = (Message(role="user", content="Say it."),)
WITH_LOGPROBS = replace(ASK, num_logprobs=2)


def recorded(name: str, ask: Ask = ASK) -> Reply:
    return reply_of(LlamacppDialect(), documents(f"{PREFIX}{name}.sse"), ask)


def with_timings(**changes: object) -> list[dict]:
    """A recorded stream whose last timings are changed; None takes a field away."""
    streamed = deepcopy(documents(f"{PREFIX}draft-0.sse"))
    timings = streamed[-1]["timings"]
    timings.update(changes)
    for name in [name for name, value in timings.items() if value is None]:
        del timings[name]
    return streamed


@pytest.mark.parametrize("place", [0, 1, 2])
def test_every_way_of_drafting_says_the_same(place):
    """Greedy, f32: baseline, draft model and n-grams emit the same ids."""
    base = recorded(f"base-{place}")

    assert base.token_ids == recorded(f"draft-{place}").token_ids
    assert base.token_ids == recorded(f"ngram-{place}").token_ids


def test_synthetic_rates_emit_what_the_target_did_not_say():
    """They accept drafts whatever the target makes of them: for testing tools alone."""
    assert recorded("base-0").token_ids != recorded("synth-0").token_ids


def test_an_answer_has_ids_totals_and_counts():
    """EOS is among the ids and counted, and its text is empty."""
    reply = recorded("draft-0")

    assert FinishReason.EOS == reply.finish_reason
    assert (20, 34) == (reply.num_prompt_tokens, reply.num_emitted_tokens)
    assert (34, 2) == (len(reply.token_ids), reply.token_ids[-1])
    assert DraftCounts(num_draft_tokens=36, num_accepted_tokens=24) == reply.counts
    assert Evidence.COUNTERS == reply.counts.evidence
    assert reply.text.startswith("def ")


@pytest.mark.parametrize("name", ["base-0", "ngram-2"])
def test_nothing_drafted_is_not_told_from_no_speculation(name):
    """A baseline and a lookup that found nothing both leave the fields out."""
    assert recorded(name).counts is None


def test_the_budget_ends_an_answer():
    """Its last token is that of the budget."""
    reply = recorded("draft-ignore-eos")

    assert FinishReason.BUDGET == reply.finish_reason
    assert 48 == reply.num_emitted_tokens == len(reply.token_ids)


def test_a_stop_text_is_no_eos():
    """The token that completes it is among the ids; its text is cut off."""
    reply = recorded("draft-stop")

    assert FinishReason.STOP == reply.finish_reason
    assert 21 == reply.num_emitted_tokens == len(reply.token_ids)
    assert "return" not in reply.text
    assert 1 + reply.counts.num_accepted_tokens + 24 // 4 > 21  # kept behind it, and counted


def test_a_sampled_answer_has_the_same_facts():
    """Sampling changes nothing of what is told."""
    reply = recorded("draft-sampled")

    assert len(reply.token_ids) == reply.num_emitted_tokens == 28
    assert DraftCounts(num_draft_tokens=44, num_accepted_tokens=16) == reply.counts


def test_a_text_is_completed():
    """A text's prompt tokens have the server's BOS."""
    reply = recorded("draft-text")

    assert (9, 24) == (reply.num_prompt_tokens, reply.num_emitted_tokens)


def test_ids_that_end_inside_a_character_make_all_unknown():
    """Their ids are not sent: 8 tokens were emitted, and fewer ids came."""
    streamed = documents(f"{PREFIX}draft-characters.sse")
    reply = recorded("draft-characters")

    assert 4 == sum(len(document["tokens"]) for document in streamed)
    assert reply.token_ids is None
    assert 8 == reply.num_emitted_tokens
    assert "a你好" == reply.text


def test_a_full_context_is_no_budget():
    """The server calls both a limit."""
    with pytest.raises(UnexpectedReply, match="filled the server's context before its budget"):
        recorded("base-full-context")


def test_chats_have_totals_and_counts():
    """OpenAI's stream: no ids, EOS and stop texts are one, and timings in the usage's object."""
    reply = recorded("draft-chat")

    assert reply.token_ids is None
    assert 34 == reply.num_emitted_tokens
    assert DraftCounts(num_draft_tokens=36, num_accepted_tokens=24) == reply.counts
    assert recorded("draft-0").text == reply.text


def test_a_baseline_has_logprobs_of_every_token():
    """Natural logarithms by id, the likeliest first; greedy takes it."""
    reply = recorded("base-logprobs", WITH_LOGPROBS)

    assert reply.token_ids == tuple(place.token_id for place in reply.logprobs)
    assert all(
        place.token_id == max(place.alternatives, key=place.alternatives.__getitem__)
        and place.logprob == place.alternatives[place.token_id]
        for place in reply.logprobs
    )
    assert {2} == {len(place.alternatives) for place in reply.logprobs}
    assert -0.191 == pytest.approx(reply.logprobs[0].logprob, abs=1e-3)


@pytest.mark.parametrize("name", ["draft-logprobs", "base-chat-logprobs"])
def test_logprobs_of_some_tokens_are_none(name):
    """Passes with drafts tell none, and neither does a chat of its EOS."""
    streamed = documents(f"{PREFIX}{name}.sse")
    places = [place for item in streamed for place in LlamacppDialect().read(item).logprobs]
    reply = recorded(name, WITH_LOGPROBS)

    assert 0 < len(places) < 34 == reply.num_emitted_tokens
    assert reply.logprobs is None


@pytest.mark.parametrize("field", ["draft_n", "draft_n_accepted"])
def test_a_missing_or_renamed_count_is_unknown(field):
    """None, never 0."""
    reply = reply_of(LlamacppDialect(), with_timings(**{field: None, "renamed": 1}))

    assert reply.counts is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"draft_n": "36"}, "timings.draft_n is a text"),
        ({"draft_n": 36.5}, "timings.draft_n is a fraction"),
        ({"draft_n_accepted": -1}, "timings.draft_n_accepted is a negative number"),
        ({"draft_n_accepted": True}, "timings.draft_n_accepted is a truth value"),
        ({"draft_n_accepted": 37}, "timings contradicts itself: accepted 37 of 36"),
    ],
)
def test_a_wrong_count_is_named(changes, words):
    """By its path, and without its value where that could be a text."""
    with pytest.raises(UnexpectedReply, match=words):
        reply_of(LlamacppDialect(), with_timings(**changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stop_type": None}, "without a finish reason"),
        ({"stop_type": "none"}, "finish reason 'none'"),
        ({"stop_type": 3}, "stop_type is a number"),
        ({"tokens_predicted": 12}, "34 token ids, its usage says 12"),
        ({"content": 7}, "content is a number"),
        ({"tokens": [-1]}, "tokens is a negative number"),
        ({"error": {"code": 500, "message": "secret"}, "content": ...}, r"with an error \(500\)"),
    ],
)
def test_a_wrong_end_is_refused(changes, words):
    """Each in words, and nothing of the answer in them."""
    streamed = deepcopy(documents(f"{PREFIX}draft-0.sse"))
    streamed[-1].update(changes)
    for name in [name for name, value in streamed[-1].items() if value is ...]:
        del streamed[-1][name]

    with pytest.raises(UnexpectedReply, match=words) as refused:
        reply_of(LlamacppDialect(), streamed)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("field", ["id", "logprob"])
def test_logprobs_without_ids_or_numbers_are_refused(field):
    """Old servers name tokens by text."""
    streamed = deepcopy(documents(f"{PREFIX}base-logprobs.sse"))
    del streamed[0]["completion_probabilities"][0][field]

    with pytest.raises(UnexpectedReply, match="has a token without"):
        reply_of(LlamacppDialect(), streamed, WITH_LOGPROBS)


def test_sampling_is_said_in_full_and_in_our_order():
    """Top-k and top-p see what temperature made of the logits; no other sampler has a say."""
    settings = DecodeSettings(
        sampling=Sampling(temperature=0.7, top_k=20, top_p=0.9),
        max_new_tokens=5,
        stop=("\n\n",),
        seed=2**40 + 3,
    )
    post = LlamacppDialect().post(Ask(context=(1, 2), settings=settings, num_logprobs=4), "m")

    assert "/completion" == post.path
    assert {
        "model": "m",
        "prompt": [1, 2],
        "n_predict": 5,
        "stop": ["\n\n"],
        "samplers": ["temperature", "top_k", "top_p"],
        "temperature": 0.7,
        "top_k": 20,
        "top_p": 0.9,
        "min_p": 0.0,
        "repeat_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "dry_multiplier": 0.0,
        "xtc_probability": 0.0,
        "mirostat": 0,
        "seed": (2**40 + 3) % (2**32 - 1),
        "n_probs": 4,
        "post_sampling_probs": False,
        "return_tokens": True,
        "cache_prompt": False,
        "ignore_eos": False,
        "stream": True,
    } == post.body


def test_our_order_is_what_the_server_does():
    """Top-k of the logits over temperature, then the smallest set with top-p of what that leaves.

    The order decides: before temperature, one token alone has 0.7 of the chance.
    """
    before = documents(f"{PREFIX}base-before-sampling.sse")[0]["completion_probabilities"][0]
    after = documents(f"{PREFIX}base-after-sampling.sse")[0]["completion_probabilities"][0]
    weights = {item["id"]: math.exp(item["logprob"] / 2.0) for item in before["top_logprobs"]}
    kept: dict[int, float] = {}
    for token_id, weight in weights.items():
        if sum(kept.values()) < 0.7 * sum(weights.values()):
            kept[token_id] = weight
    law = {token_id: weight / sum(kept.values()) for token_id, weight in kept.items()}

    assert 10 == len(weights)
    assert math.exp(before["top_logprobs"][0]["logprob"]) > 0.7
    assert 1 < len(law) < 10
    assert law == pytest.approx({item["id"]: item["prob"] for item in after["top_probs"]})


def test_greedy_has_neutral_limits_and_no_seed():
    """What is left out would be the server's own default: top-k 40, top-p 0.95."""
    body = LlamacppDialect().post(Ask(context="text", settings=DecodeSettings()), "m").body

    assert ("text", 0.0, 0, 1.0) == (
        body["prompt"],
        body["temperature"],
        body["top_k"],
        body["top_p"],
    )
    assert "seed" not in body


def test_messages_are_a_chat():
    """The server's own template renders them; sampling is said as for ids."""
    ask = Ask(context=CHAT, settings=DecodeSettings(), num_logprobs=2, ignore_eos=True)
    post = LlamacppDialect().post(ask, "m")

    assert "/v1/chat/completions" == post.path
    assert [{"role": "user", "content": "Say it."}] == post.body["messages"]
    assert ["temperature", "top_k", "top_p"] == post.body["samplers"]
    assert (True, 2) == (post.body["logprobs"], post.body["top_logprobs"])
    assert (True, False) == (post.body["ignore_eos"], post.body["cache_prompt"])
