"""How far the numbers can be trusted: resampling, machine noise, what is missing and why.

Knows the run's bookkeeping only; whether the prompts stand for future traffic it cannot say.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields

from specmeasure.brief.crowding import write_crowding, write_crowding_details
from specmeasure.brief.exits import write_poor_exits
from specmeasure.brief.joined import JoinedArm
from specmeasure.brief.names import listed, plain
from specmeasure.brief.numbers import TIMES, count, level, noise
from specmeasure.brief.pace import tolerated, write_steadiness
from specmeasure.records.decision import Policy
from specmeasure.records.estimates import Estimate, Estimates, Interval, Unmeasured
from specmeasure.records.trace import Manifest

_MOST_REASONS = 6


def write_evidence(
    manifest: Manifest, estimates: Estimates, policy: Policy, arms: Sequence[JoinedArm]
) -> tuple[str, ...]:
    """One claim a line, those that a sceptic asks for first."""
    return (
        _resampling(estimates, arms),
        *_facts(manifest, estimates, policy, arms),
        *_void(estimates.num_void_trials),
        *write_crowding_details(estimates.crowding),
        *(f"Warning: {plain(warning)}" for warning in manifest.warnings),
    )


def write_short_evidence(
    manifest: Manifest, estimates: Estimates, policy: Policy, arms: Sequence[JoinedArm]
) -> tuple[str, ...]:
    """The same for one page, where how intervals are made is left to the details."""
    warnings = "; ".join(plain(warning).rstrip(".") for warning in manifest.warnings)
    return (
        _levels(estimates, arms),
        *_facts(manifest, estimates, policy, arms),
        *([f"Warnings: {warnings}"] if warnings else []),
    )


def write_policy_note(stated: Policy, applied: Policy) -> str:
    """Whether the policy applied is the one stated before the run, and where it differs."""
    changes = [
        f"{rule.name} {_bound(applied, rule.name)} instead of {_bound(stated, rule.name)}"
        for rule in fields(Policy)
        if getattr(applied, rule.name) != getattr(stated, rule.name)
    ]
    if changes:
        return f"The policy was changed after the run: {', '.join(changes)}."
    return "The policy was stated before the run."


def levels(estimates: Iterable[Estimate | None]) -> str | None:
    """The confidence level of the first that was measured; None when none was."""
    measured = (e.level for e in estimates if isinstance(e, Interval))
    return next((level(confidence) for confidence in measured), None)


def _bound(policy: Policy, rule: str) -> str:
    """A rule's number, or that it has none."""
    number = getattr(policy, rule)
    return "unset" if number is None else str(number)


def _facts(
    manifest: Manifest, estimates: Estimates, policy: Policy, arms: Sequence[JoinedArm]
) -> tuple[str, ...]:
    """The machine's noise and steadiness, what was recorded, what was left out."""
    machine = write_crowding(estimates.crowding), write_steadiness(estimates.steadiness)
    return (
        _noise_floor(estimates, policy),
        *(line for line in machine if line),
        f"{_completeness(manifest, estimates, arms)} {_left_out(manifest)}",
        *_trees(arms),
        *write_poor_exits((arm.plan, arm.estimates.draft_acceptance_rate) for arm in arms),
    )


def _void(number: int) -> list[str]:
    """What a worker that died left behind."""
    if not number:
        return []
    were = "was" if number == 1 else "were"
    return [
        f"{count(number, 'trial')} of unfinished turns {were} measured again after a worker died."
    ]


def _trees(arms: Sequence[JoinedArm]) -> list[str]:
    """How trees compare with chains; nothing where none was run."""
    trees = [plain(arm.plan.name) for arm in arms if arm.plan.tree is not None]
    if not trees:
        return []
    stand = "is" if len(trees) == 1 else "are"
    return [
        (
            f"Most nodes of a tree are thrown away by design: {listed(trees)} {stand} set beside "
            "chains by τ and speed, not by the share of drafts that were accepted."
        )
    ]


