"""Which known format a row has, and where prompt, request and answer stand in it.

A row is recognised by its own keys, so one file may mix formats.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from specmeasure.corpus.paths import follow, leaf, unpacked
from specmeasure.corpus.problems import BadRow, Undecidable, Unreplayable, json_type, name_fields

Row = Mapping[str, object]

_PLAIN = ("instruction", "question", "prompt", "text")
_ALIASES = ("input", "context", "content")  # GuideLLM's further names, where none of those is
_CHAT = {
    *("messages", "conversations", "conversation", "turns", "turn", "instruction", "question"),
    *("input", "context", "content"),
}
_ANSWERS = (
    *("response", "answer", "output", "completion", "canonical_solution", "code", "query"),
    *("reference", "target", "solution"),
)
_ANSWER_NAMES = frozenset(_ANSWERS)
_LOGGED = (  # path to the request, path to the response, name
    ("proxy_server_request.body", "response", "LiteLLM log"),
    ("request_body", "response_body", "Helicone log"),
    ("request.body", "response.body", "Helicone log"),
    ("request", "response", "request log"),
)
_LENGTHS = ("input_length", "output_length", "hash_ids", "Request tokens", "Response tokens")
_REQUEST = {"model", "max_tokens", "max_new_tokens", "temperature", "url"}
_NEVER = {
    *("id", "question_id", "task_id", "custom_id", "prompt_id", "category", "source"),
    *("answer", "output", "response", "reference", "completion", "solution"),
}
_NOTHING: Row = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One prompt of a row, not yet read."""

    shape: str  # "OpenAI chat"; "" where a field alone was recognised
    field: str  # dotted where it is nested
    value: object
    request: Row = dataclasses.field(
        default_factory=lambda: _NOTHING
    )  # where sampling parameters and tools stand
    answer: object = None  # the recorded response
    system: object = None  # a system message that stands apart
    suffix: str = ""  # of the id, where a row holds several prompts

    @property
    def is_chat(self) -> bool:
        """Whether a plain string under this name is meant for a chat model."""
        return leaf(self.field) in _CHAT


def find_prompts(row: Row, path: str | None) -> list[Found]:
    """The prompts at the user's path, or where the format keeps them.

    Raises:
        BadRow, Undecidable, Unreplayable: there is none, or several could be.
    """
    if path is not None:
        return [_at_path(row, path)]
    recogniser = _recogniser(row)
    if recogniser is not None:
        return recogniser(row)
    return [_only_text_column(row) if "1" in row else _plain(row)]


def _recogniser(row: Row) -> Callable[[Row], list[Found]] | None:
    """By keys alone; what stands under them is read later."""
    for key, recogniser in _BY_KEY:
        if key in row and isinstance(row[key], str | list | Mapping) and row[key]:
            return recogniser
    return None


def _at_path(row: Row, path: str) -> Found:
    value = unpacked(follow(row, path))
    if value is None:
        raise BadRow(f"nothing at field {path!r}; this row has {name_fields(row)}", _remedy(row))
    if isinstance(value, Mapping) and ("messages" in value or "prompt" in value):
        return _of_request(value, shape="", prefix=f"{path}.")[0]
    if path == "instruction" and isinstance(value, str):
        value = _join_input(value, row)
    return Found(shape="", field=path, value=value, request=_sampling_of(row), answer=_answer(row))


def _openai_chat(row: Row) -> list[Found]:
    return [
        Found(
            shape="OpenAI chat",
            field="messages",
            value=unpacked(row["messages"]),
            request=row,
            answer=_answer(row),
        )
    ]


def _batch(row: Row) -> list[Found]:
    body = unpacked(row["body"])
    if isinstance(body, Mapping) and ("messages" in body or "prompt" in body):
        return _of_request(body, shape="OpenAI batch", prefix="body.")
    return [_plain(row)]


def _of_request(body: Row, *, shape: str, prefix: str, answer: object = None) -> list[Found]:
    """A request body as OpenAI's servers take it; a list of prompts is a batch of its own."""
    if "messages" in body:
        return [
            Found(
                shape=shape,
                field=f"{prefix}messages",
                value=unpacked(body["messages"]),
                request=body,
                answer=answer,
            )
        ]
    prompts = body.get("prompt")
    if not isinstance(prompts, list) or not prompts or isinstance(prompts[0], int):
        return [
            Found(shape=shape, field=f"{prefix}prompt", value=prompts, request=body, answer=answer)
        ]
    return [
        Found(
            shape=shape,
            field=f"{prefix}prompt",
            value=prompt,
            request=body,
            suffix=f"#{place}" if len(prompts) > 1 else "",
        )
        for place, prompt in enumerate(prompts, start=1)
    ]


