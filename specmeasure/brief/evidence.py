"""How far the numbers can be trusted: resampling, machine noise, what is missing and why.

Knows the run's bookkeeping only; whether the prompts stand for future traffic it cannot say.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields

from specmeasure.brief.joined import JoinedArm
from specmeasure.brief.names import plain
from specmeasure.brief.numbers import TIMES, count, level, noise
from specmeasure.records.decision import Policy
from specmeasure.records.estimates import Estimate, Estimates, Interval, Losslessness, Unmeasured
from specmeasure.records.trace import Manifest

_MOST_REASONS = 6


def write_evidence(
    manifest: Manifest, estimates: Estimates, policy: Policy, arms: Sequence[JoinedArm]
) -> tuple[str, ...]:
    """One claim a line, those that a sceptic asks for first."""
    return (
        _resampling(estimates, arms),
        _noise_floor(estimates, policy),
        _completeness(manifest, estimates, arms),
        _left_out(manifest),
        *(f"Warning: {plain(warning)}" for warning in manifest.warnings),
    )


def write_policy_note(stated: Policy, applied: Policy) -> str:
    """Whether the policy applied is the one stated before the run, and where it differs."""
    changes = [
        f"{rule.name} {getattr(applied, rule.name)} instead of {getattr(stated, rule.name)}"
        for rule in fields(Policy)
        if getattr(applied, rule.name) != getattr(stated, rule.name)
    ]
    if changes:
        return f"The policy was changed after the run: {', '.join(changes)}."
    return "The policy was stated before the run."


def write_output_notes(arms: Sequence[JoinedArm], *, is_greedy: bool) -> tuple[str, ...]:
    """What the audit's counts mean, where it diverged, and why it is missing where it is."""
    audits = {plain(arm.plan.name): arm.estimates.losslessness for arm in arms}
    counted = {name: audit for name, audit in audits.items() if isinstance(audit, Losslessness)}
    missing = [audit.reason for audit in audits.values() if isinstance(audit, Unmeasured)]
    notes = [
        f"Divergent by more than rounding explains, with {name}: "
        f"{'; '.join(map(plain, audit.divergent_prompts))}."
        for name, audit in counted.items()
        if audit.divergent_prompts
    ]
    notes += [f"Not audited: {_clause(why)}." for why in dict.fromkeys(missing)]
    if counted:
        notes.append(
            "A near-tie is a token whose rival scored within the rounding noise of the target's "
            "own logits: plain batching would do the same."
        )
    elif not missing:
        notes.append("Not audited: the run holds no audit.")
    sampled = [
        f"{count(audit.num_sampled)} of {name}"
        for name, audit in counted.items()
        if audit.num_sampled
    ]
    if sampled:
        notes.append(f"Sampled answers are not audited one by one: {', '.join(sampled)}.")
    if not is_greedy:
        notes.append(
            "The verification rule keeps the target's distribution in exact arithmetic; this run "
            "did not test that it does."
        )
    return tuple(notes)


def levels(estimates: Iterable[Estimate | None]) -> str | None:
    """The confidence level of the first that was measured; None when none was."""
    measured = (e.level for e in estimates if isinstance(e, Interval))
    return next((level(confidence) for confidence in measured), None)


def _resampling(estimates: Estimates, arms: Sequence[JoinedArm]) -> str:
    corrected = levels(arm.decode_speedup for arm in arms)
    has_slices = any(arm.estimates.slices for arm in arms)
    looks = [
        f"decode speedup at {corrected}, corrected for {count(len(arms), 'arm')}"
        if corrected and len(arms) > 1
        else "",
        "slices at Holm's levels, degrees of freedom from Kish's effective number of prompts"
        if has_slices
        else "",
    ]
    others = levels(arm.estimates.end_to_end_speedup for arm in arms) or level(0.95)
    said = "; ".join(part for part in (f"level {others}", *looks) if part)
    resamples = count(estimates.num_resamples, "resample")
    return (
        f"{count(estimates.num_prompts, 'prompt')}, each one cluster that is left out or resampled "
        f"whole with all arms' trials. Intervals: jackknife-t for ratios, bootstrap for medians "
        f"({resamples}, seed {estimates.seed}), Wilson's for shares of prompts; {said}."
    )


def _noise_floor(estimates: Estimates, policy: Policy) -> str:
    floor = estimates.noise_floor
    if isinstance(floor, Unmeasured):
        return f"Noise floor (the baseline against itself): not measured, {_clause(floor.reason)}."
    tolerated = f"{policy.max_noise:.3f}".rstrip("0").rstrip(".")
    return (
        f"Noise floor: the baseline against itself (A/A) came to {noise(floor)}. A quiet machine "
        f"gives 1, and what differs from 1 is the machine, not speculation. The policy asks that "
        f"the interval reach 1 ± {tolerated}."
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
    return f"{repeats} of each prompt and arm; {recorded} planned trials recorded, {failures}."


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
