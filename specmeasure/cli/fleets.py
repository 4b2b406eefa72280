"""From --ray and its companions to the workers of a run."""

from dataclasses import replace
from typing import Any

from specmeasure.errors import UsageError
from specmeasure.records.machine import Fleet

COMPANIONS = ("workers", "gpus_per_worker", "pool_hardware")


def fleet(asked: dict[str, Any], before: Fleet | None = None) -> Fleet | None:
    """The workers that the options ask for; None: one process.

    Args:
        asked: parsed options.
        before: workers of the run that goes on, or of a plan's file, for what is left open.

    Raises:
        UsageError: options of workers without --ray, workers on servers, or sizes that none has.
    """
    address: str | None = asked["ray"] or (before.address if before else None)
    if address is None:
        stray = [name for name in COMPANIONS if asked[name]]
        if stray:
            names = ", ".join("--" + name.replace("_", "-") for name in stray)
            raise UsageError(f"{names}: goes with --ray local or --ray ADDRESS.")
        return None
    if asked.get("engine") or asked.get("baseline_url"):
        raise UsageError("--ray spreads runs in process; servers are spread by their own engine.")
    wishes = {
        "num_workers": asked["workers"],
        "gpus_per_worker": asked["gpus_per_worker"],
        "pools_hardware": asked["pool_hardware"] or None,
    }
    begun = before or Fleet(address=address, num_workers=1)
    told = {name: wish for name, wish in wishes.items() if wish is not None}
    try:
        return replace(begun, address=address, **told)
    except ValueError as error:
        raise UsageError(f"--workers, --gpus-per-worker: {error}.") from None
