"""Passes that are captured once and launched whole: CUDA graphs.

A pass of a small model is some hundred kernels, each launched from Python for longer than it runs.
A graph launches them all at once. It repeats what was captured, address by address: what a pass
reads and leaves has to lie where it lay then, and nothing in it may ask the host.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

Pass = Callable[[], None]  # reads and writes tensors that stay where they are
NUM_WARM_UPS = 2  # before a capture; of the last one no host sync is forgiven
_MOST_SHAPES = 4096  # passes of one model that are compiled


class Graphs(Protocol):
    """Captures passes of models on one device, one at a time."""

    def capture(self, run: Pass) -> Pass:
        """What does again all that ``run`` does now. It runs at least once meanwhile.

        Raises:
            RuntimeError: it asks the host for something, or cannot be captured.
        """

    def renew(self) -> None:
        """Share no memory with what was captured up to now: it is about to be dropped."""


class CudaGraphs:
    """CUDA graphs that share the memory of what is computed in between.

    What one leaves behind in tensors of its own may be overwritten by another: results belong into
    tensors that were there before.

    Args:
        device: a CUDA device.
        compiled: compile each pass (``torch.compile``) before it is captured; slow to capture.
    """

    def __init__(self, device: torch.device, *, compiled: bool = False) -> None:
        self._device = device
        self._compiled = compiled
        self._stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, run: Pass) -> Pass:
        """See ``Graphs``."""
        if self._compiled:
            run = compiled_pass(run)
        with torch.cuda.device(self._device), self._aside():
            self._warm_up(run)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=self._stream,
                capture_error_mode="thread_local",  # other threads may use the device meanwhile
            ):
                run()
        return _Replay(graph, run)

    def renew(self) -> None:
        """See ``Graphs``. A pool whose graphs are all gone cannot be captured into again."""
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Captures have a stream of their own; what was told before comes first, the rest waits.

        A capture that fails leaves its stream the current one, and its pool half used.
        """
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        try:
            yield
        except BaseException:
            self.renew()
            raise
        finally:
            torch.cuda.set_stream(current)
            current.wait_stream(self._stream)

    def _warm_up(self, run: Pass) -> None:
        """What libraries set up at first use is set up; a host sync is found before the capture.

        Within a capture it would leave torch's random generators unusable.
        """
        with torch.cuda.stream(self._stream):
            for _ in range(NUM_WARM_UPS - 1):
                run()
            self._stream.synchronize()
            with _syncs_are_errors():
                run()


@contextmanager
def _syncs_are_errors() -> Iterator[None]:
    """Whatever waits for a CUDA device raises RuntimeError meanwhile."""
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says once that it does not see them all
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


class _Replay:
    """A graph, and the pass whose kernels it holds, for as long as it is launched."""

    def __init__(self, graph: torch.cuda.CUDAGraph, run: Pass) -> None:
        self._graph = graph
        self._run = run

    def __call__(self) -> None:
        self._graph.replay()


def compiled_pass(run: Pass, *, backend: str = "inductor") -> Pass:
    """The pass as one compiled piece, for these shapes alone.

    Raises when run:
        RuntimeError: a part of it cannot be compiled, such as one that asks the host.
    """
    whole: Pass = torch.compile(run, fullgraph=True, dynamic=False, backend=backend)

    def run_compiled() -> None:
        with torch._dynamo.config.patch(  # noqa: SLF001 - it has no other name
            recompile_limit=_MOST_SHAPES, accumulated_recompile_limit=_MOST_SHAPES
        ):
            whole()

    return run_compiled


def graphs_of(device: torch.device, *, wanted: bool) -> Graphs | None:
    """Graphs for models on a device; None: there are none there, or none are wanted."""
    return CudaGraphs(device) if wanted and device.type == "cuda" else None
