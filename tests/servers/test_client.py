"""The client against a server that behaves and misbehaves on demand."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from specmeasure.errors import ServerLost, UnexpectedReply, UsageError
from specmeasure.records.corpus import Message
from specmeasure.records.plan import DecodeSettings, Sampling
from specmeasure.records.serving import Evidence, ServerFacts, ServingEngine
from specmeasure.records.trace import FinishReason
from specmeasure.servers import connection
from specmeasure.servers.client import HttpServer
from specmeasure.servers.connection import Connection
from specmeasure.servers.dialects import dialect_of
from specmeasure.servers.limits import Limits, retry_after_s
from specmeasure.servers.server import Ask
from specmeasure.servers.sse import EventParser
from tests.stub_server import Faults, StubServer, answer_ids, token_text

FAST = Limits(connect_s=2.0, idle_s=2.0, request_s=5.0, most_retries=3, first_wait_s=0.001)
SECRET = "the zebra crossed the moonlit harbour"
KEY = "sk-4711-secret"


def served(
    stub: StubServer, use: Callable[[HttpServer], Awaitable[Any]], limits: Limits = FAST
) -> Any:
    """What ``use`` returns, with a client of the stub that is closed after it."""

    async def run() -> Any:
        engine = ServingEngine(stub.engine)
        facts = ServerFacts(
            arm="spec",
            engine=engine,
            model="stub",
            version=None,
            url=stub.url,
            evidence=Evidence.NONE,
            gives_ids=True,
            num_speculative_tokens=None,
        )
        opened = Connection(stub.url, limits=limits, rng=random.Random(0))
        server = HttpServer(opened, dialect_of(engine), facts)
        try:
            return await use(server)
        finally:
            await server.close()

    return asyncio.run(run())


def ask_of(context: Any = (5, 6, 7), *, num_tokens: int = 8, **changes: Any) -> Ask:
    return Ask(context=context, settings=DecodeSettings(max_new_tokens=num_tokens), **changes)


def error_of(stub: StubServer, ask: Ask, limits: Limits = FAST) -> Exception:
    """The error that a request ends with."""

    async def use(server: HttpServer) -> Exception:
        with pytest.raises(Exception) as caught:
            await server.ask(ask)
        return caught.value

    return served(stub, use, limits)


def reply_to(stub: StubServer, ask: Ask, limits: Limits = FAST) -> Any:
    return served(stub, lambda server: server.ask(ask), limits)


def test_an_answer_is_put_together():
    """Ids, text, counts and finish reason of a stream of many pieces."""
    with StubServer(accepted=[2, 0, 4]) as stub:
        reply = reply_to(stub, ask_of(num_tokens=12))

    ids = answer_ids((5, 6, 7), 12)
    assert tuple(ids) == reply.token_ids
    assert "".join(map(token_text, ids)) == reply.text
    assert (3, 12) == (reply.num_prompt_tokens, reply.num_emitted_tokens)
    assert FinishReason.BUDGET == reply.finish_reason
    assert ((4, 2), (4, 0), (4, 4), (4, 2)) == reply.counts.steps
    assert 0 == reply.num_retries


@pytest.mark.parametrize("context", [(5, 6, 7), "some text", (Message(role="user", content="x"),)])
def test_every_engine_answers_alike(context):
    """The same tokens; llama.cpp drafts no further than the budget, vLLM's last block is cut."""
    replies = {}
    for engine in ("vllm", "llamacpp", "openai"):
        with StubServer(engine=engine, accepted=[2, 4]) as stub:
            replies[engine] = reply_to(stub, ask_of(context, num_tokens=10))

    assert 1 == len({reply.text for reply in replies.values()})
    assert {10} == {reply.num_emitted_tokens for reply in replies.values()}
    assert (12, 8) == _drafts_of(replies["vllm"])
    assert (8, 6) == _drafts_of(replies["llamacpp"])
    assert replies["openai"].counts is None


def _drafts_of(reply: Any) -> tuple[int, int]:
    return reply.counts.num_draft_tokens, reply.counts.num_accepted_tokens


def test_times_are_from_sending_to_the_last_token():
    """Ten passes: no less than their pauses, whatever the machine does."""
    with StubServer(pass_s=0.004) as stub:
        reply = reply_to(stub, ask_of(num_tokens=10))

    assert reply.ttft_s >= 0.004
    assert reply.ttft_s + reply.decode_s >= 10 * 0.004


