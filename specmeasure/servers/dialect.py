"""How one kind of server is asked and understood: pure, without sockets or clocks."""

from dataclasses import dataclass
from typing import Any, Protocol

from specmeasure.records.serving import ServingEngine
from specmeasure.records.trace import DraftCounts
from specmeasure.servers.server import Ask, TokenLogprobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """What is sent."""

    path: str  # "/v1/completions"
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one streamed object says; what it does not say is None or empty."""

    text: str = ""
    reasoning: str = ""  # thought before the answer: emitted and timed, but no part of its text
    token_ids: tuple[int, ...] | None = None
    is_whole: bool = False  # text, ids and logprobs are of the answer so far, not of what is new
    may_lack_tokens: bool = False  # the server leaves ids or logprobs of some tokens out
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: str | None = None  # in the server's words
    at_stop_text: bool | None = None  # of "stop": a text that was asked for, or EOS; None: not told
    num_prompt_tokens: int | None = None
    num_emitted_tokens: int | None = None  # of the whole answer
    counts: DraftCounts | None = None  # likewise


class Dialect(Protocol):
    """One engine's words."""

    engine: ServingEngine
    metrics_prefix: str | None  # of its Prometheus counters: "vllm"; None: it has none that count

    def post(self, ask: Ask, model: str) -> Post:
        """The streaming request. Sampling is said in full, never left to the server's defaults."""

    def read(self, document: Any) -> Piece:
        """Understand one streamed object.

        Raises:
            UnexpectedReply: an error object, or a field of another type or out of range.
        """
