"""GPUs of a process are those that its own runtime numbers."""

import torch

from specmeasure.engines.visible_gpus import visible_gpus


def test_without_a_gpu_there_are_none(monkeypatch):
    """The driver's list is not asked."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert () == visible_gpus()


def test_gpus_are_named_in_the_runtimes_order(monkeypatch):
    """Each by the number that tensors are put on it with."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: f"GPU {place}")

    assert ("GPU 0", "GPU 1") == visible_gpus()
