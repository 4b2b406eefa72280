"""Servers without sockets, in a time that passes only while everybody waits.

``FakeServer`` keeps what a real one promises: one next token to every greedy context, whatever arm
serves it, log-probabilities that go with it, counters that add up, and a service time that grows
with the requests in flight. Times are exact: ``run`` uses a loop whose clock jumps.
"""

import asyncio
import selectors
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from random import Random
from typing import Any, TypeVar

from specmeasure.errors import ServerLost, UnexpectedReply
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Arm, Plan, TrialKey
from specmeasure.records.serving import Evidence, Load, ServerFacts, Serving, ServingEngine
from specmeasure.records.trace import (
    Checks,
    DraftCounts,
    FinishReason,
    TrialRecord,
    WindowKey,
    WindowRecord,
)
from specmeasure.run.windows import windows_in_order
from specmeasure.servers.server import Ask, Reply, Snapshot, TokenLogprobs
from tests.fakes import make_plan

T = TypeVar("T")
EOS, VOCAB_SIZE = 0, 500
NOISE = 6e-4  # between what a token gets while decoding and behind a prompt
TIE = 1e-3  # the distance of the two likeliest tokens where they nearly tie
FAR = 3.0  # and elsewhere
TOP = -0.2  # log-probability of the likeliest


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that does not wait: where nothing is ready, its clock jumps to the next moment."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        self._now += seconds


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("everybody waits, and for nothing")
        self._loop.jump(max(0.0, timeout))
        return super().select(0)


def run(work: Coroutine[Any, Any, T]) -> T:
    """What the work returns, at once."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def clock() -> float:
    """The running loop's time."""
    return asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What a server's passes cost: all who are in flight share it."""

    ttft_s: float = 0.05
    pass_s: float = 0.010  # alone
    crowd: float = 0.05  # more for each other request in flight when one begins


