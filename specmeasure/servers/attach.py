"""Meeting a server: what it serves, what it is, how much it reveals, whether it speculates."""

import random
from dataclasses import dataclass

from specmeasure.errors import ServerLost, ServerNotStarted, UnexpectedReply, UsageError
from specmeasure.records.corpus import Message
from specmeasure.records.plan import Arm, DecodeSettings, Method
from specmeasure.records.serving import Evidence, ServerFacts, Serving, ServingEngine
from specmeasure.records.trace import DraftCounts
from specmeasure.servers.build import Build, read_build
from specmeasure.servers.client import HttpServer, ask_once, read_snapshot
from specmeasure.servers.connection import Connection, unknown_model
from specmeasure.servers.dialect import Dialect
from specmeasure.servers.dialects import dialect_of
from specmeasure.servers.limits import Limits
from specmeasure.servers.server import Ask, Reply, Snapshot

PROBE_TEXT = "1 2 3 4 1 2 3 4 1 2 3 4 1 2"  # repeats itself, so that n-gram lookup drafts, too
PROBE_SETTINGS = DecodeSettings(max_new_tokens=12)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What one small request brought to light."""

    reply: Reply
    counters: Snapshot | None  # after it
    refused: UnexpectedReply | None  # a completion, where only a chat was answered

    @property
    def evidence(self) -> Evidence:
        if self.reply.counts is not None:
            return self.reply.counts.evidence
        return Evidence.NONE if self._drafts is None else Evidence.COUNTERS

    @property
    def num_drafts(self) -> int:
        """Draft tokens of the request, and by the counters of all since the server's start."""
        sources = (self.reply.counts, self._drafts)
        return max((counts.num_draft_tokens for counts in sources if counts is not None), default=0)

    @property
    def has_signs(self) -> bool:
        """Whether it says anything at all about drafts."""
        return self.reply.counts is not None or self._drafts is not None

    @property
    def num_speculative_tokens(self) -> int | None:
        """K by the length of a histogram, or of the counters by position."""
        counts = self.reply.counts
        if counts is not None and counts.histogram is not None:
            return len(counts.histogram) - 1
        positions = None if self._drafts is None else self._drafts.accepted_by_position
        return len(positions) if positions else None

    @property
    def _drafts(self) -> DraftCounts | None:
        return None if self.counters is None else self.counters.drafts


async def connect(
    url: str,
    *,
    arm: Arm,
    serving: Serving,
    limits: Limits | None = None,
    command: tuple[str, ...] = (),
) -> HttpServer:
    """Open and check the connection of one arm; the caller closes it.

    Asks for the models served, the version and one short answer.

    Args:
        url: where the server is.
        arm: baseline or not decides what is looked for.
        serving: its engine, its model's name.
        limits: None: the request timeout of ``serving``, else as ``Limits`` has them.
        command: of a server that this run started; its URL is then left out of the facts.

    Raises:
        ServerNotStarted: nothing answers at the URL.
        UsageError: another model, another API key, or a baseline that speculates.
        UnexpectedReply: it is no server of this kind.
        ServerLost: it stops answering.
    """
    patience_s = serving.request_timeout_s  # a request may wait all of it in the server's queue
    limits = limits or Limits(idle_s=patience_s, request_s=patience_s)
    connection = Connection(url, limits=limits, rng=random.Random(arm.name))
    try:
        return await _met(connection, arm, serving, command)
    except BaseException:
        await connection.close()
        raise


async def _met(
    connection: Connection, arm: Arm, serving: Serving, command: tuple[str, ...]
) -> HttpServer:
    dialect = dialect_of(serving.engine)
    model = await _served_model(connection, serving.model)
    build = await read_build(connection, serving.engine)
    shown = await _probe(connection, dialect, model)
    if arm.is_baseline and _speculates(serving.engine, shown):
        raise UsageError(
            f"{connection.url} is to be the baseline, but it speculates: it has drafted "
            f"{shown.num_drafts} tokens. Start it without a draft, or name another URL."
        )
    facts = ServerFacts(
        arm=arm.name,
        engine=serving.engine,
        model=model,
        version=build.version,
        url=None if command else connection.url,
        command=command,
        evidence=shown.evidence,
        gives_ids=shown.reply.token_ids is not None,
        num_speculative_tokens=_num_speculative_tokens(arm, build, shown),
    )
    return HttpServer(connection, dialect, facts, _warnings(arm, facts, shown))


