"""The OpenAI protocol: what all dialects share, and the plain one, which tells no acceptance."""

import json
from typing import Any

from specmeasure.errors import UnexpectedReply
from specmeasure.records.corpus import Message
from specmeasure.records.serving import ServingEngine
from specmeasure.servers.dialect import Piece, Post
from specmeasure.servers.fields import (
    Fields,
    as_fields,
    read_count,
    read_fields,
    read_list,
    read_text,
)
from specmeasure.servers.refusals import is_name
from specmeasure.servers.server import Ask

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"


class OpenaiDialect:
    """Standard fields only, and what the settings themselves ask for beyond them.

    Tokens have no ids here, so ``num_logprobs`` is not sent: alternatives could not be told apart.
    """

    engine = ServingEngine.OPENAI
    metrics_prefix: str | None = None

    def post(self, ask: Ask, model: str) -> Post:
        """The streaming request."""
        body = standard_body(ask, model)
        if ask.settings.sampling.top_k is not None:
            body["top_k"] = ask.settings.sampling.top_k
        if ask.ignore_eos:
            body["ignore_eos"] = True
        return Post(path=path_for(ask), body=body)

    def read(self, document: Any) -> Piece:
        """Text, finish reason and usage.

        Raises:
            UnexpectedReply: an error object, or a field of another type.
        """
        return read_chunk(document)


def is_chat(ask: Ask) -> bool:
    """Whether the context is messages, which the server's own template renders."""
    return (
        isinstance(ask.context, tuple) and bool(ask.context) and isinstance(ask.context[0], Message)
    )


def path_for(ask: Ask) -> str:
    """Messages are chats; ids and text are completions."""
    return CHAT if is_chat(ask) else COMPLETIONS


def standard_body(ask: Ask, model: str) -> dict[str, Any]:
    """The request in standard fields alone, sampling said in full; the seed where it samples."""
    settings, sampling = ask.settings, ask.settings.sampling
    body: dict[str, Any] = {
        "model": model,
        **_asked(ask),
        "max_tokens": settings.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "n": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if settings.stop:
        body["stop"] = list(settings.stop)
    if not sampling.is_greedy:
        body["seed"] = settings.seed
    return body


def read_chunk(document: Any) -> Piece:
    """One streamed object in standard fields, of a completion or a chat.

    Raises:
        UnexpectedReply: an error object, or a field of another type.
    """
    fields = as_fields(document, "a streamed object")
    if fields.get("error") is not None:
        raise UnexpectedReply(f"the server ended the answer with an error{_error_kind(fields)}")
    usage = read_fields(fields, "usage") or {}
    choice = read_choice(fields) or {}
    delta = read_fields(choice, "delta", "choices[0]")
    said, where = (choice, "choices[0]") if delta is None else (delta, "choices[0].delta")
    return Piece(
        text=read_text(said, "text" if delta is None else "content", where) or "",
        reasoning=_reasoning(said, where),
        finish_reason=read_text(choice, "finish_reason", "choices[0]"),
        num_prompt_tokens=read_count(usage, "prompt_tokens", "usage"),
        num_emitted_tokens=read_count(usage, "completion_tokens", "usage"),
    )


def read_choice(fields: Fields) -> Fields | None:
    """The only choice; None: a chunk without any, which has usage or counters."""
    choices = read_list(fields, "choices")
    if not choices:
        return None
    if len(choices) > 1:
        raise UnexpectedReply(f"the server's reply: {len(choices)} choices, 1 was asked for")
    return as_fields(choices[0], "choices[0]")


def _asked(ask: Ask) -> dict[str, Any]:
    if isinstance(ask.context, str):
        return {"prompt": ask.context}
    if is_chat(ask):
        return {"messages": [_as_sent(m) for m in ask.context if isinstance(m, Message)]}
    return {"prompt": list(ask.context)}


def _as_sent(message: Message) -> dict[str, Any]:
    extras = {} if message.extras is None else json.loads(message.extras)
    return {"role": message.role, "content": message.content, **extras}


def _reasoning(said: Fields, where: str) -> str:
    """By either name: "reasoning" is vLLM's, "reasoning_content" that of others."""
    return read_text(said, "reasoning", where) or read_text(said, "reasoning_content", where) or ""


def _error_kind(fields: Fields) -> str:
    """Its type and code, which are names; its message may quote the prompt."""
    error = fields["error"]
    if not isinstance(error, dict):
        return ""
    told = [str(error[name]) for name in ("type", "code") if isinstance(error.get(name), str | int)]
    names = [name for name in told if is_name(name)]
    return f" ({', '.join(names)})" if names else ""
