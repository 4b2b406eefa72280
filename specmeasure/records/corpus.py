"""What is replayed: prompts as conversations, and what was left out and why.

A corpus knows text and roles, not tokens: tokenizers come later.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusOptions:
    """How rows become prompts and how many of them are kept."""

    field: str | None = None  # path to the prompt in each row: "a.b", "a[0].b"; a table's column
    response_field: str | None = None  # path to the recorded response
    category_field: str | None = None  # path to the category
    slice_by: tuple[str, ...] = ()  # paths to more fields that estimates are sliced by
    format: Literal["auto", "jsonl", "json", "csv", "tsv", "text"] = "auto"
    text_split: Literal["auto", "line", "blank", "file"] = "auto"  # where a text's prompts end
    chat: Literal["auto", "chat", "completion"] = "auto"  # how a plain prompt string is sent
    limit: int | None = None  # most prompts to keep: a seeded sample, stratified by category
    seed: int = 0
    skip_bad_lines: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a chat."""

    role: str  # "system", "user", "assistant", "tool", or what the file says
    content: str
    extras: str | None = None  # JSON object of what a chat template also reads: tool_calls, name, …


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedSampling:
    """How a row itself wants to be decoded; None leaves it to the plan."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()  # texts that end the answer
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None and self.temperature < 0:
            raise ValueError(f"temperature {self.temperature} is below 0")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p} is not in (0, 1]")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k {self.top_k} is below 1")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens {self.max_tokens} is below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One conversation or one completion prompt; the unit that statistics treat as a cluster.

    A chat ends with a user (or tool) message. Every user message that no assistant message follows
    is a turn to decode; recorded assistant messages are context.
    """

    prompt_id: str
    category: str
    source: str  # "file:line" or "file[index]", for messages to the user
    messages: tuple[Message, ...] = ()  # empty for a completion prompt
    text: str | None = None  # a completion prompt
    token_ids: tuple[int, ...] | None = None  # a completion prompt that was tokenised before
    tools: str | None = None  # JSON array of the functions offered, in OpenAI's form
    references: tuple[str, ...] = ()  # recorded responses, to the first turns to decode
    asked: AskedSampling = AskedSampling()
    language: str | None = None  # ISO 639-1; None: not detected, or not asked for
    labels: tuple[tuple[str, str], ...] = ()  # more fields to slice by, with their values

    def __post_init__(self) -> None:
        if [bool(self.messages), self.text is not None, self.token_ids is not None].count(
            True
        ) != 1:
            raise ValueError("a prompt is a chat, a completion text or token ids")
        if self.messages and self.messages[-1].role == "assistant":
            raise ValueError("a chat to decode does not end with the assistant")

    @property
    def source_file(self) -> str:
        """The file alone.

        >>> Prompt(prompt_id="1", category="c", source="a:b/c.jsonl:17", text="t").source_file
        'a:b/c.jsonl'
        """
        return re.sub(r"(:\d+|\[\d+\])$", "", self.source)

    @property
    def turns(self) -> tuple[tuple[Message, ...], ...]:
        """The messages new at each turn to decode; recorded replies stay inside a turn.

        >>> talk = [Message(role=r, content=c) for r, c in [("user", "a"), ("user", "b")]]
        >>> [len(t) for t in Prompt(prompt_id="1", category="c", source="f", messages=talk).turns]
        [1, 1]
        """
        turns: list[tuple[Message, ...]] = []
        pending: list[Message] = []
        for message, following in zip(self.messages, (*self.messages[1:], None), strict=False):
            pending.append(message)
            if following is None or (message.role == "user" and following.role == "user"):
                turns.append(tuple(pending))
                pending = []
        return tuple(turns) or ((),)

    @property
    def content_hash(self) -> str:
        """A digest of what is asked and how, blind to id, category, place and recorded answers."""
        said = [
            part
            for m in self.messages
            for part in (m.role, "\0", m.content, "\0", m.extras or "\0")
        ]
        if self.text is not None:
            said += ["text\0", self.text]
        if self.token_ids is not None:
            said += ["ids\0", repr(self.token_ids)]
        if self.tools is not None:
            said += ["\0tools\0", self.tools]
        if self.asked is not _NOTHING_ASKED and self.asked != _NOTHING_ASKED:
            said += ["\0asked\0", repr(self.asked)]
        return hashlib.blake2b("".join(said).encode(), digest_size=16).hexdigest()


_NOTHING_ASKED = AskedSampling()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Rows, files or prompts that are not replayed, for one reason."""

    reason: str
    num_rows: int
    places: tuple[str, ...]  # the first few, "file:line"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file, or one split of a dataset, that was read and how it was understood."""

    path: str
    format: str  # e.g. "jsonl, OpenAI chat", "csv, field question"
    num_rows: int
    num_prompts: int  # kept, before any sampling
    dropped: tuple[Dropped, ...] = ()
    revision: str | None = None  # of a dataset on a hub


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The prompts to replay, in order, and all that was left out.

    Where a limit was asked for, ``prompts`` are a seeded sample of ``sizes``.
    """

    prompts: tuple[Prompt, ...]
    files: tuple[SourceFile, ...] = ()
    left_out: tuple[Dropped, ...] = ()  # files of folders that hold no prompts
    sizes: tuple[tuple[str, int], ...] = ()  # prompts of each category before sampling
    warnings: tuple[str, ...] = ()

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        """Everything left out, of all files."""
        return (*self.left_out, *(reason for file in self.files for reason in file.dropped))

    @property
    def num_prompts(self) -> int:
        """Prompts before sampling."""
        return sum(size for _, size in self.sizes)

    @property
    def fingerprint(self) -> str:
        """A digest of ids, categories and contents in order."""
        digest = hashlib.sha256()
        for prompt in self.prompts:
            digest.update(f"{prompt.prompt_id}\0{prompt.category}\0".encode())
            digest.update(prompt.content_hash.encode())
        return digest.hexdigest()

    @property
    def categories(self) -> tuple[str, ...]:
        """In order of first appearance."""
        return tuple(dict.fromkeys(prompt.category for prompt in self.prompts))
