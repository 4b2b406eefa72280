"""Which errors of torch are about the device, not about the model that was run."""

import torch

_SHORTAGES = ("allocate memory", "out of memory", "ALLOC_FAILED")  # of a host, CUDA and cuBLAS
_CAPTURES = ("captur",)  # what CUDA refuses within a capture, and can go on after


def is_shortage(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on the host."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or any(said in str(error) for said in _SHORTAGES)


def is_of_device(error: BaseException) -> bool:
    """Whether memory ran out or a device broke, so that the error tells nothing of a model."""
    if is_shortage(error):
        return True
    said = str(error).lower()
    return isinstance(error, torch.AcceleratorError) and not any(one in said for one in _CAPTURES)
