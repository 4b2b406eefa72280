"""Servers' own counters, read from the text that Prometheus scrapes.

vLLM and llama.cpp name the same counters, each behind its own prefix. Names are matched whole: the
``_created`` twin of a counter is a gauge whose value is a unix time. All counters run since the
server started, warm-up included; only differences speak of a stretch of load.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from prometheus_client.parser import text_string_to_metric_families

from specmeasure.errors import UnexpectedReply
from specmeasure.records.trace import DraftCounts
from specmeasure.servers.server import Snapshot

_DRAFTS = "spec_decode_num_drafts_total"
_DRAFT_TOKENS = "spec_decode_num_draft_tokens_total"
_ACCEPTED = "spec_decode_num_accepted_tokens_total"
_BY_POSITION = "spec_decode_num_accepted_tokens_per_pos_total"
_EMITTED = ("generation_tokens_total", "tokens_predicted_total")  # vLLM and SGLang; llama.cpp
_WANTED = (_DRAFTS, _DRAFT_TOKENS, _ACCEPTED, _BY_POSITION, *_EMITTED)
_EXACT_BELOW = {"llamacpp": 1_000_000}  # it prints six digits: 1.23457e+06
_MOST_POSITIONS = 1000
_NOT_READ = "Its counters cannot be used; look at the page, or serve it without a /metrics page."
_NOT_KNOWN = "What it counted meanwhile is not known."

_Labels = dict[str, str]
_Sample = tuple[str, _Labels, int | None]  # a counter's name without prefix, its labels, its value


def parse_snapshot(text: str, prefix: str, model: str | None = None) -> Snapshot:
    """A server's counters, summed over its engines.

    A server that could draft and has not yet, or never will, as a llama.cpp baseline, says zeros:
    zeros they stay. One without these counters has None. A counter too large to be printed in full
    is not known, and neither is what it belongs to.

    Args:
        text: the page at /metrics.
        prefix: of the engine's counters: "vllm".
        model: as served. A page that names several models is read for this one; where the only
            model of a page has another name, that is an alias.

    Raises:
        UnexpectedReply: the page is not in Prometheus' format, or contradicts itself.
    """
    totals: dict[str, int | None] = {}
    by_position: dict[int, int] = defaultdict(int)
    for name, labels, value in _of_model(_samples(text, prefix), model):
        if name != _BY_POSITION:
            known = totals.get(name, 0)
            totals[name] = None if known is None or value is None else known + value
        elif value is None:
            totals[_BY_POSITION] = None
        else:
            by_position[_position(labels)] += value
    positions = None if _BY_POSITION in totals else _in_order(by_position)
    emitted = [totals[name] for name in _EMITTED if name in totals]
    return Snapshot(
        drafts=_drafts(totals, positions), num_emitted_tokens=emitted[0] if emitted else None
    )


def difference(before: Snapshot, after: Snapshot) -> Snapshot:
    """What a server counted between two snapshots; None where one of them does not tell.

    A position that appears only later was counted from 0.

    Raises:
        UnexpectedReply: a counter went back, as that of a server started anew does; or what lay
            between contradicts itself, as where a page was read in the middle of a change.
    """
    earlier, later = before.drafts, after.drafts
    return Snapshot(
        drafts=None if earlier is None or later is None else _drafts_between(earlier, later),
        num_emitted_tokens=_between(
            "emitted tokens", before.num_emitted_tokens, after.num_emitted_tokens
        ),
    )


def _samples(text: str, prefix: str) -> list[_Sample]:
    found = []
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                start, _, name = sample.name.partition(":")
                if start == prefix and name in _WANTED:
                    found.append((name, sample.labels, _count(name, sample.value, prefix)))
    except (ValueError, IndexError) as error:
        raise UnexpectedReply(
            f"/metrics is not in Prometheus' text format ({type(error).__name__}). {_NOT_READ}"
        ) from error
    return found


def _count(name: str, value: float, prefix: str) -> int | None:
    if not (value >= 0 and float(value).is_integer()):
        raise UnexpectedReply(f"/metrics: {prefix}:{name} is {value:g}, no count. {_NOT_READ}")
    return int(value) if value < _EXACT_BELOW.get(prefix, 2**53) else None


def _of_model(samples: Sequence[_Sample], model: str | None) -> Iterable[_Sample]:
    names = {labels["model_name"] for _, labels, _ in samples if "model_name" in labels}
    if model is None or len(names) < 2:
        return samples
    return [sample for sample in samples if sample[1].get("model_name", model) == model]


def _position(labels: _Labels) -> int:
    position = labels.get("position", "")
    if not position.isdecimal() or int(position) >= _MOST_POSITIONS:
        raise UnexpectedReply(f"/metrics: {_BY_POSITION} without its position. {_NOT_READ}")
    return int(position)


def _in_order(by_position: dict[int, int]) -> tuple[int, ...] | None:
    """[K] from position 0; one that is left out was never counted up."""
    if not by_position:
        return None
    return tuple(by_position.get(position, 0) for position in range(max(by_position) + 1))


def _drafts(totals: dict[str, int | None], positions: tuple[int, ...] | None) -> DraftCounts | None:
    drafted, accepted = totals.get(_DRAFT_TOKENS), totals.get(_ACCEPTED)
    if drafted is None or accepted is None:
        return None
    try:
        return DraftCounts(
            num_draft_tokens=drafted,
            num_accepted_tokens=accepted,
            num_drafted_blocks=totals.get(_DRAFTS),
            accepted_by_position=positions,
        )
    except ValueError as error:
        raise UnexpectedReply(f"/metrics contradicts itself: {error}. {_NOT_READ}") from error


def _drafts_between(before: DraftCounts, after: DraftCounts) -> DraftCounts:
    drafted = after.num_draft_tokens - before.num_draft_tokens
    accepted = after.num_accepted_tokens - before.num_accepted_tokens
    for what, number in (("drafted tokens", drafted), ("accepted tokens", accepted)):
        _refuse_if_back(what, number)
    try:
        return DraftCounts(
            num_draft_tokens=drafted,
            num_accepted_tokens=accepted,
            num_drafted_blocks=_between(
                "drafted blocks", before.num_drafted_blocks, after.num_drafted_blocks
            ),
            accepted_by_position=_positions_between(before, after),
        )
    except ValueError as error:
        raise UnexpectedReply(
            f"two readings of /metrics contradict each other: {error}. {_NOT_KNOWN}"
        ) from error


def _positions_between(before: DraftCounts, after: DraftCounts) -> tuple[int, ...] | None:
    if after.accepted_by_position is None:
        return None
    if before.accepted_by_position is None and before.num_accepted_tokens:
        return None
    pairs = zip_longest(after.accepted_by_position, before.accepted_by_position or (), fillvalue=0)
    counted = tuple(later - earlier for later, earlier in pairs)
    _refuse_if_back("accepted tokens of a position", min(counted, default=0))
    return counted


def _between(what: str, before: int | None, after: int | None) -> int | None:
    if before is None or after is None:
        return None
    _refuse_if_back(what, after - before)
    return after - before


def _refuse_if_back(what: str, number: int) -> None:
    if number < 0:
        raise UnexpectedReply(
            f"the server's counter of {what} went back by {-number}: it was started anew in "
            f"between, or several servers take turns behind its address. {_NOT_KNOWN}"
        )
