"""Whether the workers of a run agree on an arm's speedup."""

from specmeasure.brief.names import plain
from specmeasure.brief.numbers import chance, count
from specmeasure.records.estimates import ArmEstimates, Estimates

ERROR = 0.05  # of saying of any arm that workers differ where they do not


def write_unlike_workers(estimates: Estimates) -> str | None:
    """The arms whose speedup differs from worker to worker beyond chance; None: there is none."""
    unlike = [arm for arm in estimates.arms if _differs(arm, len(estimates.arms))]
    if not unlike:
        return None
    named = ", ".join(f"{plain(arm.name)} ({_by_chance(arm)})" for arm in unlike)
    return (
        f"Workers differ beyond chance in the speedup of {count(len(unlike), 'arm')}: {named}. One "
        "speedup over all of them is that of this mix of workers; each worker's own stands among "
        "the slices."
    )


def _differs(arm: ArmEstimates, num_arms: int) -> bool:
    return arm.chance_of_workers is not None and arm.chance_of_workers < ERROR / num_arms


def _by_chance(arm: ArmEstimates) -> str:
    return f"p = {chance(arm.chance_of_workers or 0.0)} by luck alone, Welch's test"
