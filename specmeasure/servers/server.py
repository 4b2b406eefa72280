"""The seam between a run and serving engines, whatever their kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from specmeasure.records.corpus import Message
from specmeasure.records.plan import Arm, DecodeSettings
from specmeasure.records.serving import ServerFacts
from specmeasure.records.trace import DraftCounts, FinishReason

Context = tuple[int, ...] | str | tuple[Message, ...]  # token ids, text, or a chat


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request."""

    context: Context
    settings: DecodeSettings
    ignore_eos: bool = False
    num_logprobs: int = 0  # alternatives wanted beside each emitted token


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprobs:
    """What the target made of one emitted place: natural logarithms, by token id."""

    token_id: int
    logprob: float
    alternatives: Mapping[int, float]  # the likeliest tokens, the emitted one among them or not


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back, and when. Times are the client's own."""

    token_ids: tuple[int, ...] | None  # emitted, EOS included where it is given; None: not given
    text: str
    num_prompt_tokens: int | None  # None: the server does not count
    num_emitted_tokens: int | None  # by the ids, or else the server's usage; never by chunks
    finish_reason: FinishReason
    sent: float  # time.perf_counter() when the request that succeeded was sent
    ttft_s: float  # sent to the first chunk with a token
    decode_s: float  # from there to the last one
    counts: DraftCounts | None  # of its drafts; None: the server says nothing
    num_retries: int
    logprobs: tuple[TokenLogprobs, ...] | None = None  # [num_emitted_tokens]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A server's counters since it started; differences of two speak of what lay between."""

    drafts: DraftCounts | None  # None: it has no such counters
    num_emitted_tokens: int | None


class Server(Protocol):
    """One arm's server: up, checked and ready to be asked."""

    facts: ServerFacts

    async def ask(self, ask: Ask) -> Reply:
        """Stream one answer.

        Raises:
            ServerLost: it died, hangs, or goes on refusing.
            UnexpectedReply: broken JSON, or fields that its engine is known to send are not there.
        """

    async def snapshot(self) -> Snapshot | None:
        """Its counters now; None: it has none, or not for us.

        Raises:
            UnexpectedReply: they contradict each other, as in the middle of a change.
        """


class Fleet(Protocol):
    """The servers of a run. Baseline and its A/A twin are the same one."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the brief should know about the set-up, so far."""

    async def server(self, arm: Arm) -> Server:
        """The arm's server, started if it is not up.

        Raises:
            ServerNotStarted: with its last lines of log.
        """

    def memory_bytes(self, arm: Arm) -> int | None:
        """Resident bytes of the processes of the arm's server; None: not ours to see."""

    def how_it_ended(self, arm: Arm) -> str | None:
        """What became of the arm's server, with its last lines; None: it is up, or not ours."""

    async def close(self) -> None:
        """Stop what was started; nothing is left running, whatever happened."""
