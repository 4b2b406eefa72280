"""Marks in time and the seconds between them; the only clock in the decoding loop."""

import time
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """Marks are cheap and opaque; seconds are asked for once the work is done."""

    def mark(self) -> Any:
        """Remember this moment of the device's own timeline."""

    def seconds(self, earlier: Any, later: Any) -> float:
        """Seconds from one mark to another."""


class HostClock:
    """For devices that finish what they are told before they return."""

    def mark(self) -> float:
        return time.perf_counter()

    def seconds(self, earlier: float, later: float) -> float:
        return later - earlier


class CudaClock:
    """CUDA events: no host sync at a mark, one when the first difference is asked for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds(self, earlier: torch.cuda.Event, later: torch.cuda.Event) -> float:
        later.synchronize()
        return float(earlier.elapsed_time(later)) / 1000


def clock_for(device: torch.device) -> Clock:
    """The clock that tells the truth about this device."""
    return CudaClock(device) if device.type == "cuda" else HostClock()
