"""What single passes take: the device's copies, a target's and a draft's steps, verifications."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from benchmarks.gpu_models import Size, bytes_of_a_step, num_parameters
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.clock import Clock, clock_for
from specmeasure.decode.graphs import CudaGraphs
from specmeasure.decode.static_model import StaticCausalLM
from specmeasure.proposers.draft_model import DraftModelProposer
from specmeasure.records.plan import GREEDY
from specmeasure.speculate.proposal import CachedModel

Timed = Callable[[], float]  # → seconds
Model = CachedCausalLM | StaticCausalLM
COPIED_BYTES = {"cuda": 2**30, "cpu": 2**24}
NUM_DRAFTED = 8  # of a timed run of drafting
EAGER_K = (0, 1, 2, 4, 8, 16)  # verifications that are launched from Python, too
COPY, TARGET, DRAFT = "copy", "target step", "drafted token"
STATIC, EAGER, COMPILED = "static", "eager", "compiled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A target and a draft, each with a cache that grows and with a static one."""

    size: Size
    target: CachedCausalLM
    draft: CachedCausalLM
    static_target: StaticCausalLM  # its passes are graphs where the device has them
    static_draft: StaticCausalLM

    @property
    def device(self) -> torch.device:
        return self.target.device


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What it took to set room aside and capture passes; None: there is no such device."""

    num_passes: int
    seconds: float
    room_bytes: int  # of keys and values
    graph_bytes: int | None  # that the allocator took beside that


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Seconds of one step each, at the shortest context, beside the device's copies."""

    context: int
    bytes_per_s: float  # read and written by a large copy
    target_bytes: int  # of weights that a step reads
    draft_bytes: int
    num_target_parameters: int
    num_draft_parameters: int
    target_s: Mapping[str, float]  # by way of launching
    draft_s: Mapping[str, float]  # of a drafted token, its pick included

    def ratio(self, model: str, way: str) -> float:
        """How far a step is from what reading its weights takes.

        Formula: step seconds / (weight bytes / copied bytes per second)
        """
        seconds, size = (
            (self.target_s[way], self.target_bytes)
            if model == TARGET
            else (self.draft_s[way], self.draft_bytes)
        )
        return seconds * self.bytes_per_s / size


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifications:
    """Seconds of passes over 1 + K rows at one context, by K."""

    context: int
    way: str
    seconds: Mapping[int, float]

    @property
    def v(self) -> dict[int, float]:
        """What a verification costs in steps.

        Formula: v(K) = seconds of a pass over 1 + K rows / seconds of one over 1 row
        """
        return {k: one / self.seconds[0] for k, one in self.seconds.items()}


def timed(clock: Clock, run: Callable[[], object], num_runs: int) -> Timed:
    """Seconds of one run, out of several that are queued together."""

    def once() -> float:
        begun = clock.mark()
        for _ in range(num_runs):
            run()
        return clock.seconds(begun, clock.mark()) / num_runs

    return once


def interleaved(contestants: Mapping[str, Timed], num_rounds: int) -> dict[str, float]:
    """Each one's median over rounds of all of them, in an order that goes round; one to warm up."""
    names = list(contestants)
    seen: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1, num_rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            seconds = contestants[name]()
            if number >= 0:
                seen[name].append(seconds)
    return {name: statistics.median(one) for name, one in seen.items()}


def prompt_of(length: int, size: Size) -> list[int]:
    """Tokens that say nothing."""
    return [(7 * place + 3) % size.vocab_size for place in range(length)]


def prepare(model: StaticCausalLM, rows: Sequence[int], *, first: int, last: int) -> Capture:
    """Room and graphs from nothing, and what they took; see ``StaticCausalLM.prepare``."""
    model.release()
    clock, before = clock_for(model.device), _reserved_bytes(model.device)
    begun = clock.mark()
    num_passes = model.prepare(rows, first=first, last=last)
    seconds, after = clock.seconds(begun, clock.mark()), _reserved_bytes(model.device)
    grown = None if before is None or after is None else max(0, after - before - model.room_bytes)
    return Capture(
        num_passes=num_passes, seconds=seconds, room_bytes=model.room_bytes, graph_bytes=grown
    )


