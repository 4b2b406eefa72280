"""The machine's behaviour during the run, and where a run that looked again and again stopped.

Compares the A/A interval with what the policy tolerates; nothing is removed for any of it.
"""

from specmeasure.brief.crowding import write_crowding, write_unequal_crowding
from specmeasure.brief.names import plain
from specmeasure.brief.numbers import TIMES, count, level, noise
from specmeasure.brief.workers import write_unlike_workers
from specmeasure.records.decision import Policy
from specmeasure.records.estimates import (
    Estimates,
    Interval,
    SpeedStep,
    Steadiness,
    Stopping,
    Unmeasured,
)


def noise_beyond(estimates: Estimates, policy: Policy) -> Interval | None:
    """The A/A interval where it excludes what the policy tolerates; else None."""
    floor = estimates.noise_floor
    if not isinstance(floor, Interval):
        return None
    is_sure = floor.low > 1 + policy.max_noise or floor.high < 1 - policy.max_noise
    return floor if is_sure else None


def machine_notes(estimates: Estimates, policy: Policy) -> list[str]:
    """What to know before believing a time; nothing on a quiet, steady machine."""
    notes = []
    floor = noise_beyond(estimates, policy)
    if floor is not None:
        notes.append(f"{_too_noisy(floor, policy)} This run cannot be GO.")
    pace = estimates.steadiness
    if isinstance(pace, Steadiness) and (pace.steps or pace.num_outliers or pace.num_slow_cycles):
        notes.append(_write_paces(pace))
    others = (
        write_crowding(estimates.crowding),
        write_unequal_crowding(estimates.crowding),
        write_unlike_workers(estimates),
    )
    return [*notes, *(note for note in others if note)]


def write_notices(estimates: Estimates, policy: Policy) -> tuple[str, ...]:
    """What a reader must know before any number: noise, arms that were met unequally, an end."""
    notices = []
    floor = noise_beyond(estimates, policy)
    if floor is not None:
        notices.append(_too_noisy(floor, policy))
    unequal = write_unequal_crowding(estimates.crowding)
    if unequal is not None:
        notices.append(unequal)
    unlike = write_unlike_workers(estimates)
    if unlike is not None:
        notices.append(unlike)
    if estimates.stopping is not None:
        notices.append(_write_stopping(estimates.stopping))
    elif estimates.num_recorded_trials < estimates.num_planned_trials:
        notices.append(
            f"The run is not finished: {count(estimates.num_recorded_trials)} of "
            f"{count(estimates.num_planned_trials, 'planned trial')} were recorded."
        )
    return tuple(notices)


def write_steadiness(steadiness: Steadiness | Unmeasured | None) -> str | None:
    """Lasting changes of pace and trials out of line; None where nobody looked."""
    match steadiness:
        case None:
            return None
        case Unmeasured(reason=why):
            return f"Steadiness of the machine: not measured, {plain(why).removesuffix('.')}."
        case Steadiness():
            return _write_paces(steadiness)


def write_outliers(steadiness: Steadiness | Unmeasured | None) -> tuple[str, ...]:
    """Trials out of line, the largest first."""
    if not isinstance(steadiness, Steadiness):
        return ()
    return tuple(
        f"{plain(one.place)}: {one.ratio:.2f}{TIMES} the usual time of a pass"
        for one in steadiness.outliers
    )


def tolerated(policy: Policy) -> str:
    """How far from 1 the A/A interval may lie."""
    return f"{policy.max_noise:.3f}".rstrip("0").rstrip(".")


def _write_paces(steadiness: Steadiness) -> str:
    steps, num_outliers = steadiness.steps, steadiness.num_outliers
    changes = "no lasting change of pace"
    if steps:
        changes = f"{count(len(steps), 'lasting change')} of pace ({_steps(steps)})"
    found = [changes, f"{count(num_outliers, 'trial')} out of line"]
    if steadiness.num_slow_cycles:
        slow = f"{count(steadiness.num_slow_cycles)} of {count(len(steadiness.pace), 'cycle')}"
        found.append(f"{slow} far slower than usual for all arms alike")
    return f"Steadiness of the machine: {', '.join(found)}. Nothing was removed for it."


def _too_noisy(floor: Interval, policy: Policy) -> str:
    return (
        f"The machine was too noisy: the target against itself (A/A) came to {noise(floor)}, "
        f"which excludes 1 ± {tolerated(policy)}. No speedup can be relied on; measure again with "
        "nothing else running."
    )


def _write_stopping(stopping: Stopping) -> str:
    return (
        f"The run stopped at look {stopping.look} of {stopping.num_looks}, after "
        f"{count(stopping.num_prompts)} of at most {count(stopping.max_prompts, 'prompt')}: its "
        f"intervals are at {level(stopping.level)}, which pays for having looked more than once."
    )


def _steps(steps: tuple[SpeedStep, ...]) -> str:
    return ", ".join(
        f"{one.ratio:.2f}{TIMES} the time from cycle {one.cycle + 1} on" for one in steps
    )
