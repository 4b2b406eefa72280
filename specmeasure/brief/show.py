"""Recorded trials for a terminal: all in a table, or one of them pass by pass."""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from specmeasure.brief.names import plain, shortened
from specmeasure.brief.numbers import NOT_APPLICABLE, count, duration
from specmeasure.brief.servers import short_load
from specmeasure.brief.walk import (
    Detokenise,
    answer_text,
    counted_passes,
    spell_ids,
    spelt_passes,
    sums,
    visible,
)
from specmeasure.records.trace import DraftCounts, Trace, TrialRecord
from specmeasure.records.tree import TokenTree

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
    has_loads = any(trial.key.load is not None for trial in trace.trials)
    for name in ("Prompt", "Turn", "Rep", "Arm", *(["Load"] if has_loads else [])):
        table.add_column(name, overflow="fold", min_width=_NAME_WIDTH.get(name))
    for name in ("Tokens", "Blocks", "Kept", "TTFT", "Decode"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Finish", overflow="fold")
    table.add_column("Audit", no_wrap=True, min_width=10)
    for trial in trace.trials:
        table.add_row(*map(Text, _trial_row(trial, has_loads=has_loads)))
    return table


def trial_text(
    trial: TrialRecord, detokenise: Detokenise | None, tree: TokenTree | None = None
) -> RenderableType:
    """One trial pass by pass: its tokens where ids were kept, else its counts.

    Args:
        trial: the trial to show.
        detokenise: turns ids into text; None shows the ids themselves.
        tree: that the trial's arm drafts; None: chains.
    """
    parts: list[RenderableType] = [_title(trial)]
    if trial.error is not None:
        return Group(*parts, Text(f"failed: {visible(trial.error)}", style="red"))
    if trial.key.load is not None:
        return Group(*parts, *_of_a_request(trial, detokenise or spell_ids))
    if all(block.emitted_ids is not None for block in trial.blocks):
        spell = detokenise or spell_ids
        parts += [answer_text(trial.blocks, spell), spelt_passes(trial, spell, tree)]
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


def _of_a_request(trial: TrialRecord, detokenise: Detokenise) -> list[RenderableType]:
    """What a server's client knows of one answer: its text if kept, and what the server told."""
    answer = (
        Text("The text was not kept; record with --include-text to see it.")
        if trial.token_ids is None
        else Text(visible(detokenise(trial.token_ids)))
    )
    return [answer, *map(Text, _told(trial.counts))]


def _told(counts: DraftCounts | None) -> list[str]:
    if counts is None:
        return ["The server told nothing of drafts for this request."]
    drafts = count(counts.num_draft_tokens, "draft")
    blocks = counts.num_drafted_blocks
    within = "" if blocks is None else f" in {count(blocks, 'drafted block')}"
    said = [f"By the server's count {count(counts.num_accepted_tokens)} of {drafts} kept{within}."]
    if counts.steps is not None:
        kept = ", ".join(f"{accepted}/{drafted}" for drafted, accepted in counts.steps)
        said.append(f"Kept of drafted, block by block: {kept}.")
    return said


def _trial_row(trial: TrialRecord, *, has_loads: bool) -> tuple[str, ...]:
    drafted, accepted = _drafted_and_accepted(trial)
    finish = trial.finish_reason.value if trial.finish_reason else NOT_APPLICABLE
    return (
        plain(trial.key.prompt_id),
        str(trial.key.turn + 1),
        str(trial.key.repeat),
        plain(trial.key.arm),
        *([_load(trial)] if has_loads else []),
        NOT_APPLICABLE if trial.num_emitted_tokens is None else str(trial.num_emitted_tokens),
        str(len(trial.blocks)) if trial.blocks else NOT_APPLICABLE,
        f"{accepted}/{drafted}" if drafted else NOT_APPLICABLE,
        _time(trial.ttft_s),
        _time(trial.decode_s),
        finish if trial.error is None else f"failed: {shortened(trial.error)}",
        _audit(trial),
    )


def _drafted_and_accepted(trial: TrialRecord) -> tuple[int, int]:
    """By the blocks, or else by the server's count."""
    if trial.counts is not None:
        return trial.counts.num_draft_tokens, trial.counts.num_accepted_tokens
    drafted = sum(block.num_draft_tokens for block in trial.blocks)
    return drafted, sum(block.num_accepted_tokens for block in trial.blocks)


def _load(trial: TrialRecord) -> str:
    """Requests at once, or a second."""
    load = trial.key.load
    if load is None:
        return NOT_APPLICABLE
    return short_load(load) if load.rate is None else f"{short_load(load)}/s"


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
    arm = plain(key.arm) if key.load is None else f"{plain(key.arm)} at {key.load}"
    return Text(f"{place}, {arm}, category {plain(trial.category)}", style="bold")