def test_a_chat_is_sent_as_messages():
    """With what a template reads beside the text."""
    chat = (Message(role="user", content="Hi", extras='{"name": "Ada"}'),)
    with StubServer() as stub:
        reply = reply_to(stub, ask_of(chat))

    assert [{"role": "user", "content": "Hi", "name": "Ada"}] == stub.bodies[0]["messages"]
    assert tuple(answer_ids(b"user: Hi", 8)) == reply.token_ids


@pytest.mark.parametrize(
    ("length", "stop", "expected"),
    [(4, (), FinishReason.EOS), (None, (" t",), FinishReason.STOP), (4, ("x",), FinishReason.EOS)],
)
def test_vllm_tells_eos_from_a_stop_text(length, stop, expected):
    """By its stop_reason, also where the request names stop texts."""
    settings = DecodeSettings(max_new_tokens=8, stop=stop)
    with StubServer(answer_length=length) as stub:
        reply = reply_to(stub, Ask(context=(5,), settings=settings))

    assert expected == reply.finish_reason


@pytest.mark.parametrize(("stop", "expected"), [((), "eos"), (("x",), "stop")])
def test_a_stop_that_is_not_explained_is_by_the_request(stop, expected):
    """A plain server says "stop" for both: a stop text if any was asked for."""
    settings = DecodeSettings(max_new_tokens=8, stop=stop)
    with StubServer(engine="openai", answer_length=4) as stub:
        reply = reply_to(stub, Ask(context="a", settings=settings))

    assert expected == reply.finish_reason


def test_many_requests_at_once():
    """All are in flight together, and each gets its own answer."""

    async def use(server: HttpServer) -> list:
        asks = [ask_of((number, 1)) for number in range(40)]
        return await asyncio.gather(*map(server.ask, asks))

    with StubServer(pass_s=0.01) as stub:
        replies = served(stub, use)

    assert 40 == stub.most_in_flight
    assert [tuple(answer_ids((n, 1), 8)) for n in range(40)] == [r.token_ids for r in replies]


@pytest.mark.parametrize(("num_closed", "num_retries"), [(1, 0), (3, 2)])
def test_a_closed_connection_is_opened_again(num_closed, num_retries):
    """The first may be one that was kept for long: it is no retry of a busy server."""
    with StubServer(faults=Faults(num_closed=num_closed)) as stub:
        reply = reply_to(stub, ask_of())

    assert num_retries == reply.num_retries
    assert num_closed + 1 == len(stub.bodies)


@pytest.mark.parametrize("closes", [True, False])
def test_a_server_that_closes_after_each_answer(closes):
    """As llama.cpp does, without saying so; counters are read all the same."""

    async def use(server: HttpServer) -> list:
        return [(await server.ask(ask_of()), await server.snapshot()) for _ in range(5)]

    with StubServer(engine="llamacpp") as stub:
        stub.faults.closes_after = closes
        told = served(stub, use)

    assert [0] * 5 == [reply.num_retries for reply, _ in told]
    assert [8, 16, 24, 32, 40] == [snapshot.num_emitted_tokens for _, snapshot in told]


@pytest.mark.parametrize("fault", ["num_429", "num_503"])
def test_a_busy_server_is_asked_again(fault):
    """Retries are counted; the time counts from the request that was answered."""
    with StubServer(faults=Faults(**{fault: 2})) as stub:
        reply = reply_to(stub, ask_of())

    assert 2 == reply.num_retries
    assert 3 == len(stub.bodies)
    assert tuple(answer_ids((5, 6, 7), 8)) == reply.token_ids


def test_retry_after_is_waited_for_but_outside_the_times():
    """A quarter of a second asked for is no part of the time to the first token."""
    limits = Limits(connect_s=2, idle_s=2, request_s=5, first_wait_s=0.001, longest_wait_s=0.25)
    with StubServer(faults=Faults(num_429=1, retry_after="9")) as stub:

        async def use(server: HttpServer) -> tuple:
            before = asyncio.get_running_loop().time()
            reply = await server.ask(ask_of())
            return asyncio.get_running_loop().time() - before, reply

        took_s, reply = served(stub, use, limits)

    assert took_s >= 0.25
    assert reply.ttft_s + reply.decode_s <= took_s - 0.25


