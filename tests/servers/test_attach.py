"""Meeting servers of every kind, and those that are not what they should be."""

import asyncio
import random

import pytest

from specmeasure.errors import (
    ServerLost,
    ServerNotStarted,
    SpecmeasureError,
    UnexpectedReply,
    UsageError,
)
from specmeasure.records.plan import BASELINE, Arm, Method
from specmeasure.records.serving import Evidence, Load, ServerFacts, Serving, ServingEngine
from specmeasure.servers import attach, connection
from specmeasure.servers.attach import connect
from specmeasure.servers.build import Build, read_build
from specmeasure.servers.connection import Connection
from specmeasure.servers.limits import Limits
from tests.stub_server import Faults, StubServer

SPECULATIVE = Arm(name="served", method=Method.SERVED, num_speculative_tokens=1)
DRAFT = Arm(name="draft", method=Method.DRAFT_MODEL, num_speculative_tokens=3, draft="d")
FAST = Limits(connect_s=2.0, idle_s=2.0, request_s=5.0, most_retries=2, first_wait_s=0.001)


def met(stub: StubServer, arm: Arm, **serving: object) -> tuple[ServerFacts, tuple[str, ...]]:
    """What is known of the stub once it is connected to."""
    stated = Serving(engine=ServingEngine(stub.engine), loads=(Load(concurrency=1),), **serving)

    async def run() -> tuple:
        server = await connect(stub.url, arm=arm, serving=stated, limits=FAST)
        await server.close()
        return server.facts, server.warnings

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("detail", "evidence"),
    [
        ("detailed", Evidence.BLOCKS),
        ("summary", Evidence.HISTOGRAM),
        ("none", Evidence.COUNTERS),
    ],
)
def test_evidence_is_what_a_request_shows(detail, evidence):
    """Replies tell more than counters; K is as long as a histogram, or the positions."""
    with StubServer(accepted=[2], detail=detail) as stub:
        facts, warnings = met(stub, SPECULATIVE)

    assert (
        ServerFacts(
            arm="served",
            engine=ServingEngine.VLLM,
            model="stub",
            version="0.32.0",
            url=stub.url,
            evidence=evidence,
            gives_ids=True,
            num_speculative_tokens=4,
        )
        == facts
    )
    assert (evidence is Evidence.COUNTERS) == bool(warnings)


def test_a_baseline_that_does_not_speculate():
    """Nothing of drafts, and no warning of it."""
    with StubServer() as stub:
        facts, warnings = met(stub, BASELINE)

    assert (Evidence.NONE, None, ()) == (facts.evidence, facts.num_speculative_tokens, warnings)


@pytest.mark.parametrize("detail", ["detailed", "none"])
def test_a_baseline_that_speculates_is_refused(detail):
    """By its reply, or by counters that only a speculative vLLM has."""
    with (
        StubServer(accepted=[0], detail=detail) as stub,
        pytest.raises(UsageError, match=rf"{stub.url} is to be the baseline, but it speculates"),
    ):
        met(stub, BASELINE)


def test_an_arm_that_shows_no_speculation_is_warned_of():
    """It may be a baseline by mistake; the warning says what to look for."""
    with StubServer() as stub:
        facts, warnings = met(stub, SPECULATIVE)

    assert Evidence.NONE is facts.evidence
    assert "shows no sign of speculation" in warnings[0]
    assert "--speculative-config" in warnings[0]


def test_a_llamacpp_that_never_drafted_is_warned_of():
    """Its counters are there, at zero, with a draft and without."""
    with StubServer(engine="llamacpp") as stub:
        _, warnings = met(stub, SPECULATIVE)
        assert "has drafted nothing yet" in warnings[0]
        assert () == met(stub, BASELINE)[1]
    with StubServer(engine="llamacpp", accepted=[2]) as stub:
        facts, warnings = met(stub, SPECULATIVE)

    assert () == warnings
    assert (Evidence.COUNTERS, 4) == (facts.evidence, facts.num_speculative_tokens)


