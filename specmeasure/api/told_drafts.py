"""What servers told of their drafts over a whole run, and whether it adds up."""

import re
from collections import Counter, defaultdict
from dataclasses import replace

from specmeasure.records.serving import Evidence
from specmeasure.records.trace import DraftCounts, Manifest, Trace, WindowKey
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


def told_evidence(trace: Trace) -> Manifest:
    """The manifest with what each server did tell of its drafts in the run.

    Before a run a server is asked once; one that drafts nothing then shows less than it can.
    """
    seen: defaultdict[str, set[Evidence]] = defaultdict(set)
    for trial in trace.trials:
        if trial.counts is not None and trial.counts.num_draft_tokens:
            seen[trial.key.arm].add(trial.counts.evidence)
    for window in trace.windows:
        if window.counters is not None and window.counters.num_draft_tokens:
            seen[window.key.arm].add(Evidence.COUNTERS)
    servers = tuple(
        replace(
            facts,
            evidence=next((one for one in Evidence if one in seen[facts.arm]), facts.evidence),
        )
        for facts in trace.manifest.servers
    )
    return replace(trace.manifest, servers=servers)


def _told(trace: Trace) -> dict[WindowKey, list[DraftCounts | None]]:
    """What answered requests say, by window."""
    found: defaultdict[WindowKey, list[DraftCounts | None]] = defaultdict(list)
    for trial in trace.trials:
        if trial.key.load is not None and trial.group is not None and not trial.failed:
            key = WindowKey(load=trial.key.load, group=trial.group, arm=trial.key.arm)
            found[key].append(trial.counts)
    return found
