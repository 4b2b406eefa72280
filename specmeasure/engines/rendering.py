"""Prompts as a server is asked them: ids from the target's own tokenizer, without its weights."""

from collections.abc import Sequence

from specmeasure.engines.chat import ChatTokenizer
from specmeasure.engines.loading import load_config, load_tokenizer
from specmeasure.errors import ModelError
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import ModelOptions
from specmeasure.servers.server import Reply

NO_TEMPLATE = (
    "The target's tokenizer has no chat template: messages of chats are joined by newlines."
)


class Renderer:
    """The tokenizer and chat template of a served model."""

    def __init__(self, name: str, options: ModelOptions) -> None:
        self._chat = ChatTokenizer(load_tokenizer(name, options))
        self._name = name
        self._options = options

    def warnings(self, prompts: Sequence[Prompt]) -> tuple[str, ...]:
        """What a reader of the brief should know of the tokenizer."""
        if self._chat.has_chat_template or not any(prompt.messages for prompt in prompts):
            return ()
        return (NO_TEMPLATE,)

    def context_ids(self, prompt: Prompt, replies: Sequence[str]) -> list[int]:
        """See ``ChatTokenizer``."""
        return self._chat.context_ids(prompt, replies)

    def context(self, prompt: Prompt, turn: int, replies: Sequence[str]) -> tuple[int, ...]:
        """What the server is sent for a turn, after the replies to the turns before it."""
        return tuple(self._chat.context_ids(prompt, replies[:turn]))

    def reply_text(self, reply: Reply) -> str:
        """An answer as the next turn's context sees it."""
        return reply.text if reply.token_ids is None else self._chat.plain_text(reply.token_ids)

    def context_limit(self) -> int | None:
        """Most tokens that the model was made for; None: its config is not at hand."""
        try:
            config = load_config(self._name, self._options)
        except ModelError:
            return None
        positions = getattr(config.get_text_config(), "max_position_embeddings", None)
        return int(positions) if positions else None
