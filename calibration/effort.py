"""How many workloads are simulated, and on how many cores."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Every section gets one; a seed is a workload, so that any of them can be looked at again."""

    num_workloads: int
    executor: Executor | None = None  # None: this process alone

    def each(self, simulate: Callable[[int], Found], *, share: float = 1.0) -> list[Found]:
        """What ``simulate`` finds at the seeds 0, 1, …, in their order.

        Args:
            simulate: a function of a module or a ``partial`` of one, as other processes need.
            share: of ``num_workloads``.
        """
        seeds = range(max(1, round(self.num_workloads * share)))
        if self.executor is None:
            return [simulate(seed) for seed in seeds]
        return list(self.executor.map(simulate, seeds, chunksize=max(1, len(seeds) // 100)))


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A markdown table, numbers to the right.

    >>> print(table(("what", "n"), [("prompts", "20")]))
    | what | n |
    |:--|--:|
    | prompts | 20 |
    """
    lines = [head, *rows]
    ruled = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([ruled[0], f"|:--|{'--:|' * (len(head) - 1)}", *ruled[1:]])
