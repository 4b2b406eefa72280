"""llama.cpp's words: its own ``/completion`` for ids and text, OpenAI's chat for messages.

Names and places as in llama.cpp's server of October 2026 (build 11549), in a binary of its own or
inside a Python process. What its answers show, and do not:

- EOS is among the ids and the predicted tokens, with an empty text; so is the token that completes
  a stop text. Drafts are shortened towards the budget, whose last token may be a pass without any.
  Of a block that EOS ends, the drafts before it are counted as accepted, and EOS itself where it
  was the block's last draft; of one that a stop text ends, all that the target would have kept.
- A request's timings and the differences of the Prometheus counters are the same numbers.
- A token that ends inside a character of several bytes is not sent: its id is missing from the
  stream, though it is counted. Such an answer has no ids.
- ``n_probs`` covers the tokens that were drawn one at a time; those of a pass with drafts come
  without. The server of a baseline tells all of them.
- ``draft_n`` and ``draft_n_accepted`` are left out where nothing was drafted: by a server without
  speculation as by one that found no draft. Which of the two it was cannot be told here.
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
    read_number,
    read_text,
)
from specmeasure.servers.openai import (
    CHAT,
    is_chat,
    read_choice,
    read_chunk,
    standard_body,
)
from specmeasure.servers.server import Ask, TokenLogprobs

COMPLETION = "/completion"

_NEUTRAL = {
    "min_p": 0.0,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "dry_multiplier": 0.0,
    "xtc_probability": 0.0,
    "mirostat": 0,
}
_ORDER = ["temperature", "top_k", "top_p"]  # the server's own order puts temperature last
_FINISH_REASONS = {"limit": "length", "eos": "stop", "word": "stop"}


class LlamacppDialect:
    """llama.cpp's server.

    A text gets BOS from the server, as the model's file says, and special tokens in it are read as
    such; ids are taken as they are. Prompts are not looked up in the server's cache.
    """

    engine = ServingEngine.LLAMACPP
    metrics_prefix: str | None = "llamacpp"

    def post(self, ask: Ask, model: str) -> Post:
        """The streaming request."""
        shared = {**_sampling(ask), "ignore_eos": ask.ignore_eos, "cache_prompt": False}
        if is_chat(ask):
            return Post(path=CHAT, body=standard_body(ask, model) | shared | _logprobs_asked(ask))
        body = {
            "model": model,
            "prompt": ask.context if isinstance(ask.context, str) else list(ask.context),
            "n_predict": ask.settings.max_new_tokens,
            "stop": list(ask.settings.stop),
            "n_probs": ask.num_logprobs,
            "post_sampling_probs": False,
            "return_tokens": True,
            "stream": True,
            **shared,
        }
        return Post(path=COMPLETION, body=body)

    def read(self, document: Any) -> Piece:
        """Text, ids, finish reason, totals; drafts in the last object's timings.

        Raises:
            UnexpectedReply: an error object, a field of another type or out of range, or an answer
                that the context's end cut.
        """
        fields = as_fields(document, "a streamed object")
        return _read_completion(fields) if "content" in fields else _read_chat(fields)


def read_timings(document: Fields) -> DraftCounts | None:
    """One request's drafts; None: the server says nothing of any.

    Raises:
        UnexpectedReply: a field of another type, or more accepted than drafted.
    """
    timings = read_fields(document, "timings") or {}
    drafted = read_count(timings, "draft_n", "timings")
    accepted = read_count(timings, "draft_n_accepted", "timings")
    if drafted is None or accepted is None:
        return None
    try:
        return DraftCounts(num_draft_tokens=drafted, num_accepted_tokens=accepted)
    except ValueError as error:
        raise UnexpectedReply(f"timings contradicts itself: {error}") from error


def _sampling(ask: Ask) -> dict[str, Any]:
    """Temperature, then top-k, then top-p, and nothing else."""
    settings, sampling = ask.settings, ask.settings.sampling
    told: dict[str, Any] = {
        **_NEUTRAL,
        "samplers": _ORDER,
        "temperature": sampling.temperature,
        "top_k": 0 if sampling.top_k is None else sampling.top_k,
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
    }
    if not sampling.is_greedy:
        told["seed"] = settings.seed % (2**32 - 1)  # that number would mean: any
    return told


def _logprobs_asked(ask: Ask) -> dict[str, Any]:
    return {"logprobs": True, "top_logprobs": ask.num_logprobs} if ask.num_logprobs else {}


def _read_completion(fields: Fields) -> Piece:
    ended = fields.get("stop") is True
    stop_type = read_text(fields, "stop_type")
    return Piece(
        text=read_text(fields, "content") or "",
        token_ids=read_counts(fields, "tokens"),
        may_lack_tokens=True,
        logprobs=_read_logprobs(fields, "completion_probabilities", ""),
        finish_reason=_finish_reason(fields, stop_type) if ended else None,
        at_stop_text=stop_type == "word" if ended else None,
        num_prompt_tokens=read_count(fields, "tokens_evaluated"),
        num_emitted_tokens=read_count(fields, "tokens_predicted"),
        counts=read_timings(fields) if ended else None,
    )


def _finish_reason(fields: Fields, stop_type: str | None) -> str | None:
    if stop_type == "limit" and fields.get("truncated") is True:
        raise UnexpectedReply(
            "the answer filled the server's context before its budget; give the server more "
            "context for each request, or ask for fewer tokens"
        )
    return None if stop_type is None else _FINISH_REASONS.get(stop_type, stop_type)


def _read_chat(fields: Fields) -> Piece:
    piece = read_chunk(fields)
    choice = read_choice(fields) or {}
    logprobs = read_fields(choice, "logprobs", "choices[0]") or {}
    return Piece(
        text=piece.text,
        reasoning=piece.reasoning,
        may_lack_tokens=True,
        logprobs=_read_logprobs(logprobs, "content", "choices[0].logprobs"),
        finish_reason=piece.finish_reason,
        num_prompt_tokens=piece.num_prompt_tokens,
        num_emitted_tokens=piece.num_emitted_tokens,
        counts=read_timings(fields),
    )


def _read_logprobs(fields: Fields, name: str, where: str) -> tuple[TokenLogprobs, ...]:
    """Of each token that has any; empty: not told."""
    path = f"{where}.{name}" if where else name
    places = [as_fields(place, path) for place in read_list(fields, name, where) or ()]
    return tuple(
        TokenLogprobs(
            token_id=_token_id(place, path),
            logprob=_logprob(place, path),
            alternatives=_alternatives(place, path),
        )
        for place in places
    )


def _alternatives(place: Fields, where: str) -> dict[int, float]:
    path = f"{where}.top_logprobs"
    top = [as_fields(item, path) for item in read_list(place, "top_logprobs", where) or ()]
    return {_token_id(item, path): _logprob(item, path) for item in top}


def _token_id(place: Fields, where: str) -> int:
    token_id = read_count(place, "id", where)
    if token_id is None:
        raise UnexpectedReply(f"the server's reply: {where} has a token without an id")
    return token_id


def _logprob(place: Fields, where: str) -> float:
    value = read_number(place, "logprob", where)
    if value is None:
        raise UnexpectedReply(f"the server's reply: {where} has a token without a logprob")
    return value