@dataclass(slots=True, kw_only=True)
class FakeServer:
    """One arm's server.

    Args:
        name: of the arm.
        num_speculative_tokens: K; 0 drafts nothing.
        acceptance_rate: of each draft.
        pace: of its passes.
        length: answers end after so many tokens at the latest; they may ask for fewer.
        wrong_at: a place of every answer at which its verifier lets a wrong token through.
        wrong_rank: which alternative that is; 1 is the runner-up, 99 none of those that are told.
        ties_every: one context in so many nearly ties; 0: none does.
        breaks_ties: whether it takes the runner-up there.
        gives_ids: whether replies hold token ids.
        failures: what asks of a context fail with, by the context's last id.
        dies_after: asks that it answers before it is lost; None: it lives.
        foreign_tokens: that others have it emit and draft during every ask of ours.
        counts_after_s: how long its counters lag behind.
        restarts_after: asks after which its counters stand at 0 again; None: never.
        torn_looks: which looks at its counters, from 0, find a page that contradicts itself.
    """

    name: str
    num_speculative_tokens: int = 0
    acceptance_rate: float = 0.7
    pace: Pace = Pace()
    length: int = 12
    wrong_at: int | None = None
    wrong_rank: int = 99
    ties_every: int = 0
    breaks_ties: bool = False
    gives_ids: bool = True
    failures: Mapping[int, str] = field(default_factory=dict)
    dies_after: int | None = None
    foreign_tokens: int = 0
    counts_after_s: float = 0.0
    restarts_after: int | None = None
    torn_looks: Collection[int] = ()
    num_looks: int = 0
    asks: list[Ask] = field(default_factory=list)
    sent_at: list[float] = field(default_factory=list)
    num_in_flight: int = 0
    most_in_flight: int = 0
    request_seconds: float = 0.0  # spent by all requests together, by its own count
    facts: ServerFacts = field(init=False)
    _counted: Counter[str] = field(default_factory=Counter)
    _counted_at: float = 0.0

    def __post_init__(self) -> None:
        self.facts = ServerFacts(
            arm=self.name,
            engine=ServingEngine.LLAMACPP,
            model="fake",
            version=None,
            url=None,
            evidence=Evidence.COUNTERS,
            gives_ids=self.gives_ids,
            num_speculative_tokens=self.num_speculative_tokens or None,
        )

    async def ask(self, ask: Ask) -> Reply:
        """Stream one answer: nobody sees the stream."""
        if self.dies_after is not None and len(self.asks) >= self.dies_after:
            raise ServerLost(f"{self.name} died.")
        self.asks.append(ask)
        if len(self.asks) == self.restarts_after:
            self._counted.clear()
        sent = clock()
        self.sent_at.append(sent)
        self._now_in_flight(+1)
        self.most_in_flight = max(self.most_in_flight, self.num_in_flight)
        pass_s = self.pace.pass_s * (1 + self.pace.crowd * (self.num_in_flight - 1))
        try:
            await asyncio.sleep(self.pace.ttft_s)
            context = _ids_of(ask)
            if context[-1] in self.failures:
                raise UnexpectedReply(self.failures[context[-1]])
            answer, logprobs = self._answer(context, ask)
            counts = self._counts(context, len(answer), ask)
            num_passes = len(answer) - 1 - counts.num_accepted_tokens
            await asyncio.sleep(num_passes * pass_s)
        finally:
            self._now_in_flight(-1)
        asyncio.get_running_loop().call_later(self.counts_after_s, self._count, counts, len(answer))
        return Reply(
            token_ids=answer if self.gives_ids else None,
            text=" ".join(f"w{token}" for token in answer),
            num_prompt_tokens=len(context),
            num_emitted_tokens=len(answer),
            finish_reason=FinishReason.EOS if answer[-1] == EOS else FinishReason.BUDGET,
            sent=sent,
            ttft_s=self.pace.ttft_s,
            decode_s=num_passes * pass_s,
            counts=counts if self.num_speculative_tokens else None,
            num_retries=0,
            logprobs=logprobs if ask.num_logprobs else None,
        )

    def _now_in_flight(self, change: int) -> None:
        now = clock()
        self.request_seconds += self.num_in_flight * (now - self._counted_at)
        self._counted_at = now
        self.num_in_flight += change

    async def snapshot(self) -> Snapshot:
        """Its counters now."""
        self.num_looks += 1
        if self.num_looks - 1 in self.torn_looks:
            raise UnexpectedReply("/metrics contradicts itself")
        drafts = None
        if self.num_speculative_tokens:
            drafts = DraftCounts(
                num_draft_tokens=self._counted["drafted"],
                num_accepted_tokens=self._counted["accepted"],
                num_drafted_blocks=self._counted["blocks"],
            )
        return Snapshot(drafts=drafts, num_emitted_tokens=self._counted["emitted"])

    def _answer(
        self, context: tuple[int, ...], ask: Ask
    ) -> tuple[tuple[int, ...], tuple[TokenLogprobs, ...]]:
        said: list[int] = []
        logprobs = []
        while len(said) < min(self.length, ask.settings.max_new_tokens) and said[-1:] != [EOS]:
            ranks = self._ranks((*context, *said))
            is_decoding = bool(said)
            said.append(ranks[0] if ask.settings.sampling.is_greedy else self._drawn(ask, said))
            gap = TIE if self._nearly_ties((*context, *said[:-1])) else FAR
            if is_decoding:
                gap -= self._noise((*context, *said[:-1]))
            if len(said) - 1 == self.wrong_at:
                said[-1] = ranks[self.wrong_rank]
            elif gap < FAR / 2 and self.breaks_ties:
                said[-1] = ranks[1]
            told = dict(zip(ranks, (TOP, TOP - gap, *(-5.0 - i for i in range(6))), strict=False))
            logprobs.append(
                TokenLogprobs(
                    token_id=said[-1], logprob=told.get(said[-1], -20.0), alternatives=told
                )
            )
        return tuple(said), tuple(logprobs)

    def _ranks(self, context: tuple[int, ...]) -> list[int]:
        """Tokens by likelihood, the same for all servers."""
        first = 1 + _hashed("next", context) % (VOCAB_SIZE - 1)
        ranks = [1 + (first - 1 + i) % (VOCAB_SIZE - 1) for i in range(100)]
        return [EOS, *ranks] if _hashed("end", context) % 23 == 0 else ranks

    def _nearly_ties(self, context: tuple[int, ...]) -> bool:
        return bool(self.ties_every) and _hashed("tie", context) % self.ties_every == 0

    def _noise(self, context: tuple[int, ...]) -> float:  # noqa: ARG002 - the same everywhere
        return NOISE

    def _drawn(self, ask: Ask, said: Sequence[int]) -> int:
        return Random(repr((ask.settings.seed, said))).randrange(VOCAB_SIZE)

    def _counts(self, context: tuple[int, ...], num_emitted: int, ask: Ask) -> DraftCounts:
        rng = Random(repr((context, self.num_speculative_tokens, ask.settings.seed)))
        num_left, drafted, accepted, num_blocks = num_emitted - 1, 0, 0, 0
        while num_left > 0 and self.num_speculative_tokens:
            num_drafts = min(self.num_speculative_tokens, num_left)
            flips = (rng.random() < self.acceptance_rate for _ in range(num_drafts - 1))
            kept = next((i for i, is_kept in enumerate(flips) if not is_kept), num_drafts - 1)
            drafted, accepted, num_blocks = drafted + num_drafts, accepted + kept, num_blocks + 1
            num_left -= kept + 1
        return DraftCounts(
            num_draft_tokens=drafted, num_accepted_tokens=accepted, num_drafted_blocks=num_blocks
        )

    def _count(self, counts: DraftCounts, num_emitted: int) -> None:
        self._counted["drafted"] += counts.num_draft_tokens + self.foreign_tokens
        self._counted["accepted"] += counts.num_accepted_tokens
        self._counted["blocks"] += counts.num_drafted_blocks or 0
        self._counted["emitted"] += num_emitted + self.foreign_tokens


