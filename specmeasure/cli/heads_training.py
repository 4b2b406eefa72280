"""From parsed options to trained heads, and what they know on the terminal."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from specmeasure import api, demo
from specmeasure.api.head_training import resume_heads, train_heads, training_as_json
from specmeasure.brief.head_training import training_summary
from specmeasure.cli import running
from specmeasure.cli.progress import watched
from specmeasure.errors import UsageError
from specmeasure.records.heads_training import (
    HeadSettings,
    HeadTrainingRequest,
    TrainedHeads,
)
from specmeasure.records.plan import BASELINE, ModelOptions, Plan
from specmeasure.records.request import Request

WITH_RESUME = {"resume", "prompts", "as_json", "quiet"}


def train(context: typer.Context) -> None:
    """Train or go on training, print what the heads know."""
    asked = context.params
    if asked["resume"]:
        running.refuse_beside(context, "--resume", WITH_RESUME)
        folder: Path = asked["resume"]
        with watched(folder, quiet=asked["quiet"]) as watchers:
            trained = resume_heads(folder, asked["prompts"] or (), watchers=watchers)
    else:
        folder, trained = _start(asked)
    if asked["as_json"]:
        print(training_as_json(trained))
    else:
        console = running.wide_console()
        console.print(training_summary(trained))
        console.print(f"Heads: {folder}", soft_wrap=True, highlight=False)


def _start(asked: dict[str, Any]) -> tuple[Path, TrainedHeads]:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")  # noqa: DTZ005 - the user's own clock
    folder: Path = asked["out"] or Path("reports") / f"heads-{stamp}"
    with watched(folder, quiet=asked["quiet"]) as watchers:
        request = _request(asked, watchers)
        trained = train_heads(request, folder, replace_heads=asked["force"], watchers=watchers)
    return folder, trained


def _request(asked: dict[str, Any], watchers: api.Watchers) -> HeadTrainingRequest:
    """What the options ask for."""
    if not asked["prompts"]:
        raise UsageError("no prompts: name files, folders or - for stdin (or --resume a training).")
    if asked["target"] is None:
        watchers.stage("no --target: training for the embedded one")
    return HeadTrainingRequest(
        request=Request(
            plan=_plan(asked),
            sources=tuple(asked["prompts"]),
            options=running.corpus_options(asked),
            argv=tuple(sys.argv),
        ),
        settings=_settings(asked),
        use_references=asked["responses"],
        answers_at_once=asked["batch_size"],
    )


def _plan(asked: dict[str, Any]) -> Plan:
    names = [name for name in ModelOptions.__dataclass_fields__ if name in asked]
    return Plan(
        target=asked["target"] or demo.TARGET,
        arms=(BASELINE,),
        sampling=running.sampling(asked),
        max_new_tokens=asked["max_new_tokens"],
        seed=asked["seed"],
        ignore_eos=asked["ignore_eos"],
        use_asked_sampling=asked["row_sampling"],
        options=ModelOptions(**{name: asked[name] for name in names}, num_threads=asked["threads"]),
    )


def _settings(asked: dict[str, Any]) -> HeadSettings:
    try:
        return HeadSettings(
            num_heads=asked["num_heads"],
            num_layers=asked["num_layers"],
            num_epochs=asked["epochs"],
            batch_size=asked["answers_per_step"],
            learning_rate=asked["learning_rate"],
            held_out_share=asked["held_out"],
            learns_prompts=asked["learn_prompts"],
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
