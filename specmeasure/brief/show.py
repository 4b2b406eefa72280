"""Recorded trials for a terminal: all in a table, or one of them pass by pass."""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specmeasure.brief.names import plain, shortened
from specmeasure.brief.numbers import NOT_APPLICABLE, count, duration
from specmeasure.brief.walk import (
    Detokenise,
    answer_text,
    counted_passes,
    spell_ids,
    spelt_passes,
    sums,
    visible,
)
from specmeasure.records.trace import Trace, TrialRecord

_NAME_WIDTH = {"Prompt": 10, "Arm": 10}  # kept where a terminal is narrow


def trials_table(trace: Trace) -> Table:
    """One row a trial. Ids, lengths and times; never text."""
    most = "at most " if trace.manifest.looks else ""
    planned = count(trace.manifest.num_planned_trials, "planned trial")
    state = "sealed" if trace.sealed else "not sealed: the run can be resumed"
    table = Table(
        caption=Text(f"{count(len(trace.trials))} of {most}{planned}, {state}"),
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
    """One trial pass by pass: its tokens where ids were kept, else its counts.

    Args:
        trial: the trial to show.
        detokenise: turns ids into text; None shows the ids themselves.
    """
    parts: list[RenderableType] = [_title(trial)]
    if trial.error is not None:
        return Group(*parts, Text(f"failed: {visible(trial.error)}", style="red"))
    if all(block.emitted_ids is not None for block in trial.blocks):
        spell = detokenise or spell_ids
        parts += [answer_text(trial.blocks, spell), spelt_passes(trial, spell)]
        parts += _of_chances(trial)
    else:
        parts.append(Text("The text was not kept; record with --include-text to see it."))
        parts.append(counted_passes(trial.blocks))
    return Group(*parts, *map(Text, sums(trial.blocks)))


def _of_chances(trial: TrialRecord) -> list[RenderableType]:
    """What the chances of rejected drafts mean, where they are shown."""
    if trial.checks is None or trial.checks.token_probs is None:
        return []
    if trial.sampling.is_greedy:
        rule = (
            "A greedy target keeps its likeliest token alone, however likely the next one is; "
            "chances are those at temperature 1."
        )
    else:
        rule = "A draft is kept with chance min(1, target's / draft's); a certain draft counts 1."
    return [Text(f"✗ by target / draft: what either gave the rejected draft. {rule}")]


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