def _sharegpt(row: Row) -> list[Found]:
    name = "conversations" if "conversations" in row else "conversation"
    return [Found(shape="ShareGPT", field=name, value=unpacked(row[name]))]


def _turns(row: Row) -> list[Found]:
    value = row["turns"]
    is_aiperf = isinstance(value, list) and any(isinstance(one, Mapping) for one in value)
    answers = row.get("reference")
    shape = "AIPerf multi_turn" if is_aiperf else "FastChat turns"
    return [Found(shape=shape, field="turns", value=value, answer=answers)]


def _aiperf_payloads(row: Row) -> list[Found]:
    payloads = row["payloads"]
    if not isinstance(payloads, list) or not all(isinstance(one, Mapping) for one in payloads):
        raise BadRow("field payloads is no list of objects", "Write the requests there")
    return [
        replaced
        for place, payload in enumerate(payloads, start=1)
        for one in _of_request(payload, shape="AIPerf inputs", prefix=f"payloads[{place - 1}].")
        for replaced in [_with_suffix(one, f"#{place}" if len(payloads) > 1 else "")]
    ]


def _with_suffix(found: Found, suffix: str) -> Found:
    return Found(
        shape=found.shape,
        field=found.field,
        value=found.value,
        request=found.request,
        suffix=suffix + found.suffix,
    )


