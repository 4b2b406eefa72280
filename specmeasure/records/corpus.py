"""What is replayed: prompts as conversations, and what was left out and why.

A corpus knows text and roles, not tokens: tokenizers come later.
"""

import hashlib
import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a chat."""

    role: str  # "system", "user", "assistant", "tool", or what the file says
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One conversation or one completion prompt; the unit that statistics treat as a cluster.

    A chat ends with a user (or tool) message. Every user message that no assistant message follows
    is a turn to decode; recorded assistant messages are context.
    """

    prompt_id: str
    category: str
    source: str  # "file:line", for messages to the user
    messages: tuple[Message, ...] = ()  # empty for a completion prompt
    text: str | None = None  # a completion prompt; None for a chat

    def __post_init__(self) -> None:
        if bool(self.messages) == (self.text is not None):
            raise ValueError("a prompt is either a chat or a completion text")
        if self.messages and self.messages[-1].role == "assistant":
            raise ValueError("a chat to decode does not end with the assistant")

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
        """A digest of what is asked, blind to id, category and place."""
        body = self.text if self.text is not None else [(m.role, m.content) for m in self.messages]
        return hashlib.sha256(json.dumps(body).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedPrompt:
    """A prompt that is not replayed."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file that was read and how it was understood."""

    path: str
    format: str  # e.g. "jsonl, field 'turns'"
    num_prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """All prompts to replay, in order, and all that were left out."""

    prompts: tuple[Prompt, ...]
    skipped: tuple[SkippedPrompt, ...] = ()
    files: tuple[SourceFile, ...] = ()

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
