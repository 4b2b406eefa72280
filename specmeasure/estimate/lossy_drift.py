"""How far a lossy arm's answers are from the target's own: nats per token, tokens changed.

Knows the audits alone: what the changes do to answers is for ``accuracy`` to say.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from specmeasure.estimate.drift import is_near_tie
from specmeasure.estimate.intervals import Floats, Intervals, Spread
from specmeasure.estimate.pairing import by_cluster
from specmeasure.estimate.strata import Strata
from specmeasure.estimate.trials import strata_of
from specmeasure.records.estimates import Drift, Estimate, Unmeasured
from specmeasure.records.trace import Audit, SampledAudit, TrialRecord


def lossy_drift(trials: Sequence[TrialRecord], intervals: Intervals) -> Drift | Unmeasured:
    """The drift of one arm's audited trials, over prompts or windows.

    Where some answers are greedy and some sampled, the greedy ones alone: their gaps are exact,
    a sampled token's surprise says something on average only.
    """
    greedy = by_cluster([trial for trial in trials if trial.audit is not None])
    if greedy:
        audits = [[t.audit for t in row if t.audit] for row in greedy]
        return _greedy_drift(audits, strata_of(greedy), intervals)
    sampled = by_cluster([trial for trial in trials if trial.sampled_audit is not None])
    if sampled:
        sampled_audits = [[t.sampled_audit for t in row if t.sampled_audit] for row in sampled]
        return _sampled_drift(sampled_audits, strata_of(sampled), intervals)
    return Unmeasured(reason="no answer of this arm was audited")


def _greedy_drift(rows: Sequence[Sequence[Audit]], strata: Strata, intervals: Intervals) -> Drift:
    """Tokens that differ by more than rounding, and what they cost.

    Formula: nats per token = Σ (top logit − logit of the emitted token) / Σ tokens, which is
    Σ (log p(best) − log p(emitted)) at temperature 1, near-ties left out.
    """
    changed = [
        [s.delta for audit in row for s in audit.suspects if not is_near_tie(s)] for row in rows
    ]
    num_tokens = _floats(sum(audit.num_checked_tokens for audit in row) for row in rows)
    return Drift(
        num_tokens=int(num_tokens.sum()),
        nats_per_token=intervals.ratio(_floats(map(sum, changed)), num_tokens, strata=strata),
        changed_share=intervals.rate(_floats(map(len, changed)), num_tokens, strata=strata),
    )


def _sampled_drift(
    rows: Sequence[Sequence[SampledAudit]], strata: Strata, intervals: Intervals
) -> Drift:
    """Surprise beyond the target's entropy; below 0 where likely tokens are kept too often.

    Formula: nats per token = Σ surprise.excess / Σ tokens
    """
    num_tokens = _floats(sum(len(audit.pit) for audit in row) for row in rows)
    excess = _floats(sum(audit.surprise.excess for audit in row) for row in rows)
    return Drift(
        num_tokens=int(num_tokens.sum()),
        nats_per_token=_signed_ratio(excess, num_tokens, strata, intervals),
        changed_share=Unmeasured(
            reason="sampled answers differ from the likeliest tokens by chance as well"
        ),
    )


def _signed_ratio(
    numerators: Floats, denominators: Floats, strata: Strata, intervals: Intervals
) -> Estimate:
    counted = denominators > 0
    if not counted.any():
        return Unmeasured(reason="no token was audited")
    found = intervals.spread(
        lambda top, bottom: top / bottom,
        numerators[counted],
        denominators[counted],
        strata=strata[counted],
    )
    return intervals.around(found, least=-math.inf) if isinstance(found, Spread) else found


def _floats(numbers: Iterable[float]) -> Floats:
    return np.array(list(numbers), dtype=np.float64)
