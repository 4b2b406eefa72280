"""What servers are asked: every turn of every prompt, as contexts that all arms and loads share."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import DecodeSettings, Plan, TrialKey
from specmeasure.records.serving import Load
from specmeasure.run.failures import Failure, unless_it_fails
from specmeasure.run.traffic import Clock, drive
from specmeasure.run.trials import trial_seed
from specmeasure.run.windows import Window
from specmeasure.servers.server import Ask, Context, Reply, Server


class Contexts(Protocol):
    """Turns prompts into what a server is sent: token ids where a tokenizer is at hand."""

    def context(self, prompt: Prompt, turn: int, replies: Sequence[str]) -> Context:
        """What is asked at this turn, after these replies to the turns before it."""

    def reply_text(self, reply: Reply) -> str:
        """What an answer says, as the next turn's context sees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One trial to come."""

    key: TrialKey
    prompt: Prompt
    settings: DecodeSettings
    ask: Ask | None  # None: it cannot be sent
    error: str | None = None  # then, why


class Requests:
    """Asks of a run; replies to earlier turns are kept here, in memory only."""

    def __init__(self, plan: Plan, contexts: Contexts) -> None:
        self._plan = plan
        self._contexts = contexts
        self._replies: dict[str, list[str | None]] = {}  # by prompt; None: there was none

    async def gather_replies(
        self,
        server: Server,
        prompts: Sequence[Prompt],
        *,
        num_at_once: int,
        clock: Clock = time.perf_counter,
    ) -> None:
        """Have one server answer, unrecorded, every turn that has another one after it."""
        arm, load = self._plan.arms[0].name, Load(concurrency=num_at_once)
        for turn in range(max((len(prompt.turns) for prompt in prompts), default=1) - 1):
            keys = {
                TrialKey(prompt_id=prompt.prompt_id, turn=turn, repeat=0, arm=arm): prompt
                for prompt in prompts
                if turn + 1 < len(prompt.turns)
            }
            planned = [self.planned(prompt, key) for key, prompt in keys.items()]
            sendable = [(one.prompt.prompt_id, one.ask) for one in planned if one.ask]
            traffic = await drive(server, [ask for _, ask in sendable], load, seed=0, clock=clock)
            texts = {
                prompt_id: None if one.reply is None else self._contexts.reply_text(one.reply)
                for (prompt_id, _), one in zip(sendable, traffic.exchanges, strict=True)
            }
            for one in planned:
                own = self._replies.setdefault(one.prompt.prompt_id, [])
                own.append(texts.get(one.prompt.prompt_id))

    def of_window(self, window: Window) -> list[Planned]:
        """The window's requests in the order in which they are sent."""
        turns = [
            (prompt, turn, self._context_of(prompt, turn))
            for prompt in window.group.prompts
            for turn in range(len(prompt.turns))
        ]
        return [
            self._with_context(
                prompt,
                TrialKey(
                    prompt_id=prompt.prompt_id,
                    turn=turn,
                    repeat=repeat,
                    arm=window.arm.name,
                    load=window.load,
                ),
                context,
            )
            for repeat in range(window.group.num_rounds)
            for prompt, turn, context in turns
        ]

    def planned(self, prompt: Prompt, key: TrialKey) -> Planned:
        """One trial, with its ask or the reason why it cannot be sent."""
        return self._with_context(prompt, key, self._context_of(prompt, key.turn))

    def _with_context(self, prompt: Prompt, key: TrialKey, context: Context | Failure) -> Planned:
        own = self._plan.settings_for(prompt.asked)
        settings = replace(own, seed=trial_seed(own.seed, key))
        if isinstance(context, Failure):
            return Planned(
                key=key, prompt=prompt, settings=settings, ask=None, error=context.reason
            )
        ask = Ask(context=context, settings=settings, ignore_eos=self._plan.ignore_eos)
        return Planned(key=key, prompt=prompt, settings=settings, ask=ask)

    def _context_of(self, prompt: Prompt, turn: int) -> Context | Failure:
        quotes = self._plan.include_text
        return unless_it_fails(lambda: self._context(prompt, turn), quotes=quotes)

    def _context(self, prompt: Prompt, turn: int) -> Context:
        replies = [
            text for text in self._replies.get(prompt.prompt_id, [])[:turn] if text is not None
        ]
        if len(replies) < turn:
            raise UnreadableCorpus(
                f"{prompt.source}: turn {turn + 1} follows a reply that the baseline did not give"
            )
        return self._contexts.context(prompt, turn, replies)


def ids_of(context: Context) -> tuple[int, ...] | None:
    """The context's token ids; None where it is text or messages."""
    if isinstance(context, str):
        return None
    ids = tuple(one for one in context if isinstance(one, int))
    return ids if len(ids) == len(context) else None
