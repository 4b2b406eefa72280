"""Trials on the terminal: a list, or one prompt's blocks."""

from dataclasses import replace
from pathlib import Path

from specmeasure import api
from specmeasure.brief.show import trial_text, trials_table
from specmeasure.brief.walk import how_to_read
from specmeasure.cli.running import wide_console
from specmeasure.errors import UsageError


def show(folder: Path, *, prompt_id: str | None, arm: str | None) -> None:
    """Print all trials, or those of one prompt block by block."""
    trace = api.read_trace(folder)
    console = wide_console()
    chosen = [
        trial
        for trial in trace.trials
        if (prompt_id is None or trial.key.prompt_id == prompt_id)
        and (arm is None or trial.key.arm == arm)
    ]
    if not chosen:
        arms = ", ".join(one.name for one in trace.manifest.plan.arms)
        raise UsageError(
            f"{folder}: no trial of prompt {prompt_id!r} and arm {arm!r}. `specmeasure show "
            f"{folder}` lists prompts; arms are: {arms}."
        )
    if prompt_id is None:
        console.print(trials_table(replace(trace, trials=tuple(chosen))))
        return
    detokenise = api.detokeniser(trace)
    console.print(how_to_read())
    trees = {one.name: one.tree for one in trace.manifest.plan.arms}
    for trial in chosen:
        console.print(trial_text(trial, detokenise, trees.get(trial.key.arm)))
