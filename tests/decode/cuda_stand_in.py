"""A CUDA device that is the CPU, and a count of what goes between it and the host.

Whoever asks for ``CUDA`` gets the CPU. What would wait for a real device is counted at the
interpreter: results that are read, and numbers of the host that are copied from ordinary memory.
Kernels that wait inside, on a real device, are not seen, nor is ``to`` with a ``torch.device``: of
models themselves the parts say that they are on the CPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
_READS = {"tolist", "numpy", "cpu", "__array__", "__contains__"}  # of a whole tensor
_READING_OPS = {
    "aten::_local_scalar_dense",
    "aten::equal",
    "aten::item",
    "aten::masked_select",
    "aten::nonzero",
    "aten::repeat_interleave.Tensor",
    "aten::_unique2",
    "aten::unique_dim",
}
_INDEXING_OPS = {"aten::index.Tensor", "aten::index_put", "aten::index_put_"}  # a mask is counted
_FROM_HOST = {"tensor", "as_tensor", "asarray", "new_tensor", "from_numpy"}
_MADE = _FROM_HOST | {"arange", "empty", "full", "ones", "rand", "zeros"}  # where not told, on host


class CudaGenerator(torch.Generator):
    """A generator that says it is on the device."""

    @property
    def device(self) -> torch.device:
        return CUDA


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What went to and fro."""

    num_reads: int = 0  # results that the host waited for
    num_waiting_copies: int = 0  # to the device, behind work that it had been told
    num_idle_copies: int = 0  # to the device from ordinary memory, while it had nothing to do
    num_queued_copies: int = 0  # to the device from pinned memory

    def __sub__(self, earlier: Self) -> Self:
        return replace(
            self,
            **{name: getattr(self, name) - getattr(earlier, name) for name in self.__slots__},
        )


class CudaStandIn:
    """Counts while it is entered."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self._is_busy = False  # told something since the host last waited
        self._modes = (_Calls(self), _Operations(self))

    def __enter__(self) -> Self:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    def queue(self) -> None:
        """The device is told something."""
        self._is_busy = True

    @contextmanager
    def on_host(self) -> Iterator[None]:
        """What runs inside is none of the device's work."""
        was_busy = self._is_busy
        yield
        self._is_busy = was_busy

    def read(self) -> None:
        """The host waits for a result."""
        self._add("num_reads")
        self._is_busy = False

    def copy(self, *, from_pinned: bool = False) -> None:
        """The host hands something over."""
        if from_pinned:
            self._add("num_queued_copies")
        else:
            self._add("num_waiting_copies" if self._is_busy else "num_idle_copies")
            self._is_busy = False

    def _add(self, name: str) -> None:
        self.traffic = replace(self.traffic, **{name: getattr(self.traffic, name) + 1})


class TrafficClock:
    """A clock whose marks are what went to and fro so far."""

    def __init__(self, device: CudaStandIn) -> None:
        self.marks: list[Traffic] = []
        self._device = device

    def mark(self) -> int:
        self.marks.append(self._device.traffic)
        return len(self.marks)

    def seconds(self, earlier: int, later: int) -> float:
        return float(later - earlier)


class _Calls(TorchFunctionMode):
    """Python's calls: who asks for the device gets the CPU."""

    def __init__(self, device: CudaStandIn) -> None:
        super().__init__()
        self._device = device
        self._on_host: list[Tensor] = []
        self._pinned: list[Tensor] = []  # of those

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), dict(kwargs or {})
        pins = kwargs.pop("pin_memory", False)
        is_on_host = name in _MADE and "device" not in kwargs
        if name in _READS:
            self._device.read()
        elif name in ("__getitem__", "__setitem__") and _holds_host_numbers(args[1]):
            self._device.copy()
        elif name in ("to", "cuda") and _is_one_of(args[0], self._on_host):
            is_queued = _is_one_of(args[0], self._pinned) and kwargs.get("non_blocking", False)
            self._device.copy(from_pinned=is_queued)
        elif name == "to" and "cpu" in (*args[1:], kwargs.get("device")):
            self._device.read()
        elif name in _FROM_HOST and _as_device(kwargs.get("device")) == CUDA:
            self._device.copy()
        with self._device.on_host() if is_on_host or name in _FROM_HOST else nullcontext():
            found = func(*map(_on_cpu, args), **{key: _on_cpu(one) for key, one in kwargs.items()})
        if is_on_host:
            self._on_host.append(found)
        if pins:
            self._pinned.append(found)
        return found


class _Operations(TorchDispatchMode):
    """What is run, also by operations that are made of others."""

    def __init__(self, device: CudaStandIn) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.name()
        if name in _READING_OPS or (name in _INDEXING_OPS and _has_mask(args[1])):
            self._device.read()
            return func(*args, **kwargs)
        with self:
            found = func.decompose(*args, **kwargs)
        if found is not NotImplemented:
            return found
        self._device.queue()
        return func(*args, **kwargs)


def _is_one_of(tensor: Tensor, known: list[Tensor]) -> bool:
    return any(tensor is one for one in known)


def _on_cpu(argument: object) -> object:
    return CPU if isinstance(argument, torch.device) and argument == CUDA else argument


def _as_device(asked: object) -> torch.device | None:
    if isinstance(asked, str) and asked.partition(":")[0] in ("cpu", "cuda"):
        return torch.device(asked)
    return asked if isinstance(asked, torch.device) else None


def _holds_host_numbers(index: object) -> bool:
    """Whether an index is a list, which becomes a tensor first."""
    places = index if isinstance(index, tuple) else (index,)
    return any(isinstance(one, list) for one in places)


def _has_mask(indices: list[Tensor | None]) -> bool:
    return any(one is not None and one.dtype is torch.bool for one in indices)