def test_retries_end():
    """A server that goes on refusing is lost; the error says how often it was asked."""
    with StubServer(faults=Faults(num_503=99)) as stub:
        error = error_of(stub, ask_of())

    assert isinstance(error, ServerLost)
    assert f"{stub.url} answers 503, 3 retries later" == str(error)
    assert 4 == len(stub.bodies)


def test_waits_grow_and_are_bounded():
    """Between half and all of a doubled wait, and never over the longest."""
    limits, rng = Limits(first_wait_s=1.0, longest_wait_s=10.0), random.Random(3)

    for retries, most in enumerate([1, 2, 4, 8, 10, 10]):
        assert most / 2 <= limits.wait_s(retries, None, rng) <= most
    assert 10.0 == limits.wait_s(0, 3600.0, rng)
    assert retry_after_s("soon") is None


def test_500_fails_one_request_alone():
    """The next one is answered; the message, which quotes the prompt, is not shown."""

    async def use(server: HttpServer) -> tuple:
        with pytest.raises(UnexpectedReply) as caught:
            await server.ask(ask_of(SECRET))
        return caught.value, await server.ask(ask_of())

    with StubServer(faults=Faults(num_500=1)) as stub:
        error, reply = served(stub, use)

    assert f"{stub.url}/v1/completions answers 500: no … (stub_fault)" == str(error)
    assert 8 == reply.num_emitted_tokens


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ({"broken_json": True}, UnexpectedReply, "not JSON"),
        (
            {"error_event": "out of memory"},
            UnexpectedReply,
            "error: out of memory (stub_fault, 400)",
        ),
        ({"no_finish": True}, UnexpectedReply, "without a finish reason"),
        ({"breaks_off": True}, ServerLost, "broke the connection off"),
        ({"hangs_before": True}, ServerLost, "sent nothing for 0.1 s"),
        ({"hangs_after": True}, ServerLost, "sent nothing for 0.1 s"),
        ({"dies_at": 1}, ServerLost, "broke the connection off"),
    ],
)
def test_each_fault_has_its_error(fault, kind, words):
    """One request that failed, or a server that is gone; never a reply of part of an answer."""
    limits = Limits(connect_s=2, idle_s=0.1, request_s=5, most_retries=1, first_wait_s=0.001)
    with StubServer(faults=Faults(**fault)) as stub:
        error = error_of(stub, ask_of(), limits)

    assert kind is type(error)
    assert words in str(error)
    assert str(error).startswith(stub.url)


def test_a_stream_that_stays_open_after_its_end_is_not_waited_for(monkeypatch):
    """The answer is whole with its last event; the next request has a connection of its own."""
    monkeypatch.setattr(connection, "_END_S", 0.01)

    async def use(server: HttpServer) -> list[int | None]:
        return [(await server.ask(ask_of())).num_emitted_tokens for _ in range(2)]

    with StubServer(faults=Faults(hangs_at_end=True)) as stub:
        told = served(stub, use)

    assert [8, 8] == told


def test_a_request_that_goes_on_for_too_long_is_lost():
    """Bytes keep coming, the whole does not end."""
    limits = Limits(idle_s=5.0, request_s=0.1)
    with StubServer(pass_s=0.01) as stub:
        error = error_of(stub, ask_of(num_tokens=1000), limits)

    assert ServerLost is type(error)
    assert f"{stub.url} took more than 0.1 s for a request (--request-timeout)" == str(error)


def test_a_dead_server_is_lost():
    """Nobody listens any more: after the retries, one clear error."""

    async def use(server: HttpServer) -> Exception:
        await server.ask(ask_of())
        stub.die()
        with pytest.raises(ServerLost) as caught:
            await server.ask(ask_of())
        return caught.value

    with StubServer() as stub:
        error = served(stub, use)

    assert "cannot be connected to, 3 retries later" in str(error)


def test_missing_usage_leaves_the_ids_to_count():
    """Tokens are counted by ids, else by usage, else not at all; never by pieces."""
    with StubServer(faults=Faults(no_usage=True)) as stub:
        reply = reply_to(stub, ask_of())
        stub.faults.no_ids = True
        uncounted = reply_to(stub, ask_of())

    assert (8, None) == (reply.num_emitted_tokens, reply.num_prompt_tokens)
    assert (None, None) == (uncounted.num_emitted_tokens, uncounted.token_ids)
    assert reply.text == uncounted.text


