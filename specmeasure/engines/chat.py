"""Prompts to token ids, exactly as a run sends them: template, tools, special tokens once."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jinja2

from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import Message, Prompt


class ChatTokenizer:
    """A target's tokenizer and chat template. Knows nothing of weights."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @property
    def has_chat_template(self) -> bool:
        return self._tokenizer.chat_template is not None

    def context_ids(self, prompt: Prompt, replies: Sequence[str]) -> list[int]:
        """Ids of the prompt's next turn, after ``replies`` to the turns before it.

        Chats go through the template, with the tools that they offer; completion prompts stay
        raw, token ids stay as they are. BOS is never doubled.

        Raises:
            UnreadableCorpus: the template refuses the messages, or an id is not in the vocabulary.
        """
        if prompt.token_ids is not None:
            return self._known_ids(prompt)
        return self._without_double_bos(self._raw_ids(prompt, replies))

    def doubles_bos(self, prompt: Prompt) -> bool:
        """Whether template and tokenizer both add a BOS, of which ``context_ids`` drops one."""
        if prompt.token_ids is not None:
            return False
        ids = self._raw_ids(prompt, [])
        return self._without_double_bos(ids) != ids

    def ignores_tools(self, prompt: Prompt) -> bool:
        """Whether the template says the same with and without the tools that a prompt offers."""
        if prompt.tools is None:
            return False
        return self.context_ids(prompt, []) == self.context_ids(replace(prompt, tools=None), [])

    def text(self, token_ids: Sequence[int]) -> str:
        """What ids say, special tokens included."""
        return str(self._tokenizer.decode(list(token_ids)))

    def plain_text(self, token_ids: Sequence[int]) -> str:
        """What ids say without special tokens: what stop texts are looked for in."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def _known_ids(self, prompt: Prompt) -> list[int]:
        ids = list(prompt.token_ids or ())
        if ids and max(ids) >= len(self._tokenizer):
            raise UnreadableCorpus(
                f"{prompt.source}: a token id is {max(ids)}, the target's tokenizer has "
                f"{len(self._tokenizer)}; these ids are another tokenizer's"
            )
        return ids

    def _raw_ids(self, prompt: Prompt, replies: Sequence[str]) -> list[int]:
        if prompt.text is not None:
            return list(self._tokenizer(prompt.text)["input_ids"])
        messages = _dialogue(prompt, replies)
        if not self.has_chat_template:
            text = "\n".join(message["content"] for message in messages)
            return list(self._tokenizer(text)["input_ids"])
        text = self._templated(prompt, messages)
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _templated(self, prompt: Prompt, messages: list[dict[str, Any]]) -> str:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages,
                    tools=None if prompt.tools is None else json.loads(prompt.tools),
                    tokenize=False,
                    add_generation_prompt=True,
                )
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
            raise UnreadableCorpus(
                f"{prompt.source}: the target's chat template refuses these messages"
                f"{self._own_words(error)}"
            ) from error

    def _own_words(self, error: Exception) -> str:
        """The template's message where it is its own, not something built from a prompt."""
        return (
            f": {error}" if str(error) and str(error) in str(self._tokenizer.chat_template) else ""
        )

    def _without_double_bos(self, ids: list[int]) -> list[int]:
        bos = self._tokenizer.bos_token_id
        while bos is not None and ids[:2] == [bos, bos]:
            ids = ids[1:]
        return ids


def _dialogue(prompt: Prompt, replies: Sequence[str]) -> list[dict[str, Any]]:
    """Messages up to the next reply, as templates read them."""
    messages: list[dict[str, Any]] = []
    for place, turn in enumerate(prompt.turns[: len(replies) + 1]):
        messages += map(_as_template_reads, turn)
        if place < len(replies):
            messages.append({"role": "assistant", "content": replies[place]})
    return messages


def _as_template_reads(message: Message) -> dict[str, Any]:
    extras = {} if message.extras is None else json.loads(message.extras)
    return {"role": message.role, "content": message.content, **extras}
