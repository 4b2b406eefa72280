"""vLLM's words: token ids in every chunk, the request's drafts in the last one.

Names and places as in vLLM 0.32.0, and the two shapes that were proposed before it (vllm #47322
and early forms of #48915). Usage counts EOS; it stands among the ids, too, with an empty text.
"""

from collections.abc import Mapping
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
    read_number,
    read_text,
)
from specmeasure.servers.openai import is_chat, path_for, read_choice, read_chunk, standard_body
from specmeasure.servers.server import Ask, TokenLogprobs

_ID_PREFIX = "token_id:"
_METRICS = "metrics.speculative_decoding"
_OLD_STATS = "speculative_decoding_stats"  # at the choice


class VllmDialect:
    """vLLM's OpenAI server.

    Sampling parameters are sent in full, for those left out come from the model's
    ``generation_config``. The server adds BOS to a text, as the model's tokenizer does; ids and
    chats are taken as they are.
    """

    engine = ServingEngine.VLLM
    metrics_prefix: str | None = "vllm"

    def post(self, ask: Ask, model: str) -> Post:
        """The streaming request."""
        top_k = ask.settings.sampling.top_k
        body = standard_body(ask, model)
        body |= {
            "top_k": -1 if top_k is None else top_k,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "ignore_eos": ask.ignore_eos,
            "return_token_ids": True,
            "add_special_tokens": isinstance(ask.context, str),
            "cache_salt": str(ask.settings.seed),  # no other request's cache answers this one
        }
        if ask.num_logprobs:
            body |= {"return_tokens_as_token_ids": True, **_logprobs_asked(ask)}
        return Post(path=path_for(ask), body=body)

    def read(self, document: Any) -> Piece:
        """Text, ids, finish reason and usage; drafts where ``--per-request-spec-decode-metrics``.

        Raises:
            UnexpectedReply: an error object, or a field of another type or out of range.
        """
        piece = read_chunk(document)
        choice = read_choice(document) or {}
        stop_reason = choice.get("stop_reason")
        return Piece(
            text=piece.text,
            reasoning=piece.reasoning,
            token_ids=read_counts(choice, "token_ids", "choices[0]"),
            logprobs=_read_logprobs(choice),
            finish_reason=piece.finish_reason,
            at_stop_text=isinstance(stop_reason, str),  # an id: a further EOS; null: EOS
            num_prompt_tokens=piece.num_prompt_tokens,
            num_emitted_tokens=piece.num_emitted_tokens,
            counts=_read_drafts(document, choice),
        )


def _logprobs_asked(ask: Ask) -> dict[str, Any]:
    if is_chat(ask):
        return {"logprobs": True, "top_logprobs": ask.num_logprobs}
    return {"logprobs": ask.num_logprobs}


def _read_drafts(document: Fields, choice: Fields) -> DraftCounts | None:
    metrics = read_fields(document, "metrics") or {}
    stats = read_fields(metrics, "speculative_decoding", "metrics")
    if stats is not None:
        return read_draft_stats(stats, _METRICS)
    stats = read_fields(choice, _OLD_STATS, "choices[0]")
    return None if stats is None else read_draft_stats(stats, f"choices[0].{_OLD_STATS}")


def read_draft_stats(stats: Fields, where: str) -> DraftCounts | None:
    """One request's drafts; None: the totals are not there, or not under a known name.

    Raises:
        UnexpectedReply: a field of another type, or fields that contradict each other.
    """
    drafted = _either(stats, ("num_draft_tokens", "num_drafted_tokens"), where)
    accepted = _either(stats, ("num_accepted_draft_tokens", "num_accepted_tokens"), where)
    if drafted is None or accepted is None:
        return None
    try:
        return DraftCounts(
            num_draft_tokens=drafted,
            num_accepted_tokens=accepted,
            num_drafted_blocks=_either(stats, ("num_spec_steps", "num_draft_steps"), where),
            histogram=_read_histogram(stats, where),
            steps=_read_steps(stats, where),
        )
    except ValueError as error:
        raise UnexpectedReply(f"{where} contradicts itself: {error}") from error