def _resampling(estimates: Estimates, arms: Sequence[JoinedArm]) -> str:
    windows = _over_windows(estimates, arms)
    corrected = levels(arm.decode_speedup for arm in arms)
    has_slices = any(arm.estimates.slices for arm in arms)
    looks = [
        f"decode speedup at {corrected}, corrected for {count(len(arms), 'arm')}"
        if corrected and len(arms) > 1
        else "",
        "slices at Holm's levels" if has_slices else "",
    ]
    others = levels(arm.estimates.end_to_end_speedup for arm in arms) or level(0.95)
    said = "; ".join(part for part in (f"level {others}", *looks) if part)
    resamples = count(estimates.num_resamples, "resample")
    clusters = f"{count(estimates.num_prompts, 'prompt')}, each"
    if windows:
        clusters = (
            f"{count(windows.num_clusters, 'window')} of {count(estimates.num_prompts, 'prompt')} "
            "in all, each window"
        )
    unit, wilson = ("windows", "") if windows else ("prompts", "; Wilson's for shares of prompts")
    return (
        f"{clusters} one cluster that is left out or resampled whole with all arms' trials. "
        f"Intervals: jackknife-t for ratios, with Kish's effective number of {unit} and the longer "
        f"tail by Hall; bootstrap for medians ({resamples}, seed {estimates.seed}){wilson}; {said}."
    )


def _levels(estimates: Estimates, arms: Sequence[JoinedArm]) -> str:
    speeds = levels(arm.decode_speedup for arm in arms)
    rest = levels([estimates.baseline.tpot_s]) or level(0.95)
    at = f"at {rest}"
    if speeds and speeds != rest:
        at = f"decode speedups at {speeds}, corrected for {count(len(arms), 'arm')}; the rest {at}"
    over = count(estimates.num_prompts, "prompt")
    windows = _over_windows(estimates, arms)
    if windows:
        over = (
            f"{count(windows.num_clusters, 'window')}, each a group of prompts that were sent "
            f"together ({over} in all)"
        )
    return f"Intervals in brackets are over {over}: {at}."


def _over_windows(estimates: Estimates, arms: Sequence[JoinedArm]) -> Interval | None:
    """The first interval whose clusters are windows; None where they are prompts."""
    measured = [
        estimates.noise_floor,
        estimates.baseline.tpot_s,
        *(arm.decode_speedup for arm in arms),
    ]
    return next(
        (one for one in measured if isinstance(one, Interval) and one.cluster == "window"), None
    )


def _noise_floor(estimates: Estimates, policy: Policy) -> str:
    floor = estimates.noise_floor
    if isinstance(floor, Unmeasured):
        return f"Noise floor (the baseline against itself): not measured, {_clause(floor.reason)}."
    is_within = abs(floor.low - 1) <= policy.max_noise and abs(floor.high - 1) <= policy.max_noise
    return (
        f"Noise floor: the baseline against itself (A/A) came to {noise(floor)}. A quiet machine "
        f"gives 1, and what differs from 1 is the machine, not speculation. The policy asks that "
        f"the interval reach 1 ± {tolerated(policy)}."
        + ("" if is_within else " It reaches further, so that more noise is not ruled out.")
    )


def _completeness(manifest: Manifest, estimates: Estimates, arms: Sequence[JoinedArm]) -> str:
    repeats = count(manifest.plan.num_repeats, "repeat")
    recorded = f"{count(estimates.num_recorded_trials)} of {count(estimates.num_planned_trials)}"
    every_arm = [estimates.baseline, *(arm.estimates for arm in arms)]
    failed = [
        f"{count(arm.num_failed_trials)} of {plain(arm.name)}"
        for arm in every_arm
        if arm.num_failed_trials
    ]
    failures = f"failed: {', '.join(failed)}" if failed else "none failed"
    tokens = count(estimates.baseline.num_emitted_tokens, "token")
    return (
        f"{repeats} of each prompt and arm; {recorded} planned trials recorded, {tokens} of the "
        f"baseline; {failures}."
    )


def _left_out(manifest: Manifest) -> str:
    dropped = manifest.corpus.dropped
    if not dropped:
        return "Nothing was left out."
    counts = Counter[str]()
    for one in dropped:
        counts[plain(one.reason)] += one.num_rows
    reasons = counts.most_common()
    said = [f"{count(number)} {TIMES} {why}" for why, number in reasons[:_MOST_REASONS]]
    if len(reasons) > _MOST_REASONS:
        said.append(f"{count(len(reasons) - _MOST_REASONS, 'more reason')}")
    return f"{count(counts.total(), 'row')} left out: {'; '.join(said)}."


def _clause(sentence: str) -> str:
    return plain(sentence).removesuffix(".")
