"""Which GPUs this process computes on, as its own runtime names them."""

import torch


def visible_gpus() -> tuple[str, ...]:
    """Names in the order of their numbers here; empty without any.

    The driver numbers all GPUs of the machine in its own order, so that of a process that is given
    some of them, by numbers, unique ids or parts (MIG), the runtime alone knows which they are.
    """
    if not torch.cuda.is_available():
        return ()
    return tuple(torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count()))
