"""How a run goes while it goes on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningArm:
    """One arm's numbers so far. They have no intervals and decide nothing."""

    name: str
    num_trials: int  # recorded, failed ones among them
    num_failed_trials: int
    mean_acceptance_length: float | None  # τ so far; None: nothing drafted yet
    decode_speedup: float | None  # ratio of sums so far; None: no pair yet, or the baseline itself
