"""The one field of a row that is known as a prompt, where no format says more."""

from collections.abc import Mapping, Sequence

from specmeasure.corpus.found import (
    NOTHING,
    Found,
    Row,
    aiperf_request,
    answer_of,
    sampling_of,
    system_beside,
)
from specmeasure.corpus.problems import BadRow, Undecidable, Unreplayable, json_type, name_fields

_PLAIN = ("instruction", "question", "prompt", "text")
_ALIASES = ("input", "context", "content", "turn", "conversation")  # GuideLLM's, where none is
_SYSTEMS = ("system_prompt", "system", "prefix")
_STRUCTURED = (
    *("messages", "body", "conversations", "conversation", "turns", "payloads", "captureData"),
    *("proxy_server_request", "request_body", "request", "texts"),
)
_REQUESTS = ("body", "proxy_server_request", "request_body", "request")
_LENGTHS = ("input_length", "output_length", "hash_ids", "Request tokens", "Response tokens")
_NEVER = {
    *("id", "question_id", "task_id", "custom_id", "prompt_id", "category", "source"),
    *("answer", "output", "response", "reference", "completion", "solution"),
}


def find_plain(row: Row) -> Found:
    """The one field that is known as a prompt."""
    known = {name: row[name] for name in (*_PLAIN, *_ALIASES) if name in row}
    usable = {n: v for n, v in known.items() if isinstance(v, str | list)}
    if not usable:
        raise _explain_absence(row, [name for name, value in known.items() if value is not None])
    filled = [name for name, value in usable.items() if not _is_blank(value)] or list(usable)[:1]
    name = _only_candidate(row, filled)
    value = usable[name]
    if name == "instruction" and isinstance(value, str):
        value = join_input(value, row)
    return Found(
        shape=_plain_shape(row, name),
        field=name,
        value=value,
        request=aiperf_request(row) if name == "text" else sampling_of(row),
        answer=answer_of(row, besides=name),
        system=system_beside(row, _SYSTEMS),
    )


def join_input(instruction: str, row: Row) -> str:
    """Alpaca's input, Dolly's context or self-instruct's first instance below the instruction."""
    instances = row.get("instances")
    first = instances[0] if isinstance(instances, list) and instances else None
    holders: Sequence[tuple[Row, str]] = (
        (row, "input"),
        (row, "context"),
        (first if isinstance(first, Mapping) else NOTHING, "input"),
    )
    for holder, name in holders:
        extra = holder.get(name)
        if extra is not None and not isinstance(extra, str):
            raise BadRow(f"field {name} is {json_type(extra)}, not a string", "Make it a string")
        if extra and extra.strip():
            return f"{instruction}\n\n{extra}"
    return instruction


def likely_field(row: Row) -> str:
    nested = [
        f"{name}.{inner}"
        for name, value in row.items()
        if isinstance(value, Mapping)
        for inner in value
        if inner in {*_STRUCTURED, *_PLAIN, *_ALIASES}
    ]
    plain = [
        name
        for name, value in row.items()
        if name not in _NEVER and isinstance(value, str | list) and not _is_blank(value)
    ]
    likely = [*nested, *plain]
    return f"Pass --field {name_fields(likely[:1])}" if likely else "Pass --field NAME"


def _plain_shape(row: Row, name: str) -> str:
    if name == "instruction":
        return "Dolly" if "context" in row else "Alpaca" if "input" in row else ""
    if name == "prompt":
        return "vLLM custom" if "output_tokens" in row else ""
    return "AIPerf single_turn" if name == "text" and row.get("type") == "single_turn" else ""


def _only_candidate(row: Row, names: list[str]) -> str:
    """The first name that is not part of another's prompt or repeats it."""
    main = [name for name in names if name in _PLAIN]
    if "instruction" in main and {"output", "response", "instances"} & row.keys():
        main = [name for name in main if name != "text"]  # Alpaca: text repeats all, answered
    main = main or names[:1]
    if len(main) > 1:
        raise Undecidable(
            f"fields {', '.join(main)} could each be the prompt. Pass --field {main[0]}, "
            f"or another of them."
        )
    return main[0]


def _is_blank(value: object) -> bool:
    return not (value.strip() if isinstance(value, str) else value)


def _explain_absence(row: Row, unusable: Sequence[str]) -> BadRow | Unreplayable:
    lengths = [name for name in _LENGTHS if name in row]
    if lengths or {"t", "in", "out"} <= row.keys():
        shown = ", ".join(lengths or ("in", "out"))
        return BadRow(
            f"this trace has lengths ({shown}) but holds no text",
            "Record the prompts themselves: acceptance cannot be measured on lengths",
        )
    if any(row.get(key) in ([], "", {}) for key in _STRUCTURED):
        return Unreplayable("empty prompt")
    unusable = [*unusable, *(key for key in _STRUCTURED if row.get(key) is not None)]
    requests = [key for key in _REQUESTS if isinstance(row.get(key), str)]
    if requests:
        return BadRow(f"field {requests[0]} is text that holds no request", likely_field(row))
    if unusable:
        found = f"field {unusable[0]} is {json_type(row[unusable[0]])}"
        return BadRow(f"{found}, not text or a list", likely_field(row))
    return BadRow(
        f"no field is known as a prompt; this row has {name_fields(row)}", likely_field(row)
    )
