"""Whether two workers can measure one run: the same software, and hardware alike."""

from specmeasure.records.machine import Worker

SAME_PACKAGES = ("specmeasure", "torch", "transformers")


def unlikeness(ours: Worker, other: Worker, *, pools_hardware: bool) -> str | None:
    """Why two workers cannot measure one run, with both named; None: they can.

    Args:
        ours: a worker of the run.
        other: one that is to measure beside it.
        pools_hardware: whether unlike hardware is wanted.
    """
    for package in SAME_PACKAGES:
        found = ours.environment.versions.get(package), other.environment.versions.get(package)
        if found[0] != found[1]:
            return (
                f"Node {ours.node} has {package} {_said(found[0])}, node {other.node} has "
                f"{_said(found[1])}. Install the same version on all nodes."
            )
    if pools_hardware or ours.hardware == other.hardware:
        return None
    return (
        f"Node {ours.node} has {', '.join(ours.hardware)}; node {other.node} has "
        f"{', '.join(other.hardware)}. One speedup over unlike hardware means little: measure on "
        "nodes that are alike, or pass --pool-hardware to pool them all the same."
    )


def _said(version: str | None) -> str:
    return "none" if version is None else version
