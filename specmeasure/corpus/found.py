"""What a row holds before it is read: where prompt, request and recorded answer stand."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from specmeasure.corpus.paths import leaf, unpacked

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
    system: object = None  # a system message that stands apart
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


def answer_of(row: Row, *, besides: str = "") -> object:
    if not _ANSWER_NAMES.isdisjoint(row):
        for name in _ANSWERS:
            if name != besides and row.get(name) is not None:
                return unpacked(row[name])
    instances = row.get("instances")
    first = instances[0] if isinstance(instances, list) and instances else None
    return first.get("output") if isinstance(first, Mapping) else None
