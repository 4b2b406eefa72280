"""A finished window as records: its trials, and what it showed beyond them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from specmeasure.records.trace import TrialRecord, WindowRecord
from specmeasure.run.requests import Planned, ids_of
from specmeasure.run.traffic import Exchange, Traffic
from specmeasure.run.trials import ids_hash, labels_of, text_hash
from specmeasure.run.windows import Window
from specmeasure.servers.server import Reply, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request of a window and what came of it."""

    planned: Planned
    exchange: Exchange


def trial_records(
    window: Window, planned: Sequence[Planned], traffic: Traffic, *, keep_ids: bool
) -> list[TrialRecord]:
    """One a request, in order; those that could not be sent are rows with their errors."""
    exchanges = iter(traffic.exchanges)
    return [
        _row(window, one, error=one.error)
        if one.ask is None
        else _sent(window, one, next(exchanges), began=traffic.began, keep_ids=keep_ids)
        for one in planned
    ]


def sent_requests(planned: Sequence[Planned], traffic: Traffic) -> list[Sent]:
    """Requests with their exchanges."""
    sendable = [one for one in planned if one.ask is not None]
    pairs = zip(sendable, traffic.exchanges, strict=True)
    return [Sent(planned=one, exchange=exchange) for one, exchange in pairs]


def window_record(
    window: Window, traffic: Traffic, counted: Snapshot, memory_bytes: int | None
) -> WindowRecord:
    """The window's own facts. Tokens are those of replies whose server says how many they have."""
    return WindowRecord(
        key=window.key,
        duration_s=traffic.duration_s,
        num_emitted_tokens=num_emitted_tokens(traffic),
        mean_in_flight=traffic.mean_in_flight,
        counters=counted.drafts,
        num_counted_tokens=counted.num_emitted_tokens,
        memory_bytes=memory_bytes,
    )


def num_emitted_tokens(traffic: Traffic) -> int:
    """Of all replies."""
    replies = (one.reply for one in traffic.exchanges)
    return sum(reply.num_emitted_tokens or 0 for reply in replies if reply is not None)


def answer_hash(reply: Reply) -> str:
    """Digest of the answer's ids, or of its text where the server gives no ids."""
    return text_hash(reply.text) if reply.token_ids is None else ids_hash(reply.token_ids)


def _row(
    window: Window, planned: Planned, *, error: str | None = None, sent_s: float | None = None
) -> TrialRecord:
    """What is known of a request whatever came of it."""
    return TrialRecord(
        key=planned.key,
        prompt_hash=planned.prompt.content_hash,
        labels=labels_of(planned.prompt),
        sampling=planned.settings.sampling,
        error=error,
        group=window.group.index,
        sent_s=sent_s,
    )


def _sent(
    window: Window, planned: Planned, exchange: Exchange, *, began: float, keep_ids: bool
) -> TrialRecord:
    reply, sent_s = exchange.reply, exchange.sent - began
    if reply is None or planned.ask is None:
        return _row(window, planned, error=exchange.error, sent_s=sent_s)
    return replace(
        _row(window, planned, sent_s=sent_s),
        num_prompt_tokens=reply.num_prompt_tokens,
        num_emitted_tokens=reply.num_emitted_tokens,
        ids_hash=answer_hash(reply),
        token_ids=reply.token_ids if keep_ids else None,
        prompt_ids=ids_of(planned.ask.context) if keep_ids else None,
        finish_reason=reply.finish_reason,
        ttft_s=reply.ttft_s,
        decode_s=reply.decode_s,
        counts=reply.counts,
        num_retries=reply.num_retries,
    )
