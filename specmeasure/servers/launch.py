"""The command of one arm's server, as data, and what no user's argument may change in it."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from specmeasure.errors import UsageError
from specmeasure.records.plan import Arm, Method, Plan

HOST = "127.0.0.1"
_SHORTEST = 4  # argument parsers take "--speculative-conf" for "--speculative-config"
_KEYS = ("SPECMEASURE_API_KEY", "VLLM_API_KEY", "LLAMA_API_KEY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What starts a server, and how to know it."""

    argv: tuple[str, ...]
    env: Mapping[str, str | None] = field(default_factory=dict)  # None: taken away
    model: str  # the name that it serves its model under
    notes: tuple[str, ...] = ()  # what a reader of the brief should know of it


LaunchFor = Callable[[Arm, int], Launch]  # arm, port


def without_keys() -> dict[str, str | None]:
    """Environment of servers that listen to this machine alone: no keys asked, none known."""
    return dict.fromkeys(_KEYS)


def served_name(target: str) -> str:
    """The name of the target in requests: a folder's last part, or as it was given.

    >>> served_name("/models/llama-8b"), served_name("meta-llama/Llama-3.2-1B")
    ('llama-8b', 'meta-llama/Llama-3.2-1B')
    """
    path = Path(target)
    return path.name if path.is_absolute() or path.exists() else target


def highest_concurrency(plan: Plan) -> int | None:
    """The most requests that are in flight at once; None: as many as arrive."""
    loads = plan.serving.loads if plan.serving else ()
    levels = [load.concurrency for load in loads]
    return None if None in levels else max(level for level in levels if level is not None)


def num_threads(plan: Plan) -> int:
    """For the model's arithmetic: the plan's, or all cores but one, which HTTP needs."""
    if plan.options.num_threads is not None:
        return plan.options.num_threads
    num_cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, num_cores - 1)


def refuse_other_methods(arm: Arm, methods: Iterable[Method], engine: str) -> None:
    """Only what the engine can do, and only losslessly.

    Raises:
        UsageError: another method, or a lossy rule.
    """
    if arm.lossy is not None:
        raise UsageError(f"arm {arm.name!r}: {engine} has no typical acceptance; leave it out.")
    if arm.method not in methods:
        raise UsageError(f"arm {arm.name!r}: {engine} has no {arm.method} drafting.")


def refuse_reserved(names: Iterable[str], reserved: Mapping[str, str]) -> None:
    """Settings that the measurement itself makes are not the user's to add, nor their beginnings.

    Args:
        names: of what the user adds.
        reserved: what specmeasure sets, with the option to use instead.

    Raises:
        UsageError: names them all.
    """
    wrong = {
        name: instead
        for given in names
        for name, instead in reserved.items()
        if name == given or (len(given) > _SHORTEST and name.startswith(given))
    }
    if wrong:
        said = "; ".join(f"{name} ({instead})" for name, instead in sorted(wrong.items()))
        raise UsageError(f"--engine-args: specmeasure sets these itself: {said}.")
