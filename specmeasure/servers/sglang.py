"""SGLang's words: its own ``/generate`` for ids and text, OpenAI's chat for messages.

Streams of ``/generate`` repeat all that was said before, text and ids, unless the server was
started with ``--incremental-streaming-output`` (``--stream-output`` before 2026): an object that
has as many ids as tokens were completed is the whole answer so far. Ids and
``completion_tokens`` hold the token that ended the answer, EOS or of a stop text.

Names of the draft counts by era, the newest first; the ratios beside them are never read, for
``spec_accept_rate`` has been stuck at 0 and has counted the target's own token:

- ``speculative_decoding_stats`` with every block, of a branch; its lengths count one token more;
- ``spec_num_correct_drafts`` and ``spec_num_proposed_drafts``, since 0.5.15 or so;
- ``spec_accepted_drafts`` and ``spec_proposed_drafts``, their aliases for a while;
- ``spec_accept_token_num`` and ``spec_draft_token_num``, of 0.5.9 or so.

Proposed drafts are ``spec_verify_ct`` times the K that was set, also where fewer were drafted.
Where only ``spec_verify_ct`` is told, drafted tokens are not known and nothing is.
"""

from typing import Any

from specmeasure.errors import UnexpectedReply
from specmeasure.records.serving import ServingEngine
from specmeasure.records.trace import DraftCounts
from specmeasure.servers.dialect import Piece, Post
from specmeasure.servers.fields import (
    Fields,
    as_fields,
    read_count,
    read_counts,
    read_fields,
    read_list,
    read_text,
)
from specmeasure.servers.openai import CHAT, is_chat, read_choice, read_chunk, standard_body
from specmeasure.servers.server import Ask, TokenLogprobs

GENERATE = "/generate"

_META = "meta_info"
_STATS = "speculative_decoding_stats"
_ACCEPTED = ("spec_num_correct_drafts", "spec_accepted_drafts", "spec_accept_token_num")
_PROPOSED = ("spec_num_proposed_drafts", "spec_proposed_drafts", "spec_draft_token_num")
_HISTOGRAMS = ("spec_correct_drafts_histogram", "spec_accept_histogram")


class SglangDialect:
    """SGLang's server. Its draws have no seed unless the server was started to be deterministic.

    Its Prometheus page counts emitted tokens; what it says of drafts there are gauges, which cannot
    be told apart by windows.
    """

    engine = ServingEngine.SGLANG
    metrics_prefix: str | None = "sglang"

    def post(self, ask: Ask, model: str) -> Post:
        """The streaming request."""
        if is_chat(ask):
            body = standard_body(ask, model) | _sampling(ask) | {"return_meta_info": True}
            return Post(path=CHAT, body=body)
        settings = ask.settings
        params = _sampling(ask) | {
            "max_new_tokens": settings.max_new_tokens,
            "temperature": settings.sampling.temperature,
            "top_p": 1.0 if settings.sampling.top_p is None else settings.sampling.top_p,
            "frequency_penalty": 0.0,
            "presence_penalty": 0.0,
            "stop": list(settings.stop),
            "n": 1,
        }
        body = {**_asked(ask), "sampling_params": params, "stream": True}
        if ask.num_logprobs:
            body |= {"return_logprob": True, "top_logprobs_num": ask.num_logprobs}
        return Post(path=GENERATE, body=body)

    def read(self, document: Any) -> Piece:
        """Text, ids, finish reason, totals; drafts where ``meta_info`` tells of them.

        Raises:
            UnexpectedReply: an error object, or a field of another type or out of range.
        """
        fields = as_fields(document, "a streamed object")
        return _read_generated(fields) if _META in fields else _read_chat(fields)


def read_meta_info(meta: Fields, where: str = _META) -> DraftCounts | None:
    """One request's drafts; None: they are not told, or not under a known name.

    Raises:
        UnexpectedReply: a field of another type, or fields that contradict each other.
    """
    stats = read_fields(meta, _STATS, where)
    try:
        if stats is not None:
            return _read_stats(stats, f"{where}.{_STATS}")
        drafted, accepted = _first(meta, _PROPOSED, where), _first(meta, _ACCEPTED, where)
        if drafted is None or accepted is None:
            return None
        histograms = [read_counts(meta, name, where) for name in _HISTOGRAMS]
        return DraftCounts(
            num_draft_tokens=drafted,
            num_accepted_tokens=accepted,
            num_drafted_blocks=read_count(meta, "spec_verify_ct", where),
            histogram=next((found for found in histograms if found), None),
        )
    except ValueError as error:
        raise UnexpectedReply(f"{where} contradicts itself: {error}") from error