async def _served_model(connection: Connection, wanted: str | None) -> str:
    try:
        served = await connection.models()
    except ServerLost as error:
        raise ServerNotStarted(
            f"{error}. Start the server, or check the URL and that this machine may reach it."
        ) from error
    if not served:
        raise UnexpectedReply(
            f"{connection.url} names no models at /v1/models: it is no OpenAI-compatible server, "
            "or its API is at another path"
        )
    if wanted is None and len(served) > 1:
        raise UsageError(
            f"{connection.url} serves {len(served)} models: {', '.join(served)}. Name one: "
            "serving.model, or --model."
        )
    if wanted is not None and wanted not in served:
        raise unknown_model(connection.url, wanted, served)
    return wanted or served[0]


async def _probe(connection: Connection, dialect: Dialect, model: str) -> _Shown:
    """A few tokens after a text; of a server that takes chats alone, after a message."""
    text = Ask(context=PROBE_TEXT, settings=PROBE_SETTINGS)
    chat = Ask(context=(Message(role="user", content=PROBE_TEXT),), settings=PROBE_SETTINGS)
    refused = None
    try:
        reply = await ask_once(connection, dialect, model, text)
    except UnexpectedReply as error:
        refused = error
        try:
            reply = await ask_once(connection, dialect, model, chat)
        except UnexpectedReply:
            raise error from None
    counters = await read_snapshot(connection, dialect, model)
    return _Shown(reply=reply, counters=counters, refused=refused)


def _speculates(engine: ServingEngine, shown: _Shown) -> bool:
    """Whether drafts were made; vLLM has the counters only where drafts are to be made."""
    return shown.num_drafts > 0 or (engine is ServingEngine.VLLM and shown.has_signs)


def _num_speculative_tokens(arm: Arm, build: Build, shown: _Shown) -> int | None:
    if arm.is_baseline:
        return None
    return build.num_speculative_tokens or shown.num_speculative_tokens


def _warnings(arm: Arm, facts: ServerFacts, shown: _Shown) -> tuple[str, ...]:
    warnings = []
    if shown.refused is not None:
        warnings.append(
            f"{arm.name}: chats are answered, but not completions, which texts and prompts "
            f"rendered here are sent as: {shown.refused}"
        )
    if not arm.is_baseline:
        warnings += _warnings_of_speculation(arm, facts, shown)
    return tuple(warnings)


def _warnings_of_speculation(arm: Arm, facts: ServerFacts, shown: _Shown) -> list[str]:
    who = f"{arm.name}: the {facts.engine.display_name}"
    told = facts.num_speculative_tokens
    warnings = []
    if facts.engine is not ServingEngine.OPENAI and facts.evidence is Evidence.NONE:
        warnings.append(
            f"{who} at {facts.url or 'its port'} shows no sign of speculation, neither in a reply "
            f"nor in counters. {_REMEDIES[facts.engine]}"
        )
    elif (
        facts.engine is ServingEngine.LLAMACPP
        and arm.method is not Method.NGRAM  # look-ups often find nothing in so short an answer
        and not shown.num_drafts
    ):
        warnings.append(
            f"{who} at {facts.url or 'its port'} has drafted nothing yet, though it was to go on "
            "with a text that repeats itself. Was it started with a draft?"
        )
    elif facts.evidence is Evidence.COUNTERS and facts.engine is ServingEngine.VLLM:
        warnings.append(
            f"{who} tells drafts by counters alone; a newer one, started with "
            "--per-request-spec-decode-metrics detailed, tells them block by block."
        )
    is_stated = arm.method is not Method.SERVED  # of those, the plan does not know K
    if is_stated and told not in (None, arm.num_speculative_tokens):
        warnings.append(
            f"{who} drafts up to {told} tokens a block, the plan says {arm.num_speculative_tokens}."
        )
    return warnings


_REMEDIES = {
    ServingEngine.VLLM: "Is --speculative-config set, and --disable-log-stats not?",
    ServingEngine.LLAMACPP: "Start it with a draft, and with --metrics.",
    ServingEngine.SGLANG: "Is --speculative-algorithm set, and --enable-metrics?",
    ServingEngine.TRTLLM: "Is speculative_config set?",
}
