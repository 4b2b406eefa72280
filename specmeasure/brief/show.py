"""Recorded trials for a terminal: all in a table, or one with its blocks and, if kept, its text."""

from collections.abc import Callable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specmeasure.brief.names import plain, shortened
from specmeasure.brief.numbers import NOT_APPLICABLE, count, duration
from specmeasure.records.trace import BlockRecord, Trace, TrialRecord

Detokenise = Callable[[Sequence[int]], str]

_ACCEPTED = "green"
_REJECTED = "red strike"
_TARGET = "bold blue"
_NAME_WIDTH = {"Prompt": 10, "Arm": 10}  # kept where a terminal is narrow
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def trials_table(trace: Trace) -> Table:
    """One row a trial. Ids, lengths and times; never text."""
    planned = count(trace.manifest.num_planned_trials, "planned trial")
    state = "sealed" if trace.sealed else "not sealed: the run can be resumed"
    table = Table(
        caption=Text(f"{count(len(trace.trials))} of {planned}, {state}"),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for name in ("Prompt", "Turn", "Rep", "Arm"):
        table.add_column(name, overflow="fold", min_width=_NAME_WIDTH.get(name))
    for name in ("Tokens", "Blocks", "Kept", "TTFT", "Decode"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Finish", overflow="fold")
    table.add_column("Audit", no_wrap=True, min_width=10)
    for trial in trace.trials:
        table.add_row(*(Text(cell) for cell in _trial_row(trial)))
    return table


def trial_text(trial: TrialRecord, detokenise: Detokenise | None) -> RenderableType:
    """One trial's blocks, above them its text with drafts marked, where ids were kept.

    Args:
        trial: the trial to show.
        detokenise: turns ids into text; None shows the ids themselves.
    """
    parts: list[RenderableType] = [_title(trial)]
    if trial.error is not None:
        return Group(*parts, Text(f"failed: {_visible(trial.error)}", style="red"))
    if all(block.emitted_ids is not None for block in trial.blocks):
        parts += [_legend(), Text(), _marked_text(trial.blocks, detokenise or _spell_ids), Text()]
    else:
        parts.append(Text("The text was not kept; record with --include-text to see it."))
    return Group(*parts, _block_table(trial.blocks))


def _trial_row(trial: TrialRecord) -> tuple[str, ...]:
    drafted = sum(block.num_draft_tokens for block in trial.blocks)
    accepted = sum(block.num_accepted_tokens for block in trial.blocks)
    finish = trial.finish_reason.value if trial.finish_reason else NOT_APPLICABLE
    return (
        plain(trial.key.prompt_id),
        str(trial.key.turn + 1),
        str(trial.key.repeat),
        plain(trial.key.arm),
        NOT_APPLICABLE if trial.num_emitted_tokens is None else str(trial.num_emitted_tokens),
        str(len(trial.blocks)) if trial.blocks else NOT_APPLICABLE,
        f"{accepted}/{drafted}" if drafted else NOT_APPLICABLE,
        _time(trial.ttft_s),
        _time(trial.decode_s),
        finish if trial.error is None else f"failed: {shortened(trial.error)}",
        _audit(trial),
    )


def _audit(trial: TrialRecord) -> str:
    if trial.audit is None:
        return NOT_APPLICABLE
    suspects = len(trial.audit.suspects)
    return count(suspects, "suspect") if suspects else "identical"


def _time(value_s: float | None) -> str:
    return NOT_APPLICABLE if value_s is None else duration(value_s)


def _title(trial: TrialRecord) -> Text:
    key = trial.key
    place = f"prompt {plain(key.prompt_id)}, turn {key.turn + 1}, repeat {key.repeat}"
    return Text(f"{place}, {plain(key.arm)}, category {plain(trial.category)}", style="bold")


def _legend() -> Text:
    return Text.assemble(
        ("accepted draft", _ACCEPTED),
        "  ",
        ("rejected draft", _REJECTED),
        "  ",
        ("target's own token", _TARGET),
    )


def _marked_text(blocks: Sequence[BlockRecord], detokenise: Detokenise) -> Text:
    text = Text()
    before: tuple[int, ...] = ()
    for block in blocks:
        emitted, drafted = block.emitted_ids or (), block.draft_ids or ()
        num_accepted = block.num_accepted_tokens
        kept = before + emitted[:num_accepted]
        text.append(_continuation(before, emitted[:num_accepted], detokenise), _ACCEPTED)
        text.append(_continuation(kept, drafted[num_accepted:], detokenise), _REJECTED)
        text.append(_continuation(kept, emitted[num_accepted:], detokenise), _TARGET)
        before += emitted
    return text


def _continuation(before: tuple[int, ...], ids: tuple[int, ...], detokenise: Detokenise) -> str:
    """What ``ids`` add to the text of ``before``; half a character is shown with its other half."""
    if not ids:
        return ""
    shown = detokenise(before).rstrip(_REPLACEMENT) if before else ""
    return _visible(detokenise((*before, *ids))[len(shown) :].rstrip(_REPLACEMENT))


def _spell_ids(ids: Sequence[int]) -> str:
    return "".join(f"{token} " for token in ids)


def _visible(text: str) -> str:
    """Text without characters that a terminal would act on; line breaks and tabs stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else "·" for char in text)


def _block_table(blocks: Sequence[BlockRecord]) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for name in ("Block", "Context", "Drafted", "Accepted", "Emitted", "Draft", "Verify"):
        table.add_column(name, justify="right")
    table.add_column("")
    for index, block in enumerate(blocks):
        table.add_row(
            str(index),
            str(block.context_length),
            str(block.num_draft_tokens),
            str(block.num_accepted_tokens),
            str(block.num_emitted_tokens),
            duration(block.draft_s),
            duration(block.verify_s),
            _what_happened(block, is_first=index == 0),
        )
    return table


def _what_happened(block: BlockRecord, *, is_first: bool) -> str:
    if is_first:
        return "prefill"
    if block.truncated:
        return "cut by EOS or a stop text"
    if not block.num_draft_tokens:
        return "nothing drafted"
    if block.num_accepted_tokens == block.num_draft_tokens:
        return "all kept, bonus token"
    return f"draft {block.num_accepted_tokens + 1} rejected"
