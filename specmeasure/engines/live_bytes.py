"""How many bytes of tensors live at once while a model is carried out, on the meta device too.

Sizes are those that were asked for: an allocator's rounding and its gaps are not seen, nor what a
kernel takes for itself while it runs.
"""

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch's is not typed
    """Sums the storages of tensors that operations make, until they are freed.

    A host that asks a tensor without data for a number is told 0, as rotary embeddings do that
    compare a length with the one they were trained for.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._held: dict[int, weakref.ref[Any]] = {}  # by the storage's identity while it lives

    def hold(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were there before."""
        for tensor in tensors:
            self._watch(tensor)

    def forget_peak(self) -> None:
        """Begin anew with what lives now."""
        self.peak = self.now

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Carry an operation out and count what it made."""
        to_host = torch.ops.aten._local_scalar_dense.default  # noqa: SLF001 - an operator's own name
        if func is to_host and args[0].is_meta:  # a number that nobody knows
            return 0
        made = func(*args, **(kwargs or {}))
        self.hold(one for one in tree_leaves(made) if isinstance(one, Tensor))
        return made

    def _watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        identity, size = id(storage), storage.nbytes()
        if identity not in self._held:
            self._held[identity] = weakref.ref(
                storage,
                lambda _: self._let_go(identity, size),  # when the last tensor on it goes
            )
            self.now += size
            self.peak = max(self.peak, self.now)

    def _let_go(self, identity: int, size: int) -> None:
        del self._held[identity]
        self.now -= size


class _FusedAttention(TorchFunctionMode):
    """Scaled dot product attention as fused kernels do it: they add a mask and write no scores.

    On the meta device torch would write all scores out.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, _, value = args[:3]  # each [B, heads, T, D]
        mask = (kwargs or {}).get("attn_mask")
        added = mask if mask is None or mask.is_floating_point() else query.new_empty(mask.shape)
        made = query.new_empty((*query.shape[:-1], value.shape[-1]))
        del added  # it lived until now
        return made


@contextmanager
def counting(tensors: Iterable[Tensor]) -> Iterator[LiveBytes]:
    """Count these tensors and what operations make in the meantime, without gradients."""
    with torch.inference_mode(), LiveBytes() as live, _FusedAttention():
        live.hold(tensors)
        yield live
