"""Earlier answers as a target's token ids: of a run or replay with text, or recorded responses.

They are read once, before any weights. Whether ids are this target's is checked as far as they
tell: those of another tokenizer draft nonsense, which verification refuses.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from specmeasure.corpus.load import load_corpus
from specmeasure.engines.chat import ChatTokenizer
from specmeasure.errors import UsageError
from specmeasure.proposers.past_answers import MOST_TOKENS, PastAnswer, PastAnswers
from specmeasure.records.corpus import Message, Prompt
from specmeasure.records.plan import Arm
from specmeasure.records.replay import Answer
from specmeasure.records.trace import TrialRecord
from specmeasure.trace import replays, store


def past_outputs_of(arms: Sequence[Arm]) -> list[str]:
    """The sources of all arms, each once."""
    return list(dict.fromkeys(arm.past_outputs for arm in arms if arm.past_outputs))


def load_past_answers(source: str, tokenizer: Any) -> PastAnswers:
    """Index what a source holds.

    Args:
        source: a folder of a run or of a replay that kept text, or what prompts are read from.
        tokenizer: the target's.

    Raises:
        UsageError: no answers, no ids, or ids that the target does not have.
        UnreadableCorpus: prompts that cannot be read.
        UnreadableTrace: a run that cannot be read.
    """
    folder = Path(source).expanduser()
    if (folder / store.MANIFEST).is_file():
        trace = store.read_trace(folder)
        answers = _recorded(
            one for one in trace.trials if one.key.arm == trace.manifest.plan.arms[0].name
        )
    elif replays.is_replay(folder):
        answers = _recorded(replays.read_replay(folder).answers)
    else:
        return PastAnswers(_responses(source, tokenizer))
    if not answers:
        raise UsageError(
            f"past outputs {source}: its answers' token ids were not kept. Record it with "
            "--include-text, or name prompts with recorded responses."
        )
    _refuse_foreign(source, answers, 1 + max(tokenizer.get_vocab().values()))
    return PastAnswers(answers)


def past_notes(pasts: Iterable[tuple[str, PastAnswers]]) -> tuple[str, ...]:
    """What a reader should know of every source: how much of it is looked up."""
    return tuple(
        f"Past outputs {source}: {past.num_answers} answers of {past.automaton.num_tokens} tokens "
        "are looked up, a conversation's own left out while it is decoded."
        + (
            f" {past.num_left_out} older ones pass the bound of {MOST_TOKENS} tokens."
            if past.num_left_out
            else ""
        )
        for source, past in pasts
    )


def _recorded(records: Iterable[TrialRecord | Answer]) -> list[PastAnswer]:
    """The first recording of every turn; each knows how its conversation began."""
    turns: dict[tuple[str, int], PastAnswer] = {}
    openings: dict[str, tuple[int, ...]] = {}
    for one in records:
        key = (one.key.prompt_id, one.key.turn)
        if one.token_ids is None or one.prompt_ids is None or key in turns:
            continue
        opening = openings.setdefault(one.key.prompt_id, tuple(one.prompt_ids))
        turns[key] = PastAnswer(opening_ids=opening, token_ids=tuple(one.token_ids))
    return list(turns.values())


def _responses(source: str, tokenizer: Any) -> list[PastAnswer]:
    """Recorded responses as the target would have written them.

    A lone question is known again as a chat and as plain text: a run may send it either way.
    """
    chat = ChatTokenizer(tokenizer)
    answers = [
        PastAnswer(
            opening_ids=tuple(chat.context_ids(prompt, [])),
            token_ids=tuple(tokenizer(text, add_special_tokens=False)["input_ids"]),
            other_openings=tuple(
                tuple(chat.context_ids(other, [])) for other in _sent_otherwise(prompt)
            ),
        )
        for prompt in load_corpus([source]).prompts
        for text in prompt.references
    ]
    if not any(answer.token_ids for answer in answers):
        raise UsageError(
            f"past outputs {source}: no recorded responses. Name prompts with a response column "
            "such as response or output, or a run that was recorded with --include-text."
        )
    return answers


def _sent_otherwise(prompt: Prompt) -> list[Prompt]:
    """A plain text as a chat, a chat of one message as plain text."""
    if prompt.text is not None:
        asked = (Message(role="user", content=prompt.text),)
        return [replace(prompt, text=None, messages=asked)]
    if len(prompt.messages) == 1:
        return [replace(prompt, text=prompt.messages[0].content, messages=())]
    return []


def _refuse_foreign(source: str, answers: Iterable[PastAnswer], vocab_size: int) -> None:
    largest = max((max(one.token_ids, default=0) for one in answers), default=0)
    if largest >= vocab_size:
        raise UsageError(
            f"past outputs {source}: a token id is {largest}, the target's tokenizer has "
            f"{vocab_size}. Name answers of this target, or prompts with recorded responses."
        )
