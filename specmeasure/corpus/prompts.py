"""A row to a Prompt: its id and category, and whether it is sent as a chat or as a text."""

from collections.abc import Mapping, Sequence

from specmeasure.corpus.fields import PromptField, find_field
from specmeasure.corpus.messages import read_value
from specmeasure.corpus.options import CorpusOptions
from specmeasure.corpus.problems import BadRow, Undecidable, Unreplayable
from specmeasure.corpus.rows import Row
from specmeasure.records.corpus import Message, Prompt

_IDS = ("id", "question_id", "task_id", "custom_id", "prompt_id")


def choose_field(row: Row, path: str | None) -> PromptField:
    """Where the prompt stands in this row; a line of plain text is a field named text."""
    if isinstance(row.value, BadRow):
        raise row.value
    if isinstance(row.value, str):
        return PromptField(name="text", value=row.value)
    return find_field(row.value, path)


def read_prompt(row: Row, field: PromptField, *, stem: str, options: CorpusOptions) -> Prompt:
    """The prompt of a row, or BadRow, Unreplayable, Undecidable; its id may still collide."""
    sent = _as_sent(read_value(field), field, options)
    fields = row.value if isinstance(row.value, dict) else {}
    prompt = Prompt(
        prompt_id=_name(fields, _IDS) or f"{stem}-{row.number:04d}",
        category=_name(fields, ("category",)) or stem,
        source=row.source,
        messages=() if isinstance(sent, str) else sent,
        text=sent if isinstance(sent, str) else None,
    )
    _require_unicode(prompt)
    return prompt


def _as_sent(
    content: str | tuple[Message, ...], field: PromptField, options: CorpusOptions
) -> str | tuple[Message, ...]:
    """The same words as a chat or as a text: as the field suggests, or as the user says."""
    asked = [content] if isinstance(content, str) else _user_texts(content)
    if not any(text.strip() for text in asked):
        raise Unreplayable("empty prompt")
    is_chat = options.chat == "chat" or (options.chat == "auto" and field.is_chat)
    if isinstance(content, str):
        return (Message(role="user", content=content),) if is_chat else content
    if options.chat != "completion":
        return content
    if len(content) > 1:
        raise Undecidable(
            f"a chat of {len(content)} messages cannot be sent as a completion. "
            f"Pass --chat auto, or leave multi-turn and system-prompt chats out."
        )
    return content[0].content


def _user_texts(messages: Sequence[Message]) -> list[str]:
    return [message.content for message in messages if message.role == "user"]


def _name(fields: Mapping[str, object], names: Sequence[str]) -> str | None:
    """The first of the fields that holds a usable name: a number or a filled string."""
    for value in map(fields.get, names):
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value)
    return None


def _require_unicode(prompt: Prompt) -> None:
    """JSON can escape half a surrogate pair, which no tokenizer and no report can encode."""
    texts = [prompt.text or "", *(m.role + m.content for m in prompt.messages)]
    try:
        "".join([prompt.prompt_id, prompt.category, *texts]).encode()
    except UnicodeEncodeError as error:
        raise BadRow(
            "a string holds half a surrogate pair, which is not Unicode text",
            "Write the whole pair or the character itself",
        ) from error
