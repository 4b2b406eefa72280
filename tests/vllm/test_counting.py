"""A real vLLM on a CPU, started by specmeasure: its blocks, histogram, totals and counters agree.

It comes up in a minute or so, once for all tests here; ``make test-vllm`` prepares it.
"""

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from specmeasure.engines.rendering import Renderer
from specmeasure.records.corpus import Message, Prompt
from specmeasure.records.plan import BASELINE, Arm, DecodeSettings, Method, ModelOptions, Plan
from specmeasure.records.serving import Evidence, Load, Serving, ServingEngine
from specmeasure.servers.attach import connect
from specmeasure.servers.commands import launch_for
from specmeasure.servers.counts import contradiction, cross_check, foreign_tokens, implied_tokens
from specmeasure.servers.managed import ManagedFleet
from specmeasure.servers.prometheus import difference
from specmeasure.servers.server import Ask, Reply, Server, Snapshot

REPOSITORY = Path(__file__).parents[2]
PREPARED = REPOSITORY / ".venv-vllm" / "bin" / "python"
DRAFT = Arm(
    name="draft k=4",
    method=Method.DRAFT_MODEL,
    num_speculative_tokens=4,
    draft="embedded:draft",
)
BUDGETS = (2, 7, 16, 33, 48, 64)

pytestmark = pytest.mark.vllm


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The server of the draft arm, and the event loop that its connection lives in."""

    server: Server
    runner: asyncio.Runner

    def ask(self, asks: Sequence[Ask]) -> tuple[list[Reply], Snapshot]:
        """Answers to requests that are all in flight at once, and what was counted meanwhile."""

        async def answered() -> tuple[list[Reply], Snapshot]:
            before = await self.server.snapshot()
            replies = await asyncio.gather(*map(self.server.ask, asks))
            return list(replies), difference(before, await self.server.snapshot())

        return self.runner.run(answered())


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter that has vLLM."""
    given = os.environ.get("SPECMEASURE_VLLM_PYTHON", str(PREPARED))
    if not Path(given).is_file():
        pytest.skip("no vLLM here: make test-vllm prepares it, or set SPECMEASURE_VLLM_PYTHON")
    return given


@pytest.fixture(scope="module")
def running(python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    serving = Serving(
        engine=ServingEngine.VLLM,
        loads=(Load(concurrency=len(BUDGETS)),),
        program=python,
        engine_args=("--max-model-len", "512", "--enforce-eager"),
    )
    plan = Plan(
        target="embedded:target",
        arms=(BASELINE, DRAFT),
        options=ModelOptions(dtype="float32", num_threads=1),
        serving=serving,
    )
    fleet = ManagedFleet(
        plan, tmp_path_factory.mktemp("logs"), connect=connect, launch=launch_for(plan)
    )
    with asyncio.Runner() as runner:
        try:
            yield Running(server=runner.run(fleet.server(DRAFT)), runner=runner)
        finally:
            runner.run(fleet.close())


@pytest.fixture(scope="module")
def asks() -> list[Ask]:
    """The first prompts about code, each with another budget."""
    renderer = Renderer("embedded:target", ModelOptions())
    rows = (REPOSITORY / "prompts" / "code.jsonl").read_text().splitlines()[: len(BUDGETS)]
    return [
        Ask(
            context=renderer.context(asked(row), 0, []),
            settings=DecodeSettings(max_new_tokens=budget),
        )
        for row, budget in zip(rows, BUDGETS, strict=True)
    ]


def asked(row: str) -> Prompt:
    found = json.loads(row)
    message = Message(role="user", content=found["turns"][0])
    return Prompt(prompt_id=found["id"], category="code", source="code.jsonl", messages=(message,))


def test_it_is_what_was_asked_for(running):
    """K by its own word, ids given, every block told."""
    facts = running.server.facts

    assert 4 == facts.num_speculative_tokens
    assert facts.gives_ids
    assert Evidence.BLOCKS == facts.evidence


def test_every_request_is_what_the_server_counted(running, asks):
    """One at a time: steps, histogram, totals and the counters' differences are the same drafts."""
    for ask in asks:
        (reply,), counted = running.ask([ask])
        counts = reply.counts

        assert Evidence.BLOCKS == counts.evidence
        assert {4} == {drafted for drafted, _ in counts.steps}
        assert 5 == len(counts.histogram)
        assert () == cross_check([counts], counted.drafts)
        assert counts.num_draft_tokens == counted.drafts.num_draft_tokens
        assert 0 == foreign_tokens(reply.num_emitted_tokens, counted.num_emitted_tokens)


def test_requests_together_are_what_the_server_counted(running, asks):
    """All at once: their sums are the counters' differences, by position, too."""
    replies, counted = running.ask(asks)

    assert () == cross_check([reply.counts for reply in replies], counted.drafts)
    assert counted.drafts.num_draft_tokens > 100
    assert 4 == len(counted.drafts.accepted_by_position)
    assert counted.num_emitted_tokens == sum(reply.num_emitted_tokens for reply in replies)


def test_answers_are_as_long_as_their_blocks(running, asks):
    """The first token, and each block's accepted drafts and one more, less what the end cut."""
    replies, _ = running.ask(asks)
    for ask, reply in zip(asks, replies, strict=True):
        num_cut = implied_tokens(reply.counts) - reply.num_emitted_tokens

        assert len(reply.token_ids) == reply.num_emitted_tokens <= ask.settings.max_new_tokens
        assert 0 <= num_cut <= reply.counts.steps[-1][1]
        assert contradiction(reply.counts, reply.num_emitted_tokens) is None


def test_load_changes_no_greedy_answer(running, asks):
    """Alone or together, the ids are the same in float32."""
    together, _ = running.ask(asks)
    alone = [reply for ask in asks for reply in running.ask([ask])[0]]

    assert [reply.token_ids for reply in alone] == [reply.token_ids for reply in together]
