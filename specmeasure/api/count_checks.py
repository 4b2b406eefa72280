"""Whether what servers say of requests adds up to their own counters, over a whole run."""

import re
from collections import Counter, defaultdict

from specmeasure.records.trace import DraftCounts, Trace, WindowKey
from specmeasure.servers.counts import cross_check


def count_checks(trace: Trace) -> tuple[str, ...]:
    """Sentences: in how many windows requests and counters agree, and what does not, once a kind.

    Windows are compared in which every request, and the server's counters, told of drafts.
    """
    told = _told(trace)
    both = {
        window.key: window.counters
        for window in trace.windows
        if window.counters is not None and all(told[window.key]) and told[window.key]
    }
    if not both:
        return ()
    kinds: Counter[str] = Counter()
    examples: dict[str, str] = {}
    num_odd = 0
    for key, counters in both.items():
        counts = [one for one in told[key] if one is not None]
        sentences = {re.sub(r"\d+", "", line): line for line in cross_check(counts, counters)}
        num_odd += bool(sentences)
        kinds.update(sentences.keys())
        examples = sentences | examples
    agree = (
        f"In {len(both) - num_odd} of {len(both)} windows of which both tell, what requests say of "
        "their drafts adds up to the server's own counters exactly."
    )
    return (
        agree,
        *(f"In {number} of them it does not: {examples[kind]}." for kind, number in kinds.items()),
    )


def _told(trace: Trace) -> dict[WindowKey, list[DraftCounts | None]]:
    """What answered requests say, by window."""
    found: defaultdict[WindowKey, list[DraftCounts | None]] = defaultdict(list)
    for trial in trace.trials:
        if trial.key.load is not None and trial.group is not None and not trial.failed:
            key = WindowKey(load=trial.key.load, group=trial.group, arm=trial.key.arm)
            found[key].append(trial.counts)
    return found
