"""Captured passes: what stands in for them on a CPU, and that nothing in a pass asks the host."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch

from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.graphs import NUM_WARM_UPS, CudaGraphs, compiled_pass, graphs_of
from specmeasure.decode.grouped_attention import grouped, sdpa_configs
from specmeasure.decode.static_check import static_twin
from specmeasure.decode.static_model import StaticCausalLM
from tests.decode import tiny_models
from tests.decode.recorded_graphs import RecordedGraphs

CPU = torch.device("cpu")


@torch.inference_mode()
def test_a_replay_reads_what_stands_there_now():
    """Tensors that stay are read anew, views of them as well; results lie where they lay."""
    given, place, found = torch.zeros(3), torch.zeros(1, dtype=torch.int64), torch.zeros(2)

    def run() -> None:
        ahead = given.view(1, 3).flatten()[1:] * 2
        given.index_copy_(0, place, torch.ones(1))
        found.copy_(ahead + given.index_select(0, place))

    replay = RecordedGraphs().capture(run)
    given.copy_(torch.tensor([10.0, 20.0, 30.0]))
    place.fill_(2)
    replay()

    assert [41.0, 61.0] == found.tolist()
    assert [10.0, 20.0, 1.0] == given.tolist()


@torch.inference_mode()
def test_a_replay_knows_no_python():
    """A number that was read on the host stays what it was, as in a graph."""
    start, found = [1], torch.zeros(1)
    replay = RecordedGraphs().capture(lambda: found.fill_(start[0]))
    start[0] = 5
    replay()

    assert [1.0] == found.tolist()


@torch.inference_mode()
@pytest.mark.parametrize("asks", [torch.Tensor.item, torch.nonzero, bool])
def test_asking_the_host_is_an_error(asks):
    """A value, and a shape that depends on values."""
    number = torch.ones(1)

    with pytest.raises(RuntimeError, match="asks the host"):
        RecordedGraphs().capture(lambda: asks(number))


@torch.inference_mode()
def test_a_tensor_of_numbers_is_an_error():
    """It is a copy from the host, which no capture holds."""
    found = torch.zeros(2)

    with pytest.raises(RuntimeError, match="asks the host"):
        RecordedGraphs().capture(lambda: found.copy_(torch.tensor([1.0, 2.0])))


def test_graphs_are_for_gpus():
    """A CPU launches nothing; and who wants none gets none."""
    assert graphs_of(CPU, wanted=True) is None
    assert graphs_of(torch.device("cuda"), wanted=False) is None


class Compiled:
    """``Graphs`` that compile a pass as one piece, and run what came of it."""

    def capture(self, run):
        run = compiled_pass(run, backend="eager")
        run()
        return run

    def renew(self) -> None:
        """Nothing is shared."""


@pytest.mark.slow
@torch.inference_mode()
@pytest.mark.parametrize("grouped_from", [0, 1024])
def test_a_pass_is_one_piece(grouped_from: int):
    """torch.compile finds no place in it where Python, or the host, would have to step in.

    Heads are watched meanwhile, and the passes read what the growing cache reads.
    """
    growing = CachedCausalLM(tiny_models.llama(), vocab_size=tiny_models.VOCAB)
    fixed = StaticCausalLM(growing, Compiled(), shortest=16, grouped_from=grouped_from)
    for model in (growing, fixed):
        model.watch_states()
    fixed.prepare((3,), first=11, last=24)
    for model in (growing, fixed):
        model.reset(rolls_back=True)
        model.prefill(range(10))
    for token in range(6):
        ids = torch.tensor([token, 3, token + 2])
        expected = growing.forward(ids)
        with grouped(sdpa_configs(fixed.model) if not grouped_from else ()):  # as it was captured
            found = fixed.forward(ids)
        for model in (growing, fixed):
            model.rollback(1)

        assert torch.allclose(expected, found, atol=1e-5)
        assert torch.allclose(growing.last_state, fixed.last_state, atol=1e-5)


def test_a_pass_that_asks_the_host_is_not_one_piece():
    """What the test above would have seen."""
    number = torch.ones(1)

    with pytest.raises(RuntimeError):
        compiled_pass(lambda: number.fill_(number.item() + 1 if number.item() else 0))()


class Streams:
    """torch's streams of one device, and a capture that leaves its stream current if it fails."""

    def __init__(self) -> None:
        self.current = self.first = Stream("first")
        self.num_pools = 0

    def stand_in(self, patched: pytest.MonkeyPatch) -> None:
        """For what ``CudaGraphs`` asks of torch."""
        for name, ours in {
            "Stream": lambda _: Stream("captures"),
            "graph_pool_handle": self.pool,
            "device": lambda _: nullcontext(),
            "current_stream": lambda _: self.current,
            "set_stream": self.switch,
            "stream": self.on,
            "CUDAGraph": lambda: None,
            "graph": lambda _, *, stream, **__: self.left_at(stream),
            "get_sync_debug_mode": lambda: 0,
            "set_sync_debug_mode": lambda _: None,
        }.items():
            patched.setattr(torch.cuda, name, ours)

    def pool(self) -> int:
        self.num_pools += 1
        return self.num_pools

    def switch(self, stream: "Stream") -> None:
        self.current = stream

    @contextmanager
    def on(self, stream: "Stream") -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def left_at(self, stream: "Stream") -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before