def _aiperf_texts(row: Row) -> list[Found]:
    if row.get("image") or row.get("images"):
        raise Unreplayable("it holds an image; only text is replayed")
    texts = row["texts"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRow(f"field texts is {json_type(texts)}, not a list of strings", "Write strings")
    return [Found(shape="AIPerf single_turn", field="texts", value="\n".join(texts), request=row)]


def _sagemaker(row: Row) -> list[Found]:
    body = unpacked(
        follow(row, "captureData.endpointInput.data"),
        follow(row, "captureData.endpointInput.encoding"),
    )
    answer = unpacked(
        follow(row, "captureData.endpointOutput.data"),
        follow(row, "captureData.endpointOutput.encoding"),
    )
    place = "captureData.endpointInput.data"
    if isinstance(body, Mapping):
        if "inputs" in body:
            parameters = body.get("parameters")
            request = parameters if isinstance(parameters, Mapping) else _NOTHING
            return [
                Found(
                    shape="SageMaker capture",
                    field=f"{place}.inputs",
                    value=body["inputs"],
                    request=request,
                    answer=answer,
                )
            ]
        return _of_request(body, shape="SageMaker capture", prefix=f"{place}.", answer=answer)
    return [Found(shape="SageMaker capture", field=place, value=body, answer=answer)]


def _logged(row: Row) -> list[Found]:
    for request, response, shape in _LOGGED:
        body = unpacked(follow(row, request))
        if isinstance(body, Mapping) and ("messages" in body or "prompt" in body):
            answer = unpacked(follow(row, response))
            return _of_request(body, shape=shape, prefix=f"{request}.", answer=answer)
    return [_plain(row)]


def _langfuse(row: Row) -> list[Found]:
    """A trace's `input` that is messages, a request, or JSON text of either."""
    value = unpacked(row["input"])
    answer = unpacked(row.get("output"))
    if "instruction" in row or "question" in row or "prompt" in row:
        return [_plain(row)]
    if isinstance(value, Mapping) and ("messages" in value or "prompt" in value):
        return _of_request(value, shape="Langfuse log", prefix="input.", answer=answer)
    if isinstance(value, list):
        parameters = row.get("modelParameters")
        request = parameters if isinstance(parameters, Mapping) else _NOTHING
        return [
            Found(shape="Langfuse log", field="input", value=value, request=request, answer=answer)
        ]
    return [_plain(row)]


def _bfcl(row: Row) -> list[Found]:
    if isinstance(row.get("question"), list):
        return [Found(shape="BFCL", field="question", value=row["question"], request=row)]
    return [_plain(row)]


def _plain(row: Row) -> Found:
    """The one field that is known as a prompt."""
    known = {name: row[name] for name in (*_PLAIN, *_ALIASES) if name in row}
    usable = {n: v for n, v in known.items() if isinstance(v, str | list)}
    if not usable:
        raise _explain_absence(row, [name for name, value in known.items() if value is not None])
    filled = [name for name, value in usable.items() if not _is_blank(value)] or list(usable)[:1]
    name = _only_candidate(row, filled)
    value = usable[name]
    if name == "instruction" and isinstance(value, str):
        value = _join_input(value, row)
    return Found(
        shape=_plain_shape(row, name),
        field=name,
        value=value,
        request=_sampling_of(row),
        answer=_answer(row, besides=name),
        system=next((row[n] for n in ("system_prompt", "system", "prefix") if row.get(n)), None),
    )


def _only_text_column(row: Row) -> Found:
    """A table without a header calls its columns 1, 2, …; numbers and blanks are no prompts."""
    texts = {name: value for name, value in row.items() if _is_wordy(value)}
    if len(texts) != 1:
        raise Undecidable(
            f"this table has no header, and {len(texts)} of its columns hold text. Pass --column "
            f"{next(iter(texts), '1')}, or another number."
        )
    ((name, value),) = texts.items()
    return Found(shape="", field=name, value=value)


def _is_wordy(value: object) -> bool:
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        float(value.replace(",", ""))
    except ValueError:
        return True
    return False


def _prompts(row: Row) -> list[Found]:
    """Several strings are turns to MT-bench and a batch to OpenAI; numbers are token ids."""
    value = row["prompt"]
    if not isinstance(value, list) or (len(value) == 1 and isinstance(value[0], str)):
        return [_plain(row)]
    if not all(isinstance(item, str) for item in value) or not _REQUEST.isdisjoint(row):
        return _of_request(row, shape="OpenAI completions", prefix="")
    if "prompt_id" in row:
        answers = row.get("reference")
        return [Found(shape="MT-bench", field="prompt", value=value, answer=answers)]
    raise BadRow(
        "field prompt is a list of several strings",
        "Pass --field prompt to replay them as the turns of one chat, or write one row for each",
    )


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


def _sampling_of(row: Row) -> Row:
    """A row is a request where it names what only requests do."""
    keys = {*_REQUEST, "output_tokens", "output_length", "stop", "top_p"}
    return _NOTHING if keys.isdisjoint(row) else row


def _answer(row: Row, *, besides: str = "") -> object:
    if not _ANSWER_NAMES.isdisjoint(row):
        for name in _ANSWERS:
            if name != besides and row.get(name) is not None:
                return unpacked(row[name])
    instances = row.get("instances")
    first = instances[0] if isinstance(instances, list) and instances else None
    return first.get("output") if isinstance(first, Mapping) else None


def _join_input(instruction: str, row: Row) -> str:
    """Alpaca's input, Dolly's context or self-instruct's first instance below the instruction."""
    instances = row.get("instances")
    first = instances[0] if isinstance(instances, list) and instances else None
    holders: Sequence[tuple[Row, str]] = (
        (row, "input"),
        (row, "context"),
        (first if isinstance(first, Mapping) else _NOTHING, "input"),
    )
    for holder, name in holders:
        extra = holder.get(name)
        if extra is not None and not isinstance(extra, str):
            raise BadRow(f"field {name} is {json_type(extra)}, not a string", "Make it a string")
        if extra and extra.strip():
            return f"{instruction}\n\n{extra}"
    return instruction


def _explain_absence(row: Row, unusable: Sequence[str]) -> BadRow | Unreplayable:
    lengths = [name for name in _LENGTHS if name in row]
    if lengths or {"t", "in", "out"} <= row.keys():
        shown = ", ".join(lengths or ("in", "out"))
        return BadRow(
            f"this trace has lengths ({shown}) but holds no text",
            "Record the prompts themselves: acceptance cannot be measured on lengths",
        )
    if any(row.get(key) in ([], "", {}) for key, _ in _BY_KEY):
        return Unreplayable("empty prompt")
    unusable = [*unusable, *(key for key, _ in _BY_KEY if row.get(key) is not None)]
    if unusable:
        found = f"field {unusable[0]} is {json_type(row[unusable[0]])}"
        return BadRow(f"{found}, not text or a list", _remedy(row))
    return BadRow(f"no field is known as a prompt; this row has {name_fields(row)}", _remedy(row))


def _remedy(row: Row) -> str:
    nested = [
        f"{name}.{inner}"
        for name, value in row.items()
        if isinstance(value, Mapping)
        for inner in value
        if inner in {*_CHAT, *_PLAIN}
    ]
    plain = [
        name
        for name, value in row.items()
        if name not in _NEVER and isinstance(value, str | list) and not _is_blank(value)
    ]
    likely = [*nested, *plain]
    return f"Pass --field {name_fields(likely[:1])}" if likely else "Pass --field NAME"


_BY_KEY: tuple[tuple[str, Callable[[Row], list[Found]]], ...] = (
    ("messages", _openai_chat),
    ("body", _batch),
    ("conversations", _sharegpt),
    ("conversation", _sharegpt),
    ("turns", _turns),
    ("payloads", _aiperf_payloads),
    ("captureData", _sagemaker),
    ("proxy_server_request", _logged),
    ("request_body", _logged),
    ("request", _logged),
    ("texts", _aiperf_texts),
    ("function", _bfcl),
    ("prompt", _prompts),
    ("input", _langfuse),
)