@dataclass(slots=True, kw_only=True)
class FakeFleet:
    """Servers of a plan's arms; the baselines share one.

    Args:
        plan: with its arms.
        keep_apart: one server is up at a time; another one's start stops it.
        changes: of the server of an arm, by the arm's name.
    """

    plan: Plan
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)
    warnings: tuple[str, ...] = ()
    up: dict[str, FakeServer] = field(default_factory=dict)

    async def server(self, arm: Arm) -> FakeServer:
        name = self.plan.arms[0].name if arm.is_baseline else arm.name
        if name not in self.up:
            if self.plan.serving and self.plan.serving.keep_apart:
                self.up.clear()
            self.starts.append(name)
            self.up[name] = FakeServer(
                name=name,
                num_speculative_tokens=arm.num_speculative_tokens,
                **self.changes.get(name, {}),
            )
        return self.up[name]

    def memory_bytes(self, arm: Arm) -> int | None:
        """Ours is a server that holds a byte for each request in flight."""
        name = self.plan.arms[0].name if arm.is_baseline else arm.name
        return 1000 + self.up[name].num_in_flight

    async def close(self) -> None:
        self.up.clear()


class FakeContexts:
    """Words as ids; a reply's words follow the message that they answer."""

    def context(self, prompt: Prompt, turn: int, replies: Sequence[str]) -> tuple[int, ...]:
        said = [prompt.text or ""]
        for messages, reply in zip(prompt.turns[: turn + 1], (*replies, ""), strict=True):
            said += [message.content for message in messages] + [reply]
        return tuple(
            1 + _hashed("word", word) % (VOCAB_SIZE - 1) for word in " ".join(said).split()
        )

    def reply_text(self, reply: Reply) -> str:
        return reply.text


@dataclass(slots=True)
class MemoryWindows:
    """Where a load recorder writes when a test has no disk; it may be told to break off.

    Args:
        on_window: called before a window is kept.
    """

    on_window: Callable[[int], None] = lambda _: None
    trials: dict[TrialKey, TrialRecord] = field(default_factory=dict)
    windows: dict[WindowKey, WindowRecord] = field(default_factory=dict)

    def add_window(self, window: WindowRecord, trials: Sequence[TrialRecord]) -> None:
        self.on_window(len(self.windows))
        assert window.key not in self.windows
        self.windows[window.key] = window
        for trial in trials:
            assert trial.key not in self.trials
            self.trials[trial.key] = trial

    def add_checks(self, checks: Mapping[TrialKey, Checks]) -> None:
        for key, found in checks.items():
            self.trials[key] = replace(self.trials[key], checks=found)


def serving_plan(*arms: Arm, loads: Sequence[Load] | None = None, **changes: Any) -> Plan:
    """A plan of fakes on servers; ``changes`` of ``Serving`` or of ``Plan``."""
    own = {name: changes.pop(name) for name in tuple(changes) if hasattr(Serving, name)}
    serving = Serving(
        engine=ServingEngine.LLAMACPP,
        loads=tuple(loads or (Load(concurrency=1), Load(concurrency=3))),
        **{"num_windows": 3, **own},
    )
    return make_plan(*arms, serving=serving, **changes)


def planned_requests(plan: Plan, prompts: Sequence[Prompt]) -> Iterator[TrialKey]:
    """Every trial that a plan on servers asks for."""
    for window in windows_in_order(plan, prompts):
        for prompt in window.group.prompts:
            for turn in range(len(prompt.turns)):
                for repeat in range(window.group.num_rounds):
                    yield TrialKey(
                        prompt_id=prompt.prompt_id,
                        turn=turn,
                        repeat=repeat,
                        arm=window.arm.name,
                        load=window.load,
                    )


def _ids_of(ask: Ask) -> tuple[int, ...]:
    if isinstance(ask.context, str):
        return tuple(1 + _hashed("word", word) % (VOCAB_SIZE - 1) for word in ask.context.split())
    return tuple(one for one in ask.context if isinstance(one, int))


def _hashed(*what: object) -> int:
    return int.from_bytes(sha256(repr(what).encode()).digest()[:6], "big")
