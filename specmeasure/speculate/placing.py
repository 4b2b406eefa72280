"""Token ids from the host to where models read them, without waiting for what is queued there.

A copy from ordinary memory to a CUDA device waits until the device has done all it was told, which
costs as much as reading a result from it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def put_token(token: int, device: torch.device) -> Tensor:
    """One id, [1] int64: a fill that is told the number, not a copy."""
    return torch.full((1,), token, dtype=torch.int64, device=device)


def put_tokens(tokens: Sequence[int], device: torch.device) -> Tensor:
    """Ids [N] int64, N may be 0; to a CUDA device through pinned memory, which needs no waiting."""
    if device.type != "cuda":
        return torch.tensor(tokens, dtype=torch.int64, device=device)
    if not tokens:
        return torch.empty(0, dtype=torch.int64, device=device)
    pinned = torch.tensor(tokens, dtype=torch.int64, pin_memory=True)
    return pinned.to(device, non_blocking=True)