@torch.inference_mode()
def time_steps(pair: Pair, *, compiled: bool, num_rounds: int, num_runs: int) -> Steps:
    """Copies and steps in one interleaved run."""
    size, context, device = pair.size, pair.size.contexts[0], pair.device
    ways: dict[str, tuple[Model, Model]] = {
        STATIC: (pair.static_target, pair.static_draft),
        EAGER: (pair.target, pair.draft),
    }
    if compiled:
        graphs = CudaGraphs(device, compiled=True)
        ways[COMPILED] = (
            StaticCausalLM(pair.target, graphs),
            StaticCausalLM(pair.draft, graphs),
        )
    contestants = {COPY: _copying(device, num_runs)}
    for way, (target, draft) in ways.items():
        for one in (target, draft):
            if isinstance(one, StaticCausalLM):
                prepare(one, (1, 2), first=context + 1, last=context + num_runs + NUM_DRAFTED + 2)
        read_prompt(target, context, size)
        contestants[f"{TARGET}, {way}"] = passes(target, 1, num_runs)
        contestants[f"{DRAFT}, {way}"] = _drafting(draft, context, size, num_runs)
    medians = interleaved(contestants, num_rounds)
    return Steps(
        context=context,
        bytes_per_s=2 * COPIED_BYTES[device.type] / medians[COPY],
        target_bytes=bytes_of_a_step(pair.target.model),
        draft_bytes=bytes_of_a_step(pair.draft.model),
        num_target_parameters=num_parameters(pair.target.model),
        num_draft_parameters=num_parameters(pair.draft.model),
        target_s={way: medians[f"{TARGET}, {way}"] for way in ways},
        draft_s={way: medians[f"{DRAFT}, {way}"] for way in ways},
    )


@torch.inference_mode()
def time_verifications(
    pair: Pair, context: int, *, num_rounds: int, num_runs: int
) -> list[Verifications]:
    """Passes of the target over 1 … 1 + K rows, with a static cache and with one that grows."""
    most = pair.size.most_drafts
    prepare(pair.static_target, range(1, most + 2), first=context + 1, last=context + most + 1)
    ways: dict[str, tuple[Model, Sequence[int]]] = {
        STATIC: (pair.static_target, range(most + 1)),
        EAGER: (pair.target, [k for k in EAGER_K if k <= most]),
    }
    contestants = dict[str, Timed]()
    for way, (model, lengths) in ways.items():
        read_prompt(model, context, pair.size)
        contestants |= {f"{way} {k}": passes(model, 1 + k, num_runs) for k in lengths}
    medians = interleaved(contestants, num_rounds)
    return [
        Verifications(context=context, way=way, seconds={k: medians[f"{way} {k}"] for k in lengths})
        for way, (_, lengths) in ways.items()
    ]


def read_prompt(model: CachedModel, length: int, size: Size) -> None:
    """From now on its passes start behind so many tokens."""
    model.reset(rolls_back=True)
    model.prefill(prompt_of(length, size))


def passes(model: Model, num_rows: int, num_runs: int) -> Timed:
    """Read so many rows, and forget them."""
    rows = torch.arange(num_rows, device=model.device)

    def run() -> None:
        model.forward(rows)
        model.rollback(num_rows)

    return timed(clock_for(model.device), run, num_runs)


def _copying(device: torch.device, num_runs: int) -> Timed:
    source = torch.ones(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return timed(clock_for(device), lambda: target.copy_(source), num_runs)


def _drafting(draft: Model, context: int, size: Size, num_runs: int) -> Timed:
    """Seconds of one drafted token, none of which is kept: the text grows by one a block."""
    device = draft.device
    proposer = DraftModelProposer(draft, GREEDY, generator=torch.Generator(device), device=device)

    def run() -> None:
        proposer.propose(NUM_DRAFTED)
        proposer.commit(0, 0)

    blocks = timed(clock_for(device), run, num_runs)

    def after_prompt() -> float:
        proposer.begin(prompt_of(context, size))
        proposer.commit(0, 0)
        return blocks() / NUM_DRAFTED

    return after_prompt


def _reserved_bytes(device: torch.device) -> int | None:
    return torch.cuda.memory_reserved(device) if device.type == "cuda" else None
