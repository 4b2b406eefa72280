"""Was the greedy output the target's own? Identical, near-tie, or divergent, from the audits."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from specmeasure.estimate.trials import Trials
from specmeasure.records.estimates import FirstDivergence, Losslessness, NearTie, Unmeasured
from specmeasure.records.plan import TrialKey
from specmeasure.records.trace import Audit, SuspectToken, TrialRecord

MOST_NAMED = 10  # places of each kind
NOISE_FACTOR = 2  # an argmax can move by at most twice the largest logit difference


def is_near_tie(suspect: SuspectToken) -> bool:
    """Whether rounding alone explains the token: delta ≤ 2 · noise."""
    return suspect.delta <= NOISE_FACTOR * suspect.noise


def losslessness(
    trials: Sequence[TrialRecord],
    baseline: Sequence[TrialRecord] = (),  # empty: it is the baseline, or not to be compared with
    *,
    as_text: bool = False,
) -> Losslessness | Unmeasured:
    """Classify one arm's audited trials; sampled ones are counted, and judged elsewhere.

    Those that were not audited are compared with the baseline's answers to the same prompt, by the
    digests of ids, or of text where the servers give none.
    """
    own = Trials.of(trials)
    table, places = own.table, own.places
    if len(own) and not table.is_greedy[places].any():
        return Unmeasured(reason="no answer was decoded greedily; sampled ones differ by chance")
    audits = list(map(table.audits.__getitem__, places.tolist()))
    audited = [audit for audit in audits if audit is not None]
    suspected = _named(own, [audit and audit.suspects for audit in audits])
    divergent = [
        (trial, next(s for s in audit.suspects if not is_near_tie(s)))
        for trial, audit in suspected
        if not all(map(is_near_tie, audit.suspects))
    ]
    num_identical = len(audited) - len(suspected)
    suspects = [s for _, s in divergent] or [s for _, audit in suspected for s in audit.suspects]
    differs = _differences(own, baseline)
    worst = max(suspects, key=lambda suspect: suspect.delta, default=None)
    return Losslessness(
        num_trials=len(audited),
        num_sampled=int((~(table.failed | table.is_greedy))[places].sum()),
        num_identical=num_identical,
        num_near_tie=len(audited) - num_identical - len(divergent),
        num_divergent=len(divergent),
        num_checked_tokens=sum(audit.num_checked_tokens for audit in audited),
        num_differing_from_baseline=sum(differs),
        num_compared=len(differs),
        compared_as_text=as_text,
        worst_delta=worst.delta if worst else None,
        worst_noise=worst.noise if worst else None,
        divergent_prompts=tuple(
            _place(trial.key, suspect.index) for trial, suspect in divergent[:MOST_NAMED]
        ),
        near_ties=_near_ties(suspected),
        first_divergences=_first_divergences(
            _named(own, [audit and audit.divergence for audit in audits])
        ),
    )


def _named(trials: Trials, found: Sequence[object]) -> list[tuple[TrialRecord, Audit]]:
    """The trials whose audit found something, with it; they are few."""
    flagged = (trials[place] for place, one in enumerate(found) if one)
    return [(trial, audit) for trial in flagged if (audit := trial.audit) is not None]


def _differences(trials: Trials, baseline: Sequence[TrialRecord]) -> list[bool]:
    """Of each trial that was compared: whether it is none of the baseline's own answers.

    An audit tells; of a trial without one the digest, where the baseline answered the same prompt.
    """
    audits = [trials.table.audits[place] for place in trials.places.tolist()]
    own: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for trial in baseline if None in audits else ():
        if _has_answer(trial):
            own[trial.key.prompt_id, trial.key.turn].add(trial.ids_hash or "")
    differs = [audit.divergence is not None for audit in audits if audit is not None]
    unaudited = np.flatnonzero([audit is None for audit in audits])
    for trial in map(trials.__getitem__, unaudited.tolist()):
        answers = own.get((trial.key.prompt_id, trial.key.turn))
        if _has_answer(trial) and answers:
            differs.append(trial.ids_hash not in answers)
    return differs


def _has_answer(trial: TrialRecord) -> bool:
    """Whether it ended, was not drawn by chance, and its digest is known."""
    return not trial.failed and trial.sampling.is_greedy and trial.ids_hash is not None


def _near_ties(audited: Sequence[tuple[TrialRecord, Audit]]) -> tuple[NearTie, ...]:
    """Those with the largest delta."""
    found = [
        NearTie(place=_place(trial.key, one.index), delta=one.delta, noise=one.noise)
        for trial, audit in audited
        for one in audit.suspects
        if is_near_tie(one)
    ]
    return tuple(sorted(found, key=lambda one: -one.delta)[:MOST_NAMED])


def _first_divergences(
    audited: Sequence[tuple[TrialRecord, Audit]],
) -> tuple[FirstDivergence, ...]:
    """Those with the largest gap, then those where an answer had ended."""
    found = [
        FirstDivergence(
            place=_place(trial.key, left.index),
            token_id=left.token_id,
            baseline_token_id=left.baseline_token_id,
            gap=left.gap,
            noise=left.noise,
        )
        for trial, audit in audited
        if (left := audit.divergence) is not None
    ]
    found.sort(key=lambda one: (one.gap is None, -(one.gap or 0.0)))
    return tuple(found[:MOST_NAMED])


def _place(key: TrialKey, index: int) -> str:
    return f"{key.prompt_id}, turn {key.turn + 1}, token {index}"