def test_a_plain_server_is_measured_by_the_clock():
    """No counts are expected of it: no warning."""
    with StubServer(engine="openai", accepted=[2]) as stub:
        facts, warnings = met(stub, SPECULATIVE)

    assert (Evidence.NONE, False, None) == (facts.evidence, facts.gives_ids, facts.version)
    assert () == warnings


def test_another_k_than_planned_is_warned_of():
    """Where the plan states one."""
    with StubServer(accepted=[2], k=5) as stub:
        _, warnings = met(stub, DRAFT)

    assert "drafts up to 5 tokens a block, the plan says 3" in warnings[0]


def test_the_model_is_the_one_named_or_the_only_one():
    """Names are listed, so that one can be picked."""
    with StubServer(model="a") as stub:
        stub.more_models = ["b"]
        with pytest.raises(UsageError, match=r"serves 2 models: a, b\. Name one"):
            met(stub, BASELINE)
        with pytest.raises(UsageError, match=r"does not serve 'c'; it serves a, b"):
            met(stub, BASELINE, model="c")
        facts, _ = met(stub, BASELINE, model="a")

    assert "a" == facts.model


def test_a_chat_server_is_probed_by_a_chat():
    """Not all servers have completions."""
    with StubServer(faults=Faults(num_500=1)) as stub:
        _, warnings = met(stub, BASELINE)

    assert "chats are answered, but not completions" in warnings[0]
    assert ["prompt" in stub.bodies[0], "messages" in stub.bodies[1]] == [True, True]


def test_nobody_there_is_not_started():
    """With what to do about it."""
    with StubServer() as stub:
        pass
    with pytest.raises(ServerNotStarted, match=f"{stub.url} cannot be connected to. Start the"):
        met(stub, BASELINE)


@pytest.mark.parametrize(
    ("page", "kind"), [("/v1/models", ServerNotStarted), ("/metrics", ServerLost)]
)
def test_a_page_that_does_not_come_is_not_waited_for(monkeypatch, page, kind):
    """Not as long as for an answer."""
    monkeypatch.setattr(connection, "_PAGE_S", 0.1)
    waited = pytest.raises(kind, match=r"sent nothing for 0\.1 s")
    with StubServer(faults=Faults(hangs_on=page)) as stub, waited:
        met(stub, BASELINE)


def test_a_request_may_be_silent_for_as_long_as_it_may_take(monkeypatch):
    """It waits in a loaded server's queue; --request-timeout is the one limit."""
    seen = []

    def opened(url: str, *, limits: Limits, rng: random.Random) -> Connection:
        seen.append(limits)
        return Connection(url, limits=limits, rng=rng)

    async def run(stated: Serving) -> None:
        await (await connect(stub.url, arm=BASELINE, serving=stated)).close()

    monkeypatch.setattr(attach, "Connection", opened)
    with StubServer() as stub:
        engine = ServingEngine(stub.engine)
        loads = (Load(concurrency=1),)
        asyncio.run(run(Serving(engine=engine, loads=loads, request_timeout_s=900.0)))

    assert [(900.0, 900.0)] == [(limits.idle_s, limits.request_s) for limits in seen]


def test_another_kind_of_server_is_no_server():
    """It answers, but not at the paths of the protocol."""

    async def run() -> None:
        serving = Serving(engine=ServingEngine.VLLM, loads=(Load(concurrency=1),))
        await connect(f"{stub.url}/elsewhere", arm=BASELINE, serving=serving, limits=FAST)

    with StubServer() as stub, pytest.raises(UnexpectedReply, match="names no models"):
        asyncio.run(run())


def test_a_key_that_is_wanted_is_asked_for(monkeypatch):
    """Before anything is measured."""
    with StubServer(api_key="k-1") as stub:
        with pytest.raises(UsageError, match="environment variable SPECMEASURE_API_KEY"):
            met(stub, BASELINE)
        monkeypatch.setenv("SPECMEASURE_API_KEY", "k-1")

        assert "stub" == met(stub, BASELINE)[0].model


