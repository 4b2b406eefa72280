"""Which field of a row is the prompt: by the user's path, or by the names that datasets use.

The order of recognition: messages, body.messages, body.prompt (OpenAI batch), conversations,
turns, then the one of instruction, question, prompt, text that is there.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specmeasure.corpus.problems import BadRow, Undecidable, json_type, name_fields

_STRUCTURED = ("messages", "body.messages", "body.prompt", "conversations", "turns")
_PLAIN = ("instruction", "question", "prompt", "text")
_CHAT = {"messages", "conversations", "turns", "instruction", "question"}
_NEVER = {
    *("id", "question_id", "task_id", "custom_id", "prompt_id", "category", "source"),
    *("answer", "output", "response", "reference", "completion", "solution"),
}
_LENGTHS = ("input_length", "output_length", "hash_ids")  # Mooncake and Weka traces
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_PATH = re.compile(r"[^.\[\]]+(?:\[\d+\]|\.[^.\[\]]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptField:
    """The chosen field and what stands there, not yet read."""

    name: str  # dotted where it is nested
    value: object

    @property
    def leaf(self) -> str:
        """The last name of the path.

        >>> PromptField(name="data[0].turns[1]", value="").leaf
        'turns'
        """
        return re.sub(r"\[\d+\]", "", self.name).rpartition(".")[2]

    @property
    def is_chat(self) -> bool:
        """Whether a plain string under this name is meant for a chat model."""
        return self.leaf in _CHAT


def find_field(row: Mapping[str, object], path: str | None) -> PromptField:
    """The field at the path, or the one known name; BadRow or Undecidable where there is none."""
    found = _recognise(row) if path is None else _follow(row, path)
    if found.name == "instruction" and isinstance(found.value, str):
        return PromptField(name=found.name, value=_join_input(found.value, row))
    return found


def _recognise(row: Mapping[str, object]) -> PromptField:
    known = [PromptField(name=name, value=_look_up(row, name)) for name in _STRUCTURED + _PLAIN]
    usable = [field for field in known if isinstance(field.value, str | list)]
    if not usable:
        raise _explain_absence(row, [field for field in known if field.value is not None])
    filled = [field for field in usable if not _is_blank(field.value)] or usable[:1]
    first = filled[0]
    if first.name in _PLAIN:
        _require_one_candidate(row, [field.name for field in filled])
    if first.leaf == "prompt" and isinstance(first.value, list) and len(first.value) > 1:
        _refuse_many_strings(first.name, first.value)
    return first


def _look_up(row: Mapping[str, object], name: str) -> object:
    """A known name; only `body` is ever looked into, and only without a path from the user."""
    outer, _, inner = name.rpartition(".")
    holder = row.get(outer) if outer else row
    return holder.get(inner) if isinstance(holder, Mapping) else None


def _is_blank(value: object) -> bool:
    return not (value.strip() if isinstance(value, str) else value)


def _require_one_candidate(row: Mapping[str, object], names: list[str]) -> None:
    if "instruction" in names and "output" in row:
        names = [name for name in names if name != "text"]  # Alpaca: text repeats all, answered
    if len(names) > 1:
        raise Undecidable(
            f"fields {', '.join(names)} could each be the prompt. Pass --field {names[0]}, "
            f"or another of them."
        )


def _refuse_many_strings(name: str, strings: Sequence[object]) -> None:
    """Several strings are a batch to OpenAI and turns to MT-bench: the user knows."""
    if all(isinstance(item, str) for item in strings):
        raise BadRow(
            f"field {name} is a list of several strings",
            f"Pass --field {name} to replay them as the turns of one chat",
        )


def _explain_absence(row: Mapping[str, object], unusable: Sequence[PromptField]) -> BadRow:
    if unusable:
        found = f"field {unusable[0].name} is {json_type(unusable[0].value)}"
        return BadRow(f"{found}, not text or a list", _remedy(row))
    lengths = [name for name in _LENGTHS if name in row]
    if lengths:
        return BadRow(
            f"this trace has lengths ({', '.join(lengths)}) but holds no text",
            "Record the prompts themselves: acceptance cannot be measured on lengths",
        )
    return BadRow(f"no field is known as a prompt; this row has {name_fields(row)}", _remedy(row))


def _follow(row: Mapping[str, object], path: str) -> PromptField:
    value = row.get(path)  # a name may hold dots itself
    if path not in row:
        value = row
        for name, index in _split(path):
            value = _step(value, name, index)
    if value is None:
        raise BadRow(f"nothing at field {path!r}; this row has {name_fields(row)}", _remedy(row))
    return PromptField(name=path, value=value)


def _split(path: str) -> list[tuple[str, str]]:
    if not _PATH.fullmatch(path):
        raise Undecidable(f"no path {path!r}. Pass --field NAME, or a path as in a.b or a[0].b.")
    return _STEP.findall(path)


def _step(value: object, name: str, index: str) -> object:
    if name:
        return value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, list) and int(index) < len(value):
        return value[int(index)]
    return None


def _remedy(row: Mapping[str, object]) -> str:
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


def _join_input(instruction: str, row: Mapping[str, object]) -> str:
    """Alpaca's input or Dolly's context below the instruction, where there is one."""
    for name in ("input", "context"):
        extra = row.get(name)
        if extra is not None and not isinstance(extra, str):
            raise BadRow(f"field {name} is {json_type(extra)}, not a string", "Make it a string")
        if extra and extra.strip():
            return f"{instruction}\n\n{extra}"
    return instruction