def _asked(ask: Ask) -> dict[str, Any]:
    if isinstance(ask.context, str):
        return {"text": ask.context}
    return {"input_ids": list(ask.context)}


def _sampling(ask: Ask) -> dict[str, Any]:
    top_k = ask.settings.sampling.top_k
    return {
        "top_k": -1 if top_k is None else top_k,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "ignore_eos": ask.ignore_eos,
    }


def _first(meta: Fields, names: tuple[str, ...], where: str) -> int | None:
    values = [read_count(meta, name, where) for name in names]
    return next((value for value in values if value is not None), None)


def _read_stats(stats: Fields, where: str) -> DraftCounts | None:
    drafted = read_count(stats, "num_verified_draft_tokens", where)
    accepted = read_count(stats, "num_accepted_draft_tokens", where)
    if drafted is None or accepted is None:
        return None
    return DraftCounts(
        num_draft_tokens=drafted,
        num_accepted_tokens=accepted,
        num_drafted_blocks=read_count(stats, "num_verification_steps", where),
        steps=_read_steps(stats, where),
    )


def _read_steps(stats: Fields, where: str) -> tuple[tuple[int, int], ...] | None:
    verified = read_counts(stats, "verify_lengths", where)
    kept = read_counts(stats, "accept_lengths", where)
    if verified is None or kept is None:
        return None
    if len(verified) != len(kept) or not all(verified) or not all(kept):
        raise UnexpectedReply(
            f"{where} contradicts itself: {len(verified)} verify_lengths, {len(kept)} "
            "accept_lengths, each from 1"
        )
    return tuple(
        (length - 1, accepted - 1) for length, accepted in zip(verified, kept, strict=True)
    )


def _read_generated(fields: Fields) -> Piece:
    meta = read_fields(fields, _META) or {}
    token_ids = read_counts(fields, "output_ids")
    completed = read_count(meta, "completion_tokens", _META)
    finish_reason, at_stop_text = _finish(meta)
    return Piece(
        text=read_text(fields, "text") or "",
        token_ids=token_ids,
        is_whole=token_ids is None or completed is None or len(token_ids) == completed,
        logprobs=_read_logprobs(meta),
        finish_reason=finish_reason,
        at_stop_text=at_stop_text,
        num_prompt_tokens=read_count(meta, "prompt_tokens", _META),
        num_emitted_tokens=completed,
        counts=None if finish_reason is None else read_meta_info(meta),
    )


def _finish(meta: Fields) -> tuple[str | None, bool | None]:
    """The reason, and of "stop" whether a text matched; once it was the reason's name alone."""
    if not isinstance(meta.get("finish_reason"), dict):
        return read_text(meta, "finish_reason", _META), None
    reason = as_fields(meta["finish_reason"], f"{_META}.finish_reason")
    matched = reason.get("matched")
    return (
        read_text(reason, "type", f"{_META}.finish_reason"),
        None if matched is None else isinstance(matched, str),
    )


def _read_chat(fields: Fields) -> Piece:
    piece = read_chunk(fields)
    choice = read_choice(fields) or {}
    meta = read_fields(choice, _META, "choices[0]")
    matched = choice.get("matched_stop")
    return Piece(
        text=piece.text,
        reasoning=piece.reasoning,
        finish_reason=piece.finish_reason,
        at_stop_text=None if matched is None else isinstance(matched, str),
        num_prompt_tokens=piece.num_prompt_tokens,
        num_emitted_tokens=piece.num_emitted_tokens,
        counts=None if meta is None else read_meta_info(meta, f"choices[0].{_META}"),
    )


def _read_logprobs(meta: Fields) -> tuple[TokenLogprobs, ...]:
    """Rows of logprob, id and perhaps text, for each emitted token and its alternatives."""
    own = read_list(meta, "output_token_logprobs", _META) or []
    top = read_list(meta, "output_top_logprobs", _META) or [None] * len(own)
    if len(own) != len(top):
        raise UnexpectedReply(f"{_META}: {len(own)} logprobs, {len(top)} rows of alternatives")
    read = []
    for row, others in zip(own, top, strict=True):
        token_id, logprob = _pair(row)
        read.append(
            TokenLogprobs(
                token_id=token_id,
                logprob=logprob,
                alternatives=dict(_pair(other) for other in others or ()),
            )
        )
    return tuple(read)


def _pair(row: Any) -> tuple[int, float]:
    if not (
        isinstance(row, list)
        and len(row) >= 2
        and isinstance(row[0], int | float)
        and isinstance(row[1], int)
    ):
        raise UnexpectedReply(f"{_META}: a logprob is no row of a number and a token's id")
    return row[1], float(row[0])
