"""What stands in for CUDA graphs on a CPU: tensor operations, written down once and repeated.

A replay knows no Python: sizes, numbers and tensors are those of the capture, and results are
written where they lay then. Asking the host for a value is an error, as in a capture.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ASK_THE_HOST = {
    "aten::_local_scalar_dense",
    "aten::equal",
    "aten::is_nonzero",
    "aten::item",
    "aten::lift_fresh",  # a tensor made of numbers: a copy from the host
    "aten::masked_select",
    "aten::nonzero",
}


class RecordedGraphs:
    """``Graphs`` on a CPU; counts captures and replays."""

    def __init__(self) -> None:
        self.num_captures = 0
        self.num_replays = 0
        self.num_renewals = 0

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        self.num_captures += 1
        with Recorder() as recorder:
            run()

        def replay() -> None:
            self.num_replays += 1
            recorder.replay()

        return replay

    def renew(self) -> None:
        self.num_renewals += 1


class Recorder(TorchDispatchMode):
    """Writes down what is done meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self._done: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[torch.Tensor]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func._schema.name in ASK_THE_HOST:
            raise RuntimeError(f"{func._schema.name} asks the host within a capture")
        found = func(*args, **kwargs)
        outputs = tensors(found)
        known = {one.untyped_storage().data_ptr() for one in tensors((args, kwargs))}
        new = [one for one in outputs if one.untyped_storage().data_ptr() not in known]
        if new or func._schema.is_mutable:
            self._done.append((func, args, kwargs, new and outputs))
        return found

    def replay(self) -> None:
        for func, args, kwargs, outputs in self._done:
            again = tensors(func(*args, **kwargs))
            for output, value in zip(outputs, again, strict=False):
                output.copy_(value)


def tensors(tree: Any) -> list[torch.Tensor]:
    return [one for one in tree_leaves(tree) if isinstance(one, torch.Tensor)]
