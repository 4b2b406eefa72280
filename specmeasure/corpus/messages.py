"""The value of a prompt field to a text or to messages, in any of the shapes datasets use."""

from collections.abc import Mapping, Sequence

from specmeasure.corpus.fields import PromptField
from specmeasure.corpus.problems import BadRow, Unreplayable, json_type
from specmeasure.records.corpus import Message

_SHAREGPT_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function"), "tool"),
    "system": "system",
}
_TEXT_PARTS = ("text", "input_text", "output_text")
_MESSAGE = 'Write {"role": ..., "content": ...}'


def read_value(field: PromptField) -> str | tuple[Message, ...]:
    """A string as it is, strings as user turns, objects as messages up to the last request."""
    name, value = field.name, field.value
    match value:
        case str() if field.leaf not in {"messages", "conversations"}:
            return value
        case []:
            raise Unreplayable("empty prompt")
        case [str(text)] if field.leaf in {"prompt", "text"}:
            return text
        case [str(), *_]:
            return tuple(_read_turn(item, f"{name}[{i}]") for i, item in enumerate(value))
        case [dict(), *_]:
            return _read_messages(value, field.name)
        case [[dict(), *_] as first, *_]:  # BFCL: one list of messages for each turn
            return _read_messages(first, f"{name}[0]")
        case [int(), *_] | [[int(), *_], *_]:
            found = f"field {name} holds numbers: token-id prompts are not read"
            raise BadRow(found, "Write the prompt as text")
    raise BadRow(f"field {name} is {json_type(value)} that is no prompt", _MESSAGE)


def _read_turn(turn: object, place: str) -> Message:
    if not isinstance(turn, str):
        raise BadRow(f"{place} is {json_type(turn)}, not a string", "Write every turn as a string")
    return Message(role="user", content=turn)


def _read_messages(values: Sequence[object], name: str) -> tuple[Message, ...]:
    """All messages before the recorded answer, which is not read at all."""
    items = [_require_object(value, f"{name}[{i}]") for i, value in enumerate(values)]
    roles = [_read_role(item, f"{name}[{i}]") for i, item in enumerate(items)]
    if "user" not in roles:
        raise Unreplayable("no user message")
    num_kept = max(i for i, role in enumerate(roles) if role != "assistant") + 1
    first_user = roles.index("user")
    # ShareGPT talks were cut into pieces, so that some open with an answer.
    is_sharegpt = "from" in items[0] or name.endswith("conversations")
    return tuple(
        Message(role=roles[i], content=_read_content(items[i], f"{name}[{i}]"))
        for i in range(num_kept)
        if not (is_sharegpt and roles[i] == "assistant" and i < first_user)
    )


def _require_object(value: object, place: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise BadRow(f"{place} is {json_type(value)}, not an object", _MESSAGE)
    return value


def _read_role(item: Mapping[str, object], place: str) -> str:
    if "role" not in item and "from" in item:
        speaker = str(item["from"]).lower()
        if speaker not in _SHAREGPT_ROLES:
            known = ", ".join(_SHAREGPT_ROLES)
            raise BadRow(f"{place}.from is no known speaker", f"Use one of {known}")
        return _SHAREGPT_ROLES[speaker]
    role = item.get("role")
    if not isinstance(role, str) or not role:
        raise BadRow(f"{place} has no role", _MESSAGE)
    return role


def _read_content(item: Mapping[str, object], place: str) -> str:
    if item.get("tool_calls") or item.get("function_call"):
        raise Unreplayable(f"{place} calls a tool; only text is replayed")
    key = "content" if "content" in item else "value"
    content = item.get(key)
    if isinstance(content, list):
        # vLLM and llama.cpp join text parts with a newline for templates that want a string.
        return "\n".join(_read_part(p, f"{place}.{key}[{i}]") for i, p in enumerate(content))
    if not isinstance(content, str):
        raise BadRow(f"{place}.{key} is {json_type(content)}, not text", _MESSAGE)
    return content


def _read_part(part: object, place: str) -> str:
    if isinstance(part, str):
        return part
    item = _require_object(part, place)
    if item.get("type", "text") not in _TEXT_PARTS:
        raise Unreplayable(f"{place} is not a text part")
    text = item.get("text")
    if not isinstance(text, str):
        raise BadRow(f"{place}.text is {json_type(text)}, not a string", _MESSAGE)
    return text