def _either(stats: Fields, names: tuple[str, str], where: str) -> int | None:
    now, before = (read_count(stats, name, where) for name in names)
    return before if now is None else now


def _read_histogram(stats: Fields, where: str) -> tuple[int, ...] | None:
    """A list by accepted drafts; once an object that left out what did not happen."""
    name = "acceptance_histogram"
    if not isinstance(stats.get(name), dict):
        return read_counts(stats, name, where)
    sparse = stats[name]
    if not all(key.isdecimal() for key in sparse):
        raise UnexpectedReply(f"the server's reply: {where}.{name} has keys that are no counts")
    most = max([read_count(stats, "num_spec_tokens", where) or 0, *map(int, sparse)])
    return tuple(read_count(sparse, str(j), f"{where}.{name}") or 0 for j in range(most + 1))


def _read_steps(stats: Fields, where: str) -> tuple[tuple[int, int], ...] | None:
    drafted = read_counts(stats, "per_step_drafted", where)
    accepted = read_counts(stats, "per_step_accepted", where)
    if drafted is None or accepted is None:
        return None
    if len(drafted) != len(accepted):
        raise UnexpectedReply(
            f"{where} contradicts itself: per_step_drafted has {len(drafted)} steps, "
            f"per_step_accepted {len(accepted)}"
        )
    return tuple(zip(drafted, accepted, strict=True))


def _read_logprobs(choice: Fields) -> tuple[TokenLogprobs, ...]:
    logprobs = read_fields(choice, "logprobs", "choices[0]")
    if logprobs is None:
        return ()
    content = read_list(logprobs, "content", "choices[0].logprobs")
    if content is not None:
        return tuple(_chat_token(as_fields(place, "logprobs.content")) for place in content)
    return _completion_tokens(logprobs)


def _chat_token(place: Fields) -> TokenLogprobs:
    where = "logprobs.content"
    top = [as_fields(item, where) for item in read_list(place, "top_logprobs", where) or ()]
    return TokenLogprobs(
        token_id=_token_id(read_text(place, "token", where)),
        logprob=_logprob(place, "logprob", where),
        alternatives={
            _token_id(read_text(item, "token", where)): _logprob(item, "logprob", where)
            for item in top
        },
    )


def _completion_tokens(logprobs: Fields) -> tuple[TokenLogprobs, ...]:
    where = "choices[0].logprobs"
    tokens = read_list(logprobs, "tokens", where) or []
    own = read_list(logprobs, "token_logprobs", where) or []
    top = read_list(logprobs, "top_logprobs", where) or []
    if not len(tokens) == len(own) == len(top):
        raise UnexpectedReply(
            f"{where} is of {len(tokens)} tokens, {len(own)} logprobs and {len(top)} alternatives"
        )
    return tuple(
        TokenLogprobs(
            token_id=_token_id(token),
            logprob=_logprob({"token_logprobs": value}, "token_logprobs", where),
            alternatives=_alternatives(as_fields(others, f"{where}.top_logprobs")),
        )
        for token, value, others in zip(tokens, own, top, strict=True)
    )


def _alternatives(others: Fields) -> Mapping[int, float]:
    where = "choices[0].logprobs.top_logprobs"
    return {_token_id(name): _logprob(others, name, where) for name in others}


def _logprob(fields: Fields, name: str, where: str) -> float:
    """A natural logarithm; vLLM says −9999 for a token without a chance."""
    value = read_number(fields, name, where)
    if value is None:
        raise UnexpectedReply(f"the server's reply: {where} has a token without a logprob")
    return value


def _token_id(name: Any) -> int:
    number = name.removeprefix(_ID_PREFIX) if isinstance(name, str) else ""
    if not number.isdecimal():
        raise UnexpectedReply(
            "the server's reply: logprobs name a token by its text, where "
            "return_tokens_as_token_ids was asked for; this vLLM does not know it"
        )
    return int(number)
