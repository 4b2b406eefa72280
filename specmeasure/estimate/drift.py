"""Was the greedy output the target's own? Identical, near-tie, or divergent, from the audits."""

from collections.abc import Sequence

from specmeasure.records.estimates import Losslessness, Unmeasured
from specmeasure.records.trace import SuspectToken, TrialRecord

NOISE_FACTOR = 2  # an argmax can move by at most twice the largest logit difference


def is_near_tie(suspect: SuspectToken) -> bool:
    """Whether rounding alone explains the token: delta ≤ 2 · noise."""
    return suspect.delta <= NOISE_FACTOR * suspect.noise


def losslessness(trials: Sequence[TrialRecord]) -> Losslessness | Unmeasured:
    """Classify one arm's audited trials; sampled ones are counted, not classified."""
    audited = [(trial, trial.audit) for trial in trials if trial.audit is not None]
    if trials and not any(trial.sampling.is_greedy for trial in trials):
        return Unmeasured(
            reason="only greedy runs are audited token by token; sampled answers differ by chance"
        )
    divergent = [
        (trial, next(s for s in audit.suspects if not is_near_tie(s)))
        for trial, audit in audited
        if not all(map(is_near_tie, audit.suspects))
    ]
    num_identical = sum(not audit.suspects for _, audit in audited)
    suspects = [s for _, s in divergent] or [s for _, audit in audited for s in audit.suspects]
    worst = max(suspects, key=lambda suspect: suspect.delta, default=None)
    return Losslessness(
        num_trials=len(audited),
        num_sampled=sum(not (trial.failed or trial.sampling.is_greedy) for trial in trials),
        num_identical=num_identical,
        num_near_tie=len(audited) - num_identical - len(divergent),
        num_divergent=len(divergent),
        num_checked_tokens=sum(audit.num_checked_tokens for _, audit in audited),
        num_differing_from_baseline=sum(audit.divergence is not None for _, audit in audited),
        worst_delta=worst.delta if worst else None,
        worst_noise=worst.noise if worst else None,
        divergent_prompts=tuple(
            f"{trial.key.prompt_id}, turn {trial.key.turn + 1}, token {suspect.index}"
            for trial, suspect in divergent[:10]
        ),
    )