class Stream:
    """Remembers whom it waited for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waited_for: list[str] = []

    def wait_stream(self, other: "Stream") -> None:
        self.waited_for.append(other.name)

    def synchronize(self) -> None:
        """Nothing runs."""


@pytest.mark.parametrize("num_good", [3, 2, 1, 0])
def test_a_capture_that_fails_leaves_the_stream_as_it_was(
    num_good: int, monkeypatch: pytest.MonkeyPatch
):
    """Warming up or capturing: the caller's stream is current again and waits; the pool is new."""
    streams, ran = Streams(), []
    streams.stand_in(monkeypatch)
    graphs = CudaGraphs(torch.device("cuda"))

    def run() -> None:
        ran.append(streams.current.name)
        if len(ran) > num_good:
            raise RuntimeError("it asks the host")

    with nullcontext() if num_good == 3 else pytest.raises(RuntimeError, match="asks the host"):
        graphs.capture(run)

    assert ["captures"] * min(num_good + 1, 3) == ran
    assert streams.first is streams.current
    assert ["captures"] == streams.first.waited_for
    assert (1 if num_good == 3 else 2) == streams.num_pools


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@torch.inference_mode()
def test_cuda_graphs_replay():
    """On a GPU the graph itself reads what stands there now, and refuses a pass that asks."""
    device = torch.device("cuda")
    graphs = CudaGraphs(device)
    given, found = torch.zeros(3, device=device), torch.zeros(3, device=device)
    replay = graphs.capture(lambda: found.copy_(given * 2))
    given.fill_(4)
    replay()

    assert [8.0] * 3 == found.tolist()
    with pytest.raises(RuntimeError):
        graphs.capture(lambda: found.fill_(given.sum().item()))
    assert 3 == len(torch.rand(3, device=device).tolist())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@torch.inference_mode()
def test_a_device_outlives_captures_that_fail():
    """Both kinds of failing; the stream is the caller's again, and the next capture replays."""
    device = torch.device("cuda")
    graphs, given = CudaGraphs(device), torch.ones(3, device=device)
    found, before = torch.zeros(3, device=device), torch.cuda.current_stream(device)
    runs = []

    def fail_late() -> None:
        runs.append(given * 2)
        if len(runs) > NUM_WARM_UPS:
            torch.cuda.synchronize()

    for run in (lambda: given.sum().item(), fail_late):
        with pytest.raises(RuntimeError):
            graphs.capture(run)

        assert before == torch.cuda.current_stream(device)
    replay = graphs.capture(lambda: found.copy_(given * 3))
    given.fill_(2)
    replay()
    assert [6.0] * 3 == found.tolist()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_captured_model_reads_as_before(dtype: torch.dtype):
    """On a GPU: the trial of both ways to attend is passed, and blocks read what they should."""
    device = torch.device("cuda")
    growing = CachedCausalLM(tiny_models.llama().to(device, dtype), vocab_size=tiny_models.VOCAB)
    fixed = static_twin(growing, CudaGraphs(device), shortest=16)
    fixed.prepare((1, 3), first=11, last=40)
    for model in (growing, fixed):
        model.reset(rolls_back=True)
        model.prefill(range(10))
    near = 1e-4 if dtype is torch.float32 else 0.1
    for token in range(12):
        ids = torch.tensor([token, 3, token + 2], device=device)
        expected, found = (model.forward(ids).float() for model in (growing, fixed))
        for model in (growing, fixed):
            model.rollback(1)

        assert float((expected - found).abs().max()) <= near * float(expected.std())