def test_a_started_server_is_known_by_its_command():
    """Its port is of no use to a reader."""

    async def run() -> ServerFacts:
        serving = Serving(engine=ServingEngine.VLLM, loads=(Load(concurrency=1),))
        command = ("vllm", "serve")
        server = await connect(stub.url, arm=BASELINE, serving=serving, command=command)
        await server.close()
        return server.facts

    with StubServer() as stub:
        facts = asyncio.run(run())

    assert (None, ("vllm", "serve")) == (facts.url, facts.command)


@pytest.mark.parametrize("url", ["http://h:1/v1", "http://h:1/v1/", "http://h:1/", "http://h:1"])
def test_the_api_version_is_no_part_of_the_address(url):
    """Users copy it either way; counters stand beside it."""
    assert "http://h:1" == _connection(url).url


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://h/",
        "http://",
        "http://me:pw-99@h:1",
        "http://h:1/?key=pw-99",
        "http://h:x",
        "me:pw-99@h:1",
    ],
)
def test_what_is_no_address_is_refused(url):
    """Credentials in it are refused, and not repeated."""
    with pytest.raises(UsageError) as caught:
        _connection(url)
    assert "pw-99" not in str(caught.value)


def _connection(url: str) -> Connection:
    opened = Connection(url, limits=FAST, rng=random.Random(0))
    asyncio.run(opened.close())
    return opened


@pytest.mark.parametrize("engine", ["vllm", "openai"])
def test_a_failed_probe_fails_the_connection(engine):
    """One clear error; nothing stays open."""
    with (
        StubServer(engine=engine, faults=Faults(broken_json=True)) as stub,
        pytest.raises(SpecmeasureError, match="not JSON"),
    ):
        met(stub, BASELINE)


@pytest.mark.parametrize(
    ("engine", "pages", "build"),
    [
        (ServingEngine.VLLM, {"/version": {"version": "0.33.0"}}, Build(version="0.33.0")),
        (ServingEngine.VLLM, {"/version": "0.33.0"}, Build()),
        (ServingEngine.VLLM, {"/version": {"version": 33}}, Build()),
        (ServingEngine.TRTLLM, {"/version": {"version": "1.2.0"}}, Build(version="1.2.0")),
        (ServingEngine.LLAMACPP, {"/props": {"build_info": "b6123-1a"}}, Build(version="b6123-1a")),
        (ServingEngine.LLAMACPP, {"/props": {"build_info": "b0-unknown"}}, Build()),
        (ServingEngine.LLAMACPP, {}, Build()),
        (
            ServingEngine.SGLANG,
            {"/server_info": {"version": "0.5.9", "speculative_num_steps": 3}},
            Build(version="0.5.9", num_speculative_tokens=3),
        ),
        (
            ServingEngine.SGLANG,
            {"/get_server_info": {"version": "0.4.6", "speculative_num_steps": None}},
            Build(version="0.4.6"),
        ),
        (ServingEngine.OPENAI, {}, Build()),
    ],
)
def test_a_version_is_what_the_engine_tells(engine, pages, build):
    """Or None, where it does not, or tells something else."""

    async def run() -> Build:
        opened = Connection(stub.url, limits=FAST, rng=random.Random(0))
        try:
            return await read_build(opened, engine)
        finally:
            await opened.close()

    with StubServer(engine="openai") as stub:
        stub.pages = pages
        assert build == asyncio.run(run())


@pytest.mark.parametrize("key", ["sk-é", "sk-1\nX-Other: 2"])
def test_a_key_that_is_none_is_not_sent(monkeypatch, key):
    """It is refused without being shown."""
    monkeypatch.setenv("SPECMEASURE_API_KEY", key)
    with pytest.raises(UsageError, match="cannot have") as caught:
        _connection("http://h:1")
    assert "sk-" not in str(caught.value)
