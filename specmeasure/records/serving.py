"""Serving engines: how they are put under load, how they are reached, how much they reveal."""

from dataclasses import dataclass
from enum import StrEnum


class ServingEngine(StrEnum):
    """A server's kind, which says how it is asked and what its answers reveal."""

    VLLM = "vllm"
    LLAMACPP = "llamacpp"
    SGLANG = "sglang"
    TRTLLM = "trtllm"
    OPENAI = "openai"  # any other that speaks the OpenAI protocol: wall clock only

    @property
    def display_name(self) -> str:
        return _DISPLAY_NAMES[self]


_DISPLAY_NAMES = {
    ServingEngine.VLLM: "vLLM",
    ServingEngine.LLAMACPP: "llama.cpp",
    ServingEngine.SGLANG: "SGLang",
    ServingEngine.TRTLLM: "TensorRT-LLM",
    ServingEngine.OPENAI: "OpenAI-compatible server",
}


class Evidence(StrEnum):
    """How much is known of acceptance, most first."""

    BLOCKS = "blocks"  # every target pass of every request
    HISTOGRAM = "histogram"  # by request, how many blocks accepted how many drafts
    COUNTERS = "counters"  # drafted and accepted tokens, by request or by window
    NONE = "none"  # wall clock only


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Load:
    """How requests arrive: so many at once, or so many a second at random."""

    concurrency: int | None = None  # closed loop: a request is sent when one has ended
    rate: float | None = None  # open loop: requests per second, Poisson

    def __post_init__(self) -> None:
        if (self.concurrency is None) == (self.rate is None):
            raise ValueError("a load is a concurrency or a rate")
        too_low = self.concurrency is not None and self.concurrency < 1
        if too_low or not (self.rate is None or 0 < self.rate < float("inf")):
            raise ValueError(f"load {self} is not above 0")

    def __str__(self) -> str:
        """The load in words.

        >>> str(Load(concurrency=16)), str(Load(rate=2.5))
        ('concurrency 16', '2.5 requests/s')
        """
        if self.concurrency is not None:
            return f"concurrency {self.concurrency}"
        return f"{self.rate:g} requests/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """What a user may have to wait; goodput counts the requests that keep to all of it."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    end_to_end_s: float | None = None

    def __post_init__(self) -> None:
        limits = [one for one in (self.ttft_s, self.tpot_s, self.end_to_end_s) if one is not None]
        if not limits or not all(0 < limit < float("inf") for limit in limits):
            raise ValueError("an SLO has at least one limit, each above 0")

    def __str__(self) -> str:
        """The limits in words.

        >>> str(Slo(ttft_s=0.5, tpot_s=0.05))
        'TTFT ≤ 0.5 s, TPOT ≤ 0.05 s'
        """
        limits = (("TTFT", self.ttft_s), ("TPOT", self.tpot_s), ("request", self.end_to_end_s))
        return ", ".join(f"{name} ≤ {limit:g} s" for name, limit in limits if limit is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A server that somebody else started."""

    arm: str
    url: str  # without credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How a run uses servers: started by itself, or attached to.

    A window is one group of prompts sent through one arm at one load; arms take turns group by
    group, so that a drift of the machine meets all alike. Groups are the clusters of the
    statistics.
    """

    engine: ServingEngine
    loads: tuple[Load, ...]  # lightest first
    endpoints: tuple[Endpoint, ...] = ()  # attached, by arm; empty: managed
    model: str | None = None  # attached: the name it is served under; None: the only one served
    tokenizer: str | None = None  # renders prompts to ids here; None: sent as text and messages
    num_windows: int = 10  # groups of prompts, at each load and arm
    slo: Slo | None = None
    engine_args: tuple[str, ...] = ()  # managed: added to the command line of every arm's server
    program: str | None = None  # managed: interpreter with vLLM, or the llama-server binary
    keep_apart: bool = False  # managed: one server at a time, restarted in the order A B B A
    start_timeout_s: float = 600.0
    request_timeout_s: float = 600.0

    def __post_init__(self) -> None:
        if not self.loads:
            raise ValueError("a run on servers has at least one load")
        if self.num_windows < 1:
            raise ValueError("num_windows is at least 1")

    @property
    def is_managed(self) -> bool:
        return not self.endpoints

    @property
    def is_before_and_after(self) -> bool:
        """Whether one attached server is measured twice, set up anew in between by its owner."""
        return len(self.endpoints) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What is known of one arm's server."""

    arm: str
    engine: ServingEngine
    model: str  # as served
    version: str | None  # None: it does not tell
    url: str | None  # attached ones, without credentials; None: managed
    command: tuple[str, ...] = ()  # managed
    evidence: Evidence
    gives_ids: bool  # token ids of answers; False: answers are compared as text
    num_speculative_tokens: int | None  # as the server tells it; None: it does not
