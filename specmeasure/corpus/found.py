"""What a row holds before it is read: where prompt, request and recorded answer stand."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from specmeasure.corpus.paths import leaf, unpacked
from specmeasure.corpus.problems import Unreplayable

Row = Mapping[str, object]

NOTHING: Row = MappingProxyType({})
_CHAT = {
    *("messages", "conversations", "conversation", "turns", "turn", "instruction", "question"),
    *("input", "context", "content"),
}
_ANSWERS = (
    *("response", "answer", "output", "completion", "canonical_solution", "code", "query"),
    *("reference", "target", "solution"),
)
_ANSWER_NAMES = frozenset(_ANSWERS)
_SYSTEMS = ("system_prompt", "system")
_TOOLS = ("tools", "functions")
_MEDIA = {
    **dict.fromkeys(("image", "images"), "an image"),
    **dict.fromkeys(("audio", "audios"), "audio"),
    **dict.fromkeys(("video", "videos"), "video"),
}
_REQUEST = {
    *("model", "max_tokens", "max_new_tokens", "temperature", "url"),
    *("output_tokens", "output_length", "stop", "top_p"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One prompt of a row, not yet read."""

    shape: str  # "OpenAI chat"; "" where a field alone was recognised
    field: str  # dotted where it is nested
    value: object
    request: Row = dataclasses.field(
        default_factory=lambda: NOTHING
    )  # where sampling parameters and tools stand
    answer: object = None  # the recorded response
    system: str | None = None  # a system message that stands apart
    suffix: str = ""  # of the id, where a row holds several prompts

    @property
    def is_chat(self) -> bool:
        """Whether a plain string under this name is meant for a chat model."""
        return leaf(self.field) in _CHAT


def prompts_of_request(body: Row, *, shape: str, prefix: str, answer: object = None) -> list[Found]:
    """A request body as OpenAI's servers take it; a list of prompts is a batch of its own."""
    if "messages" in body:
        return [
            Found(
                shape=shape,
                field=f"{prefix}messages",
                value=unpacked(body["messages"]),
                request=body,
                answer=answer,
                system=system_beside(body),
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


def sampling_of(row: Row) -> Row:
    """A row is a request where it names what only requests do."""
    return NOTHING if _REQUEST.isdisjoint(row) else row


def aiperf_request(row: Row) -> Row:
    """AIPerf keeps what it does not name itself under `extra`; only text is replayed."""
    for name, kind in _MEDIA.items():
        if row.get(name):
            raise Unreplayable(f"it holds {kind}; only text is replayed")
    extra = row.get("extra")
    return {**extra, **sampling_of(row)} if isinstance(extra, Mapping) else sampling_of(row)


def tools_beside(row: Row) -> Row:
    """The functions offered, without anything that a dataset's columns could mean as sampling."""
    return {name: row[name] for name in _TOOLS if name in row} or NOTHING


def system_beside(row: Row, names: tuple[str, ...] = _SYSTEMS) -> str | None:
    """The text of a system message that is not among the messages."""
    for name in names:
        if name in row:
            match row[name]:
                case str(text) if text and not text.isspace():
                    return text
                case [{"text": str(text)}]:
                    return text
    return None


def answer_of(row: Row, *, besides: str = "") -> object:
    if not _ANSWER_NAMES.isdisjoint(row):
        for name in _ANSWERS:
            if name != besides and row.get(name) is not None:
                return unpacked(row[name])
    instances = row.get("instances")
    first = instances[0] if isinstance(instances, list) and instances else None
    return first.get("output") if isinstance(first, Mapping) else None
