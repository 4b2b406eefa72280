"""A real llama.cpp server, started by specmeasure, against its own engine in process."""

import asyncio
from dataclasses import dataclass

import httpx
import pytest

from specmeasure.engines.transformers import TransformersEngine
from specmeasure.records.corpus import AskedSampling
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN, Arm, Method, ModelOptions, Plan
from specmeasure.records.serving import Evidence, Load, Serving, ServingEngine
from specmeasure.records.trace import FinishReason
from specmeasure.servers.attach import connect
from specmeasure.servers.commands import launch_for
from specmeasure.servers.managed import ManagedFleet
from specmeasure.servers.prometheus import difference
from specmeasure.servers.server import Ask

pytestmark = pytest.mark.slow

K = 4
DRAFT = Arm(
    name="draft k=4", method=Method.DRAFT_MODEL, num_speculative_tokens=K, draft="embedded:draft"
)
NGRAM = Arm(
    name="ngram k=4", method=Method.NGRAM, num_speculative_tokens=K, max_ngram=2, min_ngram=2
)
TEXTS = (  # of these answers, three end by themselves: one of them inside accepted drafts
    "<|user|>\nWrite a function that adds two numbers.\n<|assistant|>\n",
    "<|user|>\nSummarise the text below.\nThe cat sat. The cat sat.\n<|assistant|>\n",
    "def mean(values):\n    ",
    "import os\n",
    "1 2 3 4 1 2 3 4 1 2 3 4 1 2",
    "class Token:\n    def __init__(self, kind, value):\n",
)


def planned(*arms, **serving):
    return Plan(
        target="embedded:target",
        arms=(BASELINE, *arms, BASELINE_AGAIN),
        max_new_tokens=48,
        options=ModelOptions(device="cpu", dtype="float32", num_threads=1),
        serving=Serving(
            engine=ServingEngine.LLAMACPP, loads=(Load(concurrency=1),), num_windows=1, **serving
        ),
    )


PLAN = planned(DRAFT, NGRAM)
SETTINGS = PLAN.settings_for(AskedSampling())


@dataclass(frozen=True)
class Served:
    """One request and what the server's counters made of it."""

    reply: object
    counted: object


@dataclass(frozen=True)
class Session:
    """All that a fleet of three servers showed."""

    served: dict[str, list[Served]]
    facts: dict[str, object]
    memory: dict[str, int]
    tokenized: list[list[int]]
    forced: dict[str, object]  # an answer made of nothing but one special token


@pytest.fixture(scope="module")
def engine():
    return TransformersEngine.load(PLAN)


@pytest.fixture(scope="module")
def contexts(engine):
    return [engine._loaded.tokenizer(text)["input_ids"] for text in TEXTS]


@pytest.fixture(scope="module")
def observed(engine, contexts):
    """What the engine in process makes of the same prompts, by arm."""
    made = {
        arm.name: [engine.observe(ids, arm, SETTINGS) for ids in contexts]
        for arm in (BASELINE, DRAFT, NGRAM)
    }
    return made | {BASELINE_AGAIN.name: made[BASELINE.name]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="module")
