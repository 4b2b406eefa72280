"""What servers tell of their drafts: which counts can be used, and which cannot be true.

Nothing here is read from the sizes of a stream's chunks.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from specmeasure.errors import InsufficientEvidence
from specmeasure.records.trace import DraftCounts, TrialRecord, WindowRecord

NO_DRAFTS = DraftCounts(
    num_draft_tokens=0, num_accepted_tokens=0, num_drafted_blocks=0, steps=(), histogram=()
)
FOREIGN = 0.02  # of a window's counts: with more that nobody here asked for, it is not ours alone


def num_drafted_blocks(counts: DraftCounts) -> int | None:
    """Blocks that had a draft; None: not told in any way.

    >>> num_drafted_blocks(DraftCounts(num_draft_tokens=8, num_accepted_tokens=1, histogram=(1, 1)))
    2
    """
    if counts.num_drafted_blocks is not None:
        return counts.num_drafted_blocks
    if counts.steps is not None:
        return len(counts.steps)
    return None if counts.histogram is None else sum(counts.histogram)


def with_silent_requests(
    trials: Sequence[TrialRecord], windows: Sequence[WindowRecord]
) -> list[TrialRecord]:
    """An arm's trials, those of which its server says nothing having drafted nothing.

    Servers leave the fields out where nothing was drafted. That is read so only where the same
    server told of other requests, or its own counters saw no draft at all.
    """
    tells = any(trial.counts is not None for trial in trials)
    seen = [window.counters for window in windows if window.counters is not None]
    if not tells and (not seen or any(counts.num_draft_tokens for counts in seen)):
        return list(trials)
    return [
        trial if trial.counts is not None or trial.failed else replace(trial, counts=NO_DRAFTS)
        for trial in trials
    ]


def own_windows(
    windows: Sequence[WindowRecord], trials: Sequence[TrialRecord]
) -> list[WindowRecord]:
    """An arm's windows whose counters speak of its own requests alone, as far as can be told.

    The tokens that the server counted are those that came back, and where all requests of a window
    tell their drafts, too, their sums are its counters'.
    """
    requests: dict[int | None, list[TrialRecord]] = defaultdict(list)
    for trial in trials:
        requests[trial.group].append(trial)
    return [
        window
        for window in windows
        if window.counters is not None
        and _is_alike(window.num_counted_tokens, window.num_emitted_tokens)
        and _agree(window.counters, requests[window.key.group])
    ]


def _agree(counters: DraftCounts, requests: Sequence[TrialRecord]) -> bool:
    told = [trial.counts for trial in requests if trial.counts is not None]
    if not told or len(told) < len(requests):
        return True
    return _is_alike(
        counters.num_draft_tokens, sum(one.num_draft_tokens for one in told)
    ) and _is_alike(counters.num_accepted_tokens, sum(one.num_accepted_tokens for one in told))


def _is_alike(counted: int | None, asked: int) -> bool:
    return counted is None or abs(counted - asked) <= FOREIGN * max(counted, asked)


def refuse_contradictions(trial: TrialRecord, most_drafts: int) -> None:
    """A request's counts against its tokens, but for a last block that was cut.

    Each block emits its accepted drafts and one token; of the last, at most K are cut off.

    Raises:
        InsufficientEvidence: the server counts more than it can have sent.
    """
    counts = trial.counts
    if counts is None or trial.num_emitted_tokens is None:
        return
    drafts = [drafted for drafted, _ in counts.steps or ()]
    cut = max(most_drafts, len(counts.histogram or ()) - 1, *drafts, 0)
    num_told = counts.num_accepted_tokens + (num_drafted_blocks(counts) or 0)
    if num_told > trial.num_emitted_tokens + cut:
        raise InsufficientEvidence(
            f"trial {trial.key}: its server counts {num_told} tokens from drafted blocks, the "
            f"answer has {trial.num_emitted_tokens}; its counts are not to be trusted."
        )