def test_renamed_draft_fields_are_not_measured():
    """Neither counts of a reply nor counters: None."""
    with StubServer(accepted=[1], faults=Faults(renamed=True)) as stub:
        reply, snapshot = served(stub, lambda s: asyncio.gather(s.ask(ask_of()), s.snapshot()))

    assert reply.counts is None
    assert snapshot.drafts is None


def test_snapshots_differ_by_what_was_asked():
    """The counters' growth is the replies' sum."""

    async def use(server: HttpServer) -> tuple:
        before = await server.snapshot()
        replies = [await server.ask(ask_of((n,), num_tokens=9)) for n in range(3)]
        return before, replies, await server.snapshot()

    with StubServer(accepted=[3, 1]) as stub:
        before, replies, after = served(stub, use)

    assert 0 == before.drafts.num_draft_tokens
    assert after.drafts.num_draft_tokens == sum(r.counts.num_draft_tokens for r in replies)
    assert after.drafts.num_accepted_tokens == sum(r.counts.num_accepted_tokens for r in replies)
    assert 27 == after.num_emitted_tokens


def test_a_plain_server_has_no_snapshot():
    """Nor has a server whose counters are not served."""
    with StubServer(engine="openai") as stub:
        assert served(stub, lambda server: server.snapshot()) is None


def test_logprobs_come_with_ids():
    """As many as tokens, when asked for; else none."""
    with StubServer() as stub:
        reply = reply_to(stub, ask_of(num_logprobs=2))
        without = reply_to(stub, ask_of())

    assert reply.token_ids == tuple(place.token_id for place in reply.logprobs)
    assert {-0.25, -2.0} == set(reply.logprobs[0].alternatives.values())
    assert without.logprobs is None


def test_the_key_is_sent_and_never_said(monkeypatch):
    """From the environment to the header alone."""
    monkeypatch.setenv("SPECMEASURE_API_KEY", KEY)

    async def use(server: HttpServer) -> tuple:
        reply = await server.ask(ask_of())
        stub.api_key = "another"
        with pytest.raises(UsageError) as caught:
            await server.ask(ask_of())
        return reply, caught.value, repr(server) + repr(vars(server)) + repr(server._connection)

    with StubServer(api_key=KEY) as stub:
        reply, error, shown = served(stub, use)

    assert 8 == reply.num_emitted_tokens
    assert "SPECMEASURE_API_KEY" in str(error)
    assert KEY not in f"{error}{error!r}{shown}"


def test_a_wrong_model_names_those_served():
    """What a run needs to know to be put right."""
    with StubServer() as stub:

        async def use(server: HttpServer) -> Exception:
            stub.model = "llama"
            with pytest.raises(UsageError) as caught:
                await server.ask(ask_of())
            return caught.value

        error = served(stub, use)

    assert f"{stub.url} does not serve 'stub'; it serves llama" == str(error)


def test_a_cancelled_request_leaves_nothing_open():
    """Closing after it warns of nothing: warnings are errors here."""

    async def use(server: HttpServer) -> None:
        task = asyncio.create_task(server.ask(ask_of(num_tokens=1000)))
        await asyncio.sleep(0.05)  # some tokens later
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with StubServer(pass_s=0.01) as stub:
        served(stub, use)


def test_a_sampled_request_has_its_seed():
    """The plan's; a greedy one needs none."""
    sampled = DecodeSettings(sampling=Sampling(temperature=1.0), seed=11, max_new_tokens=2)
    with StubServer() as stub:
        reply_to(stub, Ask(context=(1,), settings=sampled))
        reply_to(stub, ask_of())

    assert 11 == stub.bodies[0]["seed"]
    assert "seed" not in stub.bodies[1]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_events_do_not_depend_on_how_bytes_arrive(size):
    """Comments, other fields, several data lines, both line ends, split anywhere."""
    stream = (
        ": keep-alive\n\nevent: x\ndata: one\r\n\r\nid: 7\r\ndata:two\r\ndata: three – é\r\n\r\n"
        "data: [DONE]\n\ndata: unfinished"
    ).encode()
    parser = EventParser()
    events = [
        event for at in range(0, len(stream), size) for event in parser.feed(stream[at : at + size])
    ]

    assert [b"one", "two\nthree – é".encode(), b"[DONE]"] == events
