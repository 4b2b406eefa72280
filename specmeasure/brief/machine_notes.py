"""What the numbers say of the machine that they were taken on, in a line each."""

from specmeasure.brief.numbers import TIMES, count, noise
from specmeasure.records.decision import Policy
from specmeasure.records.estimates import Estimates, Interval, SpeedStep, Steadiness


def machine_notes(estimates: Estimates, policy: Policy) -> list[str]:
    """What a user should know before believing a time; empty on a quiet, steady machine."""
    notes = []
    floor = estimates.noise_floor
    if isinstance(floor, Interval) and excludes_one(floor, policy.max_noise):
        notes.append(
            f"the machine was too noisy: the baseline against itself (A/A) came to {noise(floor)} "
            f"and excludes 1.00 ± {policy.max_noise:g}, so this run cannot be GO. Stop other work "
            "or lower --threads, and run again."
        )
    pace = estimates.steadiness
    if isinstance(pace, Steadiness) and pace.steps:
        changes = "; ".join(_said(step) for step in pace.steps)
        notes.append(
            f"the machine's pace changed for all arms alike: {changes} (of {len(pace.pace)} "
            "prompts' turns). Arms are compared within each, so speedups stand; seconds are a "
            "mixture of both paces."
        )
    if isinstance(pace, Steadiness) and pace.num_outliers:
        worst = pace.outliers[0]
        notes.append(
            f"{count(pace.num_outliers, 'trial')} took unusually long or short, the worst "
            f"{worst.ratio:.1f}{TIMES} ({worst.place}). None was left out."
        )
    return notes


def excludes_one(floor: Interval, tolerated: float) -> bool:
    """Whether a ratio that should be 1 is sure to be further from it than tolerated."""
    return floor.low > 1 + tolerated or floor.high < 1 - tolerated


def _said(step: SpeedStep) -> str:
    direction = "slower" if step.ratio > 1 else "faster"
    factor = step.ratio if step.ratio > 1 else 1 / step.ratio
    return f"{factor:.2f}{TIMES} {direction} from turn {count(step.cycle + 1)} on"
