"""Requests that keep to a service level objective."""

from specmeasure.records.serving import Slo
from specmeasure.records.trace import TrialRecord


def keeps_to(trial: TrialRecord, slo: Slo) -> bool:
    """Whether a request kept to every limit; one that failed kept to none.

    An answer of one token has no time per further token and keeps to any limit of it. A time that
    is not known keeps to none.
    """
    if trial.failed or trial.ttft_s is None or trial.decode_s is None:
        return False
    waits = (
        (trial.ttft_s, slo.ttft_s),
        (_tpot_s(trial, trial.decode_s), slo.tpot_s),
        (trial.ttft_s + trial.decode_s, slo.end_to_end_s),
    )
    return all(limit is None or (wait is not None and wait <= limit) for wait, limit in waits)


def _tpot_s(trial: TrialRecord, decode_s: float) -> float | None:
    if trial.num_emitted_tokens is None:
        return None
    later = trial.num_emitted_tokens - 1
    return decode_s / later if later > 0 else 0.0