def session(contexts, cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("servers")

    async def live():
        launch = launch_for(PLAN, cache=cache)
        async with ManagedFleet(PLAN, folder, connect=connect, launch=launch) as fleet:
            await fleet.start_all()
            served, facts, memory = {}, {}, {}
            for arm in PLAN.arms:
                server = await fleet.server(arm)
                served[arm.name] = [await asked(server, ids) for ids in contexts]
                facts[arm.name] = server.facts
                memory[arm.name] = fleet.memory_bytes(arm)
            async with httpx.AsyncClient(base_url=url_of(facts["baseline"])) as client:
                return Session(
                    served=served,
                    facts=facts,
                    memory=memory,
                    tokenized=[await tokens_of(client, text) for text in TEXTS],
                    forced=await forced(client, 6),
                )

    return asyncio.run(live())


async def asked(server, ids):
    before = await server.snapshot()
    reply = await server.ask(Ask(context=tuple(ids), settings=SETTINGS))
    return Served(reply=reply, counted=difference(before, await server.snapshot()))


def url_of(facts):
    (port,) = (word[5:] for word in facts.command if word.startswith("port="))
    return f"http://127.0.0.1:{port}"


async def tokens_of(client, text):
    asks = {"content": text, "add_special": True, "parse_special": True}
    return (await client.post("/tokenize", json=asks)).json()["tokens"]


async def forced(client, token_id):
    asks = {"prompt": [1, 100], "n_predict": 5, "logit_bias": [[token_id, 1000.0]]}
    reply = await client.post("/completion", json={**asks, "temperature": 0, "return_tokens": True})
    return reply.json()


def blocks_of(observation):
    return [block for block in observation.blocks if block.num_draft_tokens]


def llamacpp_counts(observation):
    """Drafted, accepted, blocks and accepted by position, as llama.cpp counts them.

    Both shorten the last draft to what the budget leaves. Where an accepted draft is EOS, it is
    accepted to specmeasure, while llama.cpp stops before it counts it: one less, at that place.
    """
    blocks = blocks_of(observation)
    kept = [block.num_accepted_tokens - block.truncated for block in blocks]
    return (
        sum(block.num_draft_tokens for block in blocks),
        sum(kept),
        len(blocks),
        tuple(sum(one > place for one in kept) for place in range(K)),
    )


def test_every_arm_answers_as_in_process(observed, session):
    """Greedy and in float32, token for token: baseline, draft model, n-gram, A/A."""
    for arm in PLAN.arms:
        ours = observed[arm.name]
        theirs = [one.reply for one in session.served[arm.name]]

        assert [one.token_ids for one in ours] == [one.token_ids for one in theirs]
        assert [one.finish_reason for one in ours] == [one.finish_reason for one in theirs]


def test_counters_equal_the_engine_in_process(observed, session):
    """Drafts, blocks and acceptance by position, prompt by prompt, at K = 4."""
    ours = observed[DRAFT.name]

    theirs = [one.counted.drafts for one in session.served[DRAFT.name]]
    assert any(block.truncated for one in ours for block in one.blocks)
    assert any(one.finish_reason is FinishReason.BUDGET for one in ours)
    assert [llamacpp_counts(one) for one in ours] == [
        (
            one.num_draft_tokens,
            one.num_accepted_tokens,
            one.num_drafted_blocks,
            one.accepted_by_position,
        )
        for one in theirs
    ]


def test_a_request_and_the_counters_tell_the_same(session):
    """The timings of each answer are what the counters moved by."""
    for arm in (DRAFT, NGRAM):
        for one in session.served[arm.name]:
            told = one.reply.counts
            expected = (0, 0) if told is None else (told.num_draft_tokens, told.num_accepted_tokens)
            counted = one.counted.drafts
            assert expected == (counted.num_draft_tokens, counted.num_accepted_tokens)


def test_a_baseline_drafts_nothing_and_lookup_does(session):
    """The counters of a baseline stand still; an n-gram arm's move."""
    drafted = {
        name: sum(one.counted.drafts.num_draft_tokens for one in served)
        for name, served in session.served.items()
    }

    assert 0 == drafted["baseline"]
    assert drafted[NGRAM.name] > 0


def test_facts_are_of_managed_servers(session):
    """A command in the place of a URL, K as the server shows it, memory of each."""
    facts = session.facts[DRAFT.name]

    assert ("embedded:target", None, K) == (facts.model, facts.url, facts.num_speculative_tokens)
    assert "speculative.draft.n_max=4" in facts.command
    assert Evidence.COUNTERS is facts.evidence
    assert session.facts["baseline"] == session.facts["baseline A/A"]
    assert all(memory > 10e6 for memory in session.memory.values())


def test_texts_have_the_same_tokens(contexts, session):
    """The converted tokenizer splits as the original, special tokens and BOS included."""
    assert contexts == session.tokenized


def test_a_token_that_only_looks_like_an_end_ends_nothing(session):
    """The target's "<|call|>" is no end of its answers, though llama.cpp knows one of that name."""
    assert [6] * 5 == session.forced["tokens"]
    assert "limit" == session.forced["stop_type"]


def test_engine_arguments_reach_the_server(contexts, cache, tmp_path):
    """Synthetic rates of 1, 1, 0 and 0 keep exactly two drafts of every whole block."""
    plan = planned(DRAFT, engine_args=("speculative.synth_rates=[1.0, 1.0, 0.0, 0.0]",))

    async def live():
        launch = launch_for(plan, cache=cache)
        async with ManagedFleet(plan, tmp_path, connect=connect, launch=launch) as fleet:
            await fleet.start_all()
            server = await fleet.server(DRAFT)
            return [await asked(server, ids) for ids in contexts], fleet.warnings

    served, warnings = asyncio.run(live())

    for one in served:
        blocks = one.counted.drafts.num_drafted_blocks
        first, second, *rest = one.counted.drafts.accepted_by_position
        assert [0, 0] == rest
        assert blocks - 1 <= second <= first <= blocks  # the last one may be cut
    assert any("synthetic" in line for line in warnings)
