"""What stands at a prompt's place to a text, ids or messages, in any shape that datasets use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specmeasure.corpus.found import Found
from specmeasure.corpus.paths import leaf
from specmeasure.corpus.problems import BadRow, Unreplayable, json_type
from specmeasure.corpus.tools import read_extras
from specmeasure.records.corpus import Message

_SHAREGPT_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function"), "tool"),
    "system": "system",
}
_TEXT_PARTS = ("text", "input_text", "output_text")
_MESSAGE = 'Write {"role": ..., "content": ...}'


@dataclass(frozen=True, slots=True)
class Talk:
    """Messages up to the last request, and the recorded answer to it."""

    messages: tuple[Message, ...]
    answer: str | None = None


def read_value(found: Found) -> str | tuple[int, ...] | Talk:
    """A string as it is, numbers as token ids, anything else as a talk.

    Raises:
        BadRow, Unreplayable: it is none of these.
    """
    name, value = found.field, found.value
    match value:
        case str() if leaf(name) not in {"messages", "conversations"}:
            return value
        case []:
            raise Unreplayable("empty prompt")
        case [str(text)] if leaf(name) in {"prompt", "text"}:
            return text
        case [str(), *_]:
            return Talk(tuple(_read_turn(turn, f"{name}[{i}]") for i, turn in enumerate(value)))
        case [dict(), *_]:
            return _read_messages(value, name)
        case [[dict(), *_], *_]:  # BFCL: one list of messages for each turn
            return Talk(
                tuple(
                    message
                    for i, turn in enumerate(value)
                    for message in _read_messages(
                        _require_list(turn, name), f"{name}[{i}]"
                    ).messages
                )
            )
        case [int() | float(), *_] | [[int() | float(), *_]]:
            return _read_ids(value[0] if isinstance(value[0], list) else value, name)
    raise BadRow(f"field {name} is {json_type(value)} that is no prompt", _MESSAGE)


def _read_ids(values: Sequence[object], name: str) -> tuple[int, ...]:
    if not all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in values):
        raise BadRow(
            f"field {name} holds numbers that are no token ids",
            "Write whole numbers from 0, or the prompt as text",
        )
    return tuple(values)  # type: ignore[arg-type]


def _require_list(value: object, name: str) -> Sequence[object]:
    if not isinstance(value, list):
        raise BadRow(f"field {name} mixes lists and {json_type(value)}", _MESSAGE)
    return value


def _read_turn(turn: object, place: str) -> Message:
    if not isinstance(turn, str):
        raise BadRow(f"{place} is {json_type(turn)}, not a string", "Write every turn as a string")
    return Message(role="user", content=turn)


def _read_messages(values: Sequence[object], name: str) -> Talk:
    items: list[Mapping[str, object]] = []
    roles: list[str] = []
    for i, value in enumerate(values):
        item = value if isinstance(value, dict) else _require_object(value, f"{name}[{i}]")
        items.append(item)
        role = item.get("role")
        known = isinstance(role, str) and role
        roles.append(role if known else _read_role(item, f"{name}[{i}]"))  # type: ignore[arg-type]
    if "user" not in roles:
        raise Unreplayable("no user message")
    num_kept = len(roles)
    while roles[num_kept - 1] == "assistant":
        num_kept -= 1
    first_user = roles.index("user")
    # ShareGPT talks were cut into pieces, so that some open with an answer.
    is_sharegpt = "from" in items[0] or name.endswith("conversations")
    return Talk(
        tuple(
            _read_message(items[i], roles[i], name, i)
            for i in range(num_kept)
            if not (is_sharegpt and roles[i] == "assistant" and i < first_user)
        ),
        _recorded_answer(items[num_kept:]),
    )


def _recorded_answer(items: Sequence[Mapping[str, object]]) -> str | None:
    """The last messages where one text is the whole answer; what is no text is not replayed."""
    contents = [item.get("content", item.get("value")) for item in items]
    if len(contents) != 1 or not isinstance(contents[0], str):
        return None
    return contents[0] or None


def _require_object(value: object, place: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise BadRow(f"{place} is {json_type(value)}, not an object", _MESSAGE)
    return value


def _read_role(item: Mapping[str, object], place: str) -> str:
    """The role where `role` does not say it."""
    role = item.get("role")
    if role is None and "from" in item:
        speaker = str(item["from"]).lower()
        if speaker not in _SHAREGPT_ROLES:
            known = ", ".join(_SHAREGPT_ROLES)
            raise BadRow(f"{place}.from is no known speaker", f"Use one of {known}")
        return _SHAREGPT_ROLES[speaker]
    if role is None and ("text" in item or "texts" in item):
        return "user"  # AIPerf leaves it out
    raise BadRow(f"{place} has no role", _MESSAGE)


def _read_message(item: Mapping[str, object], role: str, name: str, index: int) -> Message:
    content = item.get("content")
    if isinstance(content, str) and len(item) == 2:
        return Message(role=role, content=content)
    extras = read_extras(item)
    if content is None and extras is not None and "tool_calls" in extras:
        return Message(role=role, content="", extras=extras)
    return Message(role=role, content=_read_content(item, f"{name}[{index}]"), extras=extras)


def _read_content(item: Mapping[str, object], place: str) -> str:
    key = next((name for name in ("content", "text", "texts") if name in item), "value")
    content = item.get(key)
    if item.get("image") or item.get("images"):
        raise Unreplayable("a message holds an image; only text is replayed")
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
        raise Unreplayable("a message holds a part that is not text")
    text = item.get("text")
    if not isinstance(text, str):
        raise BadRow(f"{place}.text is {json_type(text)}, not a string", _MESSAGE)
    return text
