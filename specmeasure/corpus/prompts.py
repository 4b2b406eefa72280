"""A row to its prompts: ids, categories, and whether each is sent as a chat or as a text."""

from collections.abc import Mapping
from dataclasses import dataclass

from specmeasure.corpus.answers import read_answers
from specmeasure.corpus.asked import read_asked
from specmeasure.corpus.found import Found
from specmeasure.corpus.messages import Talk, read_value
from specmeasure.corpus.paths import follow
from specmeasure.corpus.problems import BadRow, Undecidable, Unreplayable
from specmeasure.corpus.rows import Row
from specmeasure.corpus.shapes import find_prompts
from specmeasure.corpus.tools import read_tools
from specmeasure.records.corpus import CorpusOptions, Message, Prompt

_IDS = ("id", "question_id", "task_id", "custom_id", "prompt_id", "session_id")
_CATEGORIES = ("category", "query_category")
_NO_LABEL = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """A prompt's content as it is sent: one of these."""

    messages: tuple[Message, ...] = ()
    text: str | None = None
    token_ids: tuple[int, ...] | None = None


def find_in_row(row: Row, options: CorpusOptions) -> list[Found]:
    """Where the prompts of this row stand; a line of plain text is a field named text."""
    if isinstance(row.value, BadRow):
        raise row.value
    if isinstance(row.value, str):
        return [Found(shape="", field="text", value=row.value)]
    return find_prompts(row.value, options.field)


def read_prompt(row: Row, found: Found, *, stem: str, options: CorpusOptions) -> tuple[Prompt, str]:
    """One prompt, whose id may still collide, and its content hash.

    Raises:
        BadRow, Unreplayable, Undecidable: the row is no prompt.
    """
    fields = row.value if isinstance(row.value, dict) else {}
    content = read_value(found)
    sent = _as_sent(content, found, options)
    prompt = Prompt(
        prompt_id=(_name(fields, _IDS) or f"{stem}-{row.number:04d}") + found.suffix,
        category=_category(fields, options) or stem,
        source=row.source,
        messages=sent.messages,
        text=sent.text,
        token_ids=sent.token_ids,
        tools=read_tools(found.request),
        references=_references(fields, content, found, options),
        asked=read_asked(found.request),
        labels=_labels(fields, options) if options.slice_by else (),
    )
    return prompt, _content_hash(prompt)


def _as_sent(
    content: str | tuple[int, ...] | Talk, found: Found, options: CorpusOptions
) -> "_Sent":
    """The same words as a chat or as a text: as the field suggests, or as the user says."""
    if isinstance(content, tuple):
        return _Sent(token_ids=content)
    if isinstance(content, str):
        wants_chat = found.is_chat or found.system is not None
        if options.chat == "completion" or (options.chat == "auto" and not wants_chat):
            return _Sent(text=_filled(content))
        content = Talk((Message(role="user", content=content),))
    messages = content.messages
    if found.system is not None and messages[0].role not in {"system", "developer"}:
        messages = (Message(role="system", content=found.system), *messages)
    _filled("".join(message.content for message in messages if message.role == "user"))
    if options.chat != "completion":
        return _Sent(messages=messages)
    if len(messages) > 1:
        raise Undecidable(
            f"a chat of {len(messages)} messages cannot be sent as a completion. "
            f"Pass --chat auto, or leave multi-turn and system-prompt chats out."
        )
    return _Sent(text=messages[0].content)


def _filled(text: str) -> str:
    if not text or text.isspace():
        raise Unreplayable("empty prompt")
    return text


def _references(
    fields: Mapping[str, object],
    content: str | tuple[int, ...] | Talk,
    found: Found,
    options: CorpusOptions,
) -> tuple[str, ...]:
    if options.response_field is not None:
        return read_answers(follow(fields, options.response_field))
    if isinstance(content, Talk) and content.answer is not None:
        return (content.answer,)
    return () if found.answer is None else read_answers(found.answer)


def _category(fields: Mapping[str, object], options: CorpusOptions) -> str | None:
    if options.category_field is not None:
        return _spoken(follow(fields, options.category_field))
    return _name(fields, _CATEGORIES)


def _labels(fields: Mapping[str, object], options: CorpusOptions) -> tuple[tuple[str, str], ...]:
    return tuple((path, _label(fields, path)) for path in options.slice_by)


def _label(fields: Mapping[str, object], path: str) -> str:
    value = follow(fields, path)
    if isinstance(value, bool):
        return str(value).lower()
    return _spoken(value) or _NO_LABEL


def _name(fields: Mapping[str, object], names: tuple[str, ...]) -> str | None:
    """The first of the fields that holds a usable name."""
    for name in names:
        said = _spoken(fields.get(name))
        if said is not None:
            return said
    return None


def _spoken(value: object) -> str | None:
    """A number or a filled string as a name."""
    if isinstance(value, str):
        return value if value and not value.isspace() else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return None


def _content_hash(prompt: Prompt) -> str:
    """JSON can escape half a surrogate pair, which no tokenizer and no digest can encode."""
    said = [prompt.prompt_id, prompt.category, *(label for _, label in prompt.labels)]
    try:
        "".join([*said, *prompt.asked.stop, *prompt.references]).encode()
        content = prompt.content_hash
    except UnicodeEncodeError as error:
        raise BadRow(
            "a string holds half a surrogate pair, which is not Unicode text",
            "Write the whole pair or the character itself",
        ) from error
    return content
