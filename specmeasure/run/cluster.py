"""How workers fit a cluster: how many cores each can have, or what the cluster lacks. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from specmeasure.errors import ClusterError
from specmeasure.records.machine import Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What is free on one machine."""

    name: str
    num_cores: int
    num_gpus: float

    def num_places(self, num_cores: int, num_gpus: float) -> int:
        """Workers of this size that it holds."""
        by_cores = self.num_cores // num_cores
        return by_cores if not num_gpus else min(by_cores, _whole(self.num_gpus, num_gpus))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What every worker gets, the same for all."""

    num_cores: int
    num_gpus: float
    said: str  # in words, with what the cluster has


def lay_out(fleet: Fleet, nodes: Sequence[Node]) -> Layout:
    """As many cores for every worker as the cluster has for all of them.

    Raises:
        ClusterError: there is no room for so many workers.
    """
    per_worker = fleet.gpus_per_worker

    def has_room(num_cores: int) -> bool:
        return sum(one.num_places(num_cores, per_worker) for one in nodes) >= fleet.num_workers

    most = max((node.num_cores for node in nodes), default=0)
    num_cores = next((cores for cores in range(most, 0, -1) if has_room(cores)), None)
    listed = "; ".join(f"{node.name} {_said(node.num_cores, node.num_gpus)}" for node in nodes)
    if num_cores is None:
        possible = sum(node.num_places(1, per_worker) for node in nodes)
        raise ClusterError(
            f"{fleet.num_workers} workers want {_said(1, per_worker)} each; free are: "
            f"{listed or 'no nodes'}. That is room for {possible}: lower --workers or "
            "--gpus-per-worker, or wait until other work has ended."
        )
    return Layout(
        num_cores=num_cores,
        num_gpus=per_worker,
        said=f"starting {_number(fleet.num_workers, 'worker')}, each with "
        f"{_said(num_cores, per_worker)}; free are: {listed}",
    )


def _said(num_cores: int, num_gpus: float) -> str:
    return f"{_number(num_cores, 'core')} and {_number(num_gpus, 'GPU') if num_gpus else 'no GPU'}"


def _number(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"


def _whole(available: float, each: float) -> int:
    return int(available / each + 1e-9)
