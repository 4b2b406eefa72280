"""Which known format a row has, and where its prompts stand.

A row is recognised by its own keys, so one file may mix formats.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from specmeasure.corpus.found import (
    Found,
    Row,
    aiperf_request,
    answer_of,
    prompts_of_request,
    sampling_of,
    system_beside,
    tools_beside,
)
from specmeasure.corpus.logs import read_langfuse, read_logged, read_sagemaker
from specmeasure.corpus.paths import follow, unpacked
from specmeasure.corpus.plain_fields import find_plain, join_input, likely_field
from specmeasure.corpus.problems import BadRow, Unreplayable, json_type, name_fields

_NOT_THERE = "FULL BENCHMARK DATA SHOULD BE FETCHED"  # what SPEED-Bench ships for licensed turns


def find_prompts(row: Row, path: str | None) -> list[Found]:
    """The prompts at the user's path, or where the format keeps them.

    Raises:
        BadRow, Undecidable, Unreplayable: there is none, or several could be.
    """
    if path is not None:
        return _at_path(row, path)
    for key, recogniser in _BY_KEY:
        if key in row and isinstance(row[key], str | list | Mapping) and row[key]:
            found = recogniser(row)
            if found:
                return found
    return [find_plain(row)]


def _at_path(row: Row, path: str) -> list[Found]:
    value = unpacked(follow(row, path))
    if value is None:
        raise BadRow(
            f"nothing at field {path!r}; this row has {name_fields(row)}", likely_field(row)
        )
    if isinstance(value, Mapping) and ("messages" in value or "prompt" in value):
        return prompts_of_request(value, shape="", prefix=f"{path}.")
    if path == "instruction" and isinstance(value, str):
        value = join_input(value, row)
    request, answer = sampling_of(row), answer_of(row)
    return [Found(shape="", field=path, value=value, request=request, answer=answer)]


def _openai_chat(row: Row) -> list[Found]:
    return [
        Found(
            shape="OpenAI chat",
            field="messages",
            value=unpacked(row["messages"]),
            request=row,
            answer=answer_of(row),
            system=system_beside(row),
        )
    ]


def _batch(row: Row) -> list[Found]:
    body = unpacked(row["body"])
    if isinstance(body, Mapping) and ("messages" in body or "prompt" in body):
        return prompts_of_request(body, shape="OpenAI batch", prefix="body.")
    return []


def _sharegpt(row: Row) -> list[Found]:
    name = "conversations" if row.get("conversations") else "conversation"
    value = unpacked(row[name])
    if name == "conversation" and isinstance(value, str):
        return []  # the id of one, beside the prompt
    request, system = tools_beside(row), system_beside(row)
    return [Found(shape="ShareGPT", field=name, value=value, request=request, system=system)]


def _turns(row: Row) -> list[Found]:
    value = row["turns"]
    first = value[0] if isinstance(value, list) else value
    if isinstance(first, str) and first.startswith(_NOT_THERE):
        raise Unreplayable("a placeholder of SPEED-Bench; prepare the data as its authors say")
    is_aiperf = isinstance(value, list) and any(isinstance(one, Mapping) for one in value)
    answers = row.get("reference")
    shape = "AIPerf multi_turn" if is_aiperf else "FastChat turns"
    request, system = tools_beside(row), system_beside(row)
    return [
        Found(
            shape=shape, field="turns", value=value, request=request, answer=answers, system=system
        )
    ]


def _aiperf_payloads(row: Row) -> list[Found]:
    payloads = row["payloads"]
    if not isinstance(payloads, list) or not all(isinstance(one, Mapping) for one in payloads):
        raise BadRow("field payloads is no list of objects", "Write the requests there")
    several = len(payloads) > 1
    return [
        replace(one, suffix=(f"#{place}" if several else "") + one.suffix)
        for place, payload in enumerate(payloads, start=1)
        for one in prompts_of_request(
            payload, shape="AIPerf inputs", prefix=f"payloads[{place - 1}]."
        )
    ]


def _aiperf_texts(row: Row) -> list[Found]:
    request = aiperf_request(row)
    texts = row["texts"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRow(f"field texts is {json_type(texts)}, not a list of strings", "Write strings")
    text = "\n".join(texts)
    return [Found(shape="AIPerf single_turn", field="texts", value=text, request=request)]


def _bfcl(row: Row) -> list[Found]:
    if isinstance(row.get("question"), list):
        return [Found(shape="BFCL", field="question", value=row["question"], request=row)]
    return []


def _prompts(row: Row) -> list[Found]:
    """Several strings are turns to MT-bench and a batch to OpenAI; numbers are token ids."""
    value = row["prompt"]
    if not isinstance(value, list) or (len(value) == 1 and isinstance(value[0], str)):
        return []
    if isinstance(value[0], Mapping):
        return [
            Found(
                shape="",
                field="prompt",
                value=value,
                request=sampling_of(row) or tools_beside(row),
                answer=answer_of(row),
                system=system_beside(row),
            )
        ]
    if not all(isinstance(item, str) for item in value) or sampling_of(row):
        return prompts_of_request(row, shape="OpenAI completions", prefix="")
    if "prompt_id" in row:
        answers = row.get("reference")
        return [Found(shape="MT-bench", field="prompt", value=value, answer=answers)]
    raise BadRow(
        "field prompt is a list of several strings",
        "Pass --field prompt to replay them as the turns of one chat, or write one row for each",
    )


_BY_KEY: tuple[tuple[str, Callable[[Row], list[Found]]], ...] = (
    ("messages", _openai_chat),
    ("body", _batch),
    ("conversations", _sharegpt),
    ("conversation", _sharegpt),
    ("turns", _turns),
    ("payloads", _aiperf_payloads),
    ("captureData", read_sagemaker),
    ("proxy_server_request", read_logged),
    ("request_body", read_logged),
    ("request", read_logged),
    ("texts", _aiperf_texts),
    ("function", _bfcl),
    ("prompt", _prompts),
    ("input", read_langfuse),
)
