"""Prompts as text and messages, where the server's tokens are not known here."""

from collections.abc import Sequence

from specmeasure.records.corpus import Dropped, Message, Prompt
from specmeasure.servers.server import Context, Reply


class PlainContexts:
    """Completion prompts as they are, chats as messages; the server renders them."""

    def context(self, prompt: Prompt, turn: int, replies: Sequence[str]) -> Context:
        """What the server is sent for a turn, after the replies to the turns before it."""
        if prompt.token_ids is not None:
            return prompt.token_ids
        if prompt.text is not None:
            return prompt.text
        messages: list[Message] = []
        for place, new in enumerate(prompt.turns[: turn + 1]):
            messages += new
            if place < turn:
                messages.append(Message(role="assistant", content=replies[place]))
        return tuple(messages)

    def reply_text(self, reply: Reply) -> str:
        """An answer as the next turn's context sees it."""
        return reply.text


def tools_unsent(prompts: Sequence[Prompt]) -> tuple[tuple[Prompt, ...], tuple[Dropped, ...]]:
    """The prompts that can be sent as text, and those that offer tools, which cannot."""
    offering = [prompt.source for prompt in prompts if prompt.tools is not None]
    if not offering:
        return tuple(prompts), ()
    dropped = Dropped(
        reason="it offers tools, which are sent only as token ids: name the --tokenizer",
        num_rows=len(offering),
        places=tuple(offering[:5]),
    )
    return tuple(prompt for prompt in prompts if prompt.tools is None), (dropped,)
