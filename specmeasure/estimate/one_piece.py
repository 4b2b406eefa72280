"""Answers of servers that arrived in one piece, so that nobody knows when they were decoded.

Where a server's processes or this one starve for a core, tokens queue up on the way and arrive
together when the answer is done. The time to the first token then holds the whole answer, and the
time after it is that of reading a buffer. The time of the whole request is right.

Honest streams can be fast, too: K + 1 tokens come with each pass, and passes are faster where a
window runs out of requests. So an answer counts as one piece only if it is too fast for its arm
and the baseline at that load, too fast for any server, and over in no time beside the wait for its
first token. On recorded runs of llama.cpp and vLLM on two busy cores such answers took 0.02 to
0.3 ms a token where others took 3 to 20 ms. Streams of simulated servers with up to 16 drafts, all
accepted, and with windows that run out, are never taken for it; where up to two thirds of an arm's
answers are, it is found (tests/estimate/test_one_piece.py). An answer whose first part alone
arrived late is not found.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from specmeasure.estimate.trials import Trials
from specmeasure.records.plan import Arm, Method, TrialKey
from specmeasure.records.serving import Load
from specmeasure.records.trace import Trace, TrialRecord

FEWEST_TOKENS = 8  # shorter answers may well come with one pass
FEWEST_TIMES_FASTER = 5  # than is usual; without drafts
SLACK = 2  # passes may be so many times faster than usual, beside what drafts give
LONGEST_TO_READ_S = 1e-3  # a token out of a buffer, on a busy machine
SHORTEST_TO_STREAM_S = 1e-4  # a pass of any server, seen through HTTP
DECODE_SHARE = 0.2  # of the wait for the first token, at most
UNKNOWN_LENGTH = 16  # K of a server that does not tell it: as many as are usual at most

_Kind = tuple[str, Load]


def in_one_piece(trace: Trace) -> frozenset[TrialKey]:
    """The requests whose time to first token and decode time are unknown; empty in process.

    Formula: decode_s / (n − 1) < max(0.1 ms / (K + 1), min(1 ms, usual / max(5, 2 (K + 1)))) and
    decode_s ≤ 0.2 ttft_s, for n ≥ 8 tokens. Usual is the upper quartile of decode_s / (n − 1) in
    the arm at that load, or in the baseline if that is slower, so that it stands where most of an
    arm's answers arrive in one piece.
    """
    by_kind: defaultdict[_Kind, list[TrialRecord]] = defaultdict(list)
    for trial in trace.trials:
        if trial.key.load is not None and _is_timed(trial):
            by_kind[trial.key.arm, trial.key.load].append(trial)
    usual = {kind: _usual_s(own) for kind, own in by_kind.items()}
    arms = {arm.name: arm for arm in trace.manifest.plan.arms}
    baseline = trace.manifest.plan.arms[0].name
    return frozenset(
        trial.key
        for (name, load), own in by_kind.items()
        for trial in own
        if _is_over_at_once(
            trial,
            max(usual[name, load], usual.get((baseline, load), 0.0)),
            _most_drafts(arms[name], trace),
        )
    )


def streamed(trials: Trials, untimed: frozenset[TrialKey]) -> Trials:
    """Those whose times are known."""
    if not untimed:
        return trials
    known = [trial.key not in untimed for trial in trials]
    return Trials(trials.table, trials.places[known])


def _is_timed(trial: TrialRecord) -> bool:
    known = trial.decode_s is not None and trial.ttft_s is not None
    return not trial.failed and known and (trial.num_emitted_tokens or 0) >= FEWEST_TOKENS


def _usual_s(trials: Sequence[TrialRecord]) -> float:
    return float(np.quantile([_pace_s(trial) for trial in trials], 0.75))


def _is_over_at_once(trial: TrialRecord, usual_s: float, most_drafts: int) -> bool:
    times_faster = max(FEWEST_TIMES_FASTER, SLACK * (most_drafts + 1))
    too_fast = max(
        SHORTEST_TO_STREAM_S / (most_drafts + 1), min(LONGEST_TO_READ_S, usual_s / times_faster)
    )
    decode_s, ttft_s = trial.decode_s or 0.0, trial.ttft_s or 0.0
    return _pace_s(trial) < too_fast and decode_s <= DECODE_SHARE * ttft_s


def _pace_s(trial: TrialRecord) -> float:
    """Of an answer of at least two tokens."""
    return (trial.decode_s or 0.0) / ((trial.num_emitted_tokens or 0) - 1)


def _most_drafts(arm: Arm, trace: Trace) -> int:
    """K; of servers that others started the plan need not know it."""
    is_planned = arm.method is not Method.SERVED or arm.speculative_config is not None
    if is_planned:
        return arm.num_speculative_tokens
    told = [one.num_speculative_tokens for one in trace.manifest.servers if one.arm == arm.name]
    return next((length for length in told if length is not None), UNKNOWN_LENGTH)
