"""Heads for a target: trained on its own answers to the user's prompts, or on recorded ones.

    request = HeadTrainingRequest(request=Request(plan=plan, sources=("prompts/",)))
    trained = train_heads(request, Path("heads"))

The plan's one arm is the baseline: its sampling and its budget say how the target answers.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from specmeasure.api.prompts import (
    budget_notes,
    corpus_facts,
    describe_files,
    keep_fitting,
    read_prompts,
    sample_fitting,
)
from specmeasure.errors import UnreadableTrace, UsageError
from specmeasure.records.corpus import Corpus, Prompt
from specmeasure.records.heads_training import HeadTrainingRequest, TrainedHeads
from specmeasure.run.cores import free_cores
from specmeasure.run.environment import environment, load_average
from specmeasure.run.watch import SILENT, Watchers
from specmeasure.trace.replays import is_replay
from specmeasure.trace.store import plain

if TYPE_CHECKING:
    from specmeasure.engines.replay import ReplayEngine

HEADS_SCHEMA_VERSION = 1
TRAINING = "training.json"


def train_heads(
    request: HeadTrainingRequest,
    folder: Path,
    *,
    replace_heads: bool = False,
    watchers: Watchers = SILENT,
) -> TrainedHeads:
    """Train heads on a frozen target and save them into ``folder``, for vLLM into ``folder/vllm``.

    Args:
        request: what to train, on what.
        folder: where; it must hold no training, and no replay.
        replace_heads: delete the training that it holds.
        watchers: told what happens; a step is a trial.

    Raises:
        SpecmeasureError: bad input (before any model is loaded), a target that heads cannot be
            trained on, a loss that is no number.
    """
    plan = request.request.plan
    if not all(arm.is_baseline for arm in plan.arms):
        raise UsageError("heads are trained on what the target says alone: leave out other arms.")
    _refuse_existing(folder, replace_heads=replace_heads)
    corpus = read_prompts(request.request.sources, request.request.options)
    for line in describe_files(corpus):
        watchers.stage(line)
    load_before = load_average()
    engine = _load(request, watchers)
    fitting, misfits = keep_fitting(corpus, engine, plan, engine.context_limit)
    prompts = sample_fitting(fitting, corpus, request.request.options)
    notes = [*corpus.warnings, *budget_notes(plan, prompts)]
    for note in notes:
        watchers.warning(note)
    trained = TrainedHeads(
        schema_version=HEADS_SCHEMA_VERSION,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        request=request,
        corpus=corpus_facts(request.request, corpus, prompts, misfits),
        environment=environment(engine.num_threads, load_before),
        target=engine.target_facts,
        warnings=(*engine.warnings, *notes),
    )
    from specmeasure.run.head_training import begin_training

    begin_training(folder, trained)
    return _record(trained, engine, prompts, folder, watchers)


def resume_heads(
    folder: Path, sources: Sequence[str] = (), *, watchers: Watchers = SILENT
) -> TrainedHeads:
    """Go on with an interrupted training; a finished one is returned as it is.

    On a CPU with as many threads the heads are, bit by bit, those of an uninterrupted training.

    Raises:
        UsageError: prompts or target are not those of the training.
    """
    trained = read_training(folder)
    if trained.is_finished:
        return trained
    corpus = _read_again(trained, folder, sources)
    request = trained.request
    options = replace(request.request.plan.options, num_threads=trained.environment.num_threads)
    plan = replace(request.request.plan, options=options)
    engine = _load(replace(request, request=replace(request.request, plan=plan)), watchers)
    if engine.target_facts != trained.target:
        raise UsageError(
            f"{folder}: the target is not that of the interrupted training (or dtype or device "
            "differ). Give the same model, or start a new training."
        )
    fitting, _ = keep_fitting(corpus, engine, plan, engine.context_limit)
    prompts = sample_fitting(fitting, corpus, trained.corpus.options)
    return _record(trained, engine, prompts, folder, watchers)


def read_training(folder: Path) -> TrainedHeads:
    """What a folder of trained heads says of them; the training may be unfinished.

    Raises:
        UnreadableTrace: no training, or a damaged one.
    """
    path = folder / TRAINING
    if not path.is_file():
        raise UnreadableTrace(
            f"{folder}: no {TRAINING} there; name a folder that `specmeasure heads train` wrote."
        )
    try:
        return msgspec.json.decode(path.read_bytes(), type=TrainedHeads)
    except (msgspec.MsgspecError, ValueError) as error:
        raise UnreadableTrace(f"{path}: damaged, or of another version: {error}") from error


def training_as_json(trained: TrainedHeads) -> str:
    """The same as training.json."""
    return plain(trained).decode()


def _read_again(trained: TrainedHeads, folder: Path, sources: Sequence[str]) -> Corpus:
    if "-" in trained.corpus.sources and not sources:
        raise UsageError(
            f"{folder}: its prompts came from stdin. Pipe them in again: specmeasure heads train - "
            f"--resume {folder}"
        )
    corpus = read_prompts(sources or trained.corpus.sources, trained.corpus.options)
    if corpus.fingerprint != trained.corpus.fingerprint:
        raise UsageError(
            f"{folder}: the prompts are not those of the interrupted training (fingerprint "
            f"{corpus.fingerprint[:12]}, then {trained.corpus.fingerprint[:12]}). Give the same "
            "files, or start a new training."
        )
    return corpus


def _refuse_existing(folder: Path, *, replace_heads: bool) -> None:
    if is_replay(folder):
        raise UsageError(f"{folder} holds a replay. Name another folder with --out.")
    if (folder / TRAINING).is_file() and not replace_heads:
        raise UsageError(
            f"{folder} already holds trained heads, or a training. Continue it with --resume "
            f"{folder}, name another folder with --out, or replace it with --force."
        )


def _load(request: HeadTrainingRequest, watchers: Watchers) -> "ReplayEngine":
    from specmeasure.engines.replay import ReplayEngine

    watchers.stage("loading the target")
    engine = ReplayEngine.load(request.request.plan, most_threads=free_cores())
    for warning in engine.warnings:
        watchers.warning(warning)
    return engine


def _record(
    trained: TrainedHeads,
    engine: "ReplayEngine",
    prompts: Sequence[Prompt],
    folder: Path,
    watchers: Watchers,
) -> TrainedHeads:
    from specmeasure.run.head_training import HeadsTraining

    return HeadsTraining(engine, folder, watchers).train(trained, prompts)
