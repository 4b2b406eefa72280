"""From --ray and its companions to the workers of a run."""

from typing import Any

from specmeasure.errors import UsageError
from specmeasure.records.machine import Fleet

COMPANIONS = ("workers", "gpus_per_worker", "pool_hardware")


def fleet(asked: dict[str, Any]) -> Fleet | None:
    """The workers that the options ask for; None: one process.

    Raises:
        UsageError: options of workers without --ray, or workers on servers.
    """
    address: str | None = asked["ray"]
    if address is None:
        stray = [name for name in COMPANIONS if asked[name]]
        if stray:
            names = ", ".join("--" + name.replace("_", "-") for name in stray)
            raise UsageError(f"{names}: goes with --ray local or --ray ADDRESS.")
        return None
    if asked.get("engine") or asked.get("baseline_url"):
        raise UsageError("--ray spreads runs in process; servers are spread by their own engine.")
    return Fleet(
        address=address,
        num_workers=asked["workers"] or 1,
        gpus_per_worker=asked["gpus_per_worker"] or 0.0,
        pools_hardware=asked["pool_hardware"],
    )
