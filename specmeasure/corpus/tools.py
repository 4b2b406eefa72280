"""Functions offered to a model, in the one form that chat templates read."""

import json
from collections.abc import Mapping

from specmeasure.corpus.paths import unpacked
from specmeasure.corpus.problems import BadRow, json_type

_JSON_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}  # of BFCL


def read_tools(request: Mapping[str, object]) -> str | None:
    """`tools`, or `functions` and BFCL's `function`, as JSON; None where nothing is offered."""
    for name in ("tools", "functions", "function"):
        offered = unpacked(request.get(name))
        if not offered:
            continue
        if name == "function" and isinstance(offered, dict):
            offered = [offered]  # older BFCL files
        if not isinstance(offered, list) or not all(isinstance(one, dict) for one in offered):
            raise BadRow(f"field {name} is {json_type(offered)}, not a list of objects", "Mend it")
        return json.dumps([_as_tool(one) for one in offered], ensure_ascii=False)
    return None


def read_extras(message: Mapping[str, object]) -> str | None:
    """What a template reads of a message beside role and content, as JSON."""
    extras: dict[str, object] = {
        name: message[name] for name in ("name", "tool_call_id") if message.get(name) is not None
    }
    calls = message.get("tool_calls")
    if not calls and message.get("function_call"):
        calls = [{"type": "function", "function": message["function_call"]}]
    if calls:
        if not isinstance(calls, list) or not all(isinstance(one, dict) for one in calls):
            raise BadRow("field tool_calls is no list of objects", "Mend it")
        extras["tool_calls"] = [_with_parsed_arguments(call) for call in calls]
    return json.dumps(extras, ensure_ascii=False) if extras else None


def _as_tool(offered: Mapping[str, object]) -> object:
    if "function" in offered:
        return offered
    return {"type": "function", "function": _with_json_types(offered)}


def _with_json_types(value: object) -> object:
    """BFCL names Python's types where JSON schema has its own."""
    if isinstance(value, Mapping):
        return {
            name: _JSON_TYPES.get(inner, inner)
            if name == "type" and isinstance(inner, str)
            else _with_json_types(inner)
            for name, inner in value.items()
        }
    return [_with_json_types(one) for one in value] if isinstance(value, list) else value


def _with_parsed_arguments(call: Mapping[str, object]) -> object:
    """OpenAI keeps arguments as text; templates want the object, and vLLM parses it for them."""
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(str(function["arguments"]) or "{}")
    except (ValueError, RecursionError):
        return call
    return {**call, "function": {**function, "arguments": arguments}}
