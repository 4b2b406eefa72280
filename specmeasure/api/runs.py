"""Runs: from prompts and a plan to a trace."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from specmeasure.api import served_runs
from specmeasure.api.answers import grading_notes
from specmeasure.api.arms import lossy_notes
from specmeasure.api.beginnings import open_folder, read_again, read_asked, state
from specmeasure.api.prompts import asked_samplings, budget_notes, keep_fitting, sample_fitting
from specmeasure.api.sequential import (
    announce_looks,
    looks_over,
    num_trials,
    shuffled,
    until_decided,
)
from specmeasure.errors import UsageError
from specmeasure.estimate.running import RunningSums
from specmeasure.records.corpus import Corpus, Dropped, Prompt
from specmeasure.records.plan import Plan
from specmeasure.records.request import Request
from specmeasure.records.serving import Endpoint
from specmeasure.records.trace import Manifest, Trace
from specmeasure.run.environment import environment, free_cores, load_average, load_warning
from specmeasure.run.watch import SILENT, WatchedJournal, Watchers
from specmeasure.trace import store

if TYPE_CHECKING:
    from specmeasure.engines.engine import Engine
    from specmeasure.engines.models import LoadedModels


def start(  # noqa: PLR0913 - what a caller may say of a run that is no part of it
    request: Request,
    folder: Path,
    *,
    replace_run: bool = False,
    run_code: bool = False,
    watchers: Watchers = SILENT,
    loaded: "LoadedModels | None" = None,
) -> Trace:
    """Record a new run into ``folder`` and seal it.

    A run that goes on until it is decided takes its prompts in a shuffled order and looks at what
    was recorded at moments that its manifest names; it ends at the first look that is GO or NO_GO.

    Args:
        request: what to run.
        folder: where; it must not hold a run.
        replace_run: delete the run that it holds.
        run_code: whether answers may be run to grade them, as the plan may ask.
        watchers: told what happens.
        loaded: the plan's target, where it is in memory already.

    Raises:
        SpecmeasureError: bad input (before any model is loaded), models, or an interruption.
    """
    plan = request.plan
    corpus = read_asked(
        request, folder, replace_run=replace_run, run_code=run_code, watchers=watchers
    )
    if plan.serving:
        session = served_runs.Session(
            folder=folder, plan=plan, corpus=corpus, watchers=watchers, run_code=run_code
        )
        return served_runs.start(session, request, replace_run=replace_run)
    load_before = load_average()
    engine, fitting, misfits = _ready(plan, corpus, watchers, loaded)
    machine = environment(engine.num_threads, load_before)
    prompts = sample_fitting(fitting, corpus, request.options)
    if request.until_decided:
        prompts = shuffled(prompts, plan.seed)
    notes = [*corpus.warnings, *budget_notes(plan, prompts)]
    notes += [*lossy_notes(plan), *grading_notes(plan, prompts)]
    notes += [busy] if (busy := load_warning(machine)) else []
    for note in notes:
        watchers.warning(note)
    manifest = replace(
        state(request, corpus, prompts, misfits, machine),
        models=engine.models,
        num_planned_trials=num_trials(plan, prompts),
        looks=looks_over(plan, prompts, request.policy) if request.until_decided else (),
        warnings=(*engine.warnings, *notes),
    )
    open_folder(folder, manifest, replace_run=replace_run)
    return _record(manifest, engine, prompts, folder, watchers, run_code=run_code)


def resume(  # noqa: PLR0913 - what may have changed since, each by keyword
    folder: Path,
    sources: Sequence[str] = (),
    *,
    endpoints: Sequence[Endpoint] = (),
    request_timeout_s: float | None = None,
    run_code: bool = False,
    watchers: Watchers = SILENT,
) -> Trace:
    """Finish an interrupted run; a sealed one is returned as it is.

    Args:
        folder: of the run.
        sources: where the prompts are now, if they moved or came from stdin.
        endpoints: where attached servers are now, if they moved or were not there yet.
        request_timeout_s: seconds that a server's answer may take now; None: as before.
        run_code: as for ``start``; it is asked for again.
        watchers: told what happens.

    Raises:
        UsageError: the prompts are not those of the run.
    """
    trace = store.read_trace(folder)
    if trace.sealed:
        return trace
    manifest = trace.manifest
    corpus = read_again(manifest, folder, sources, run_code=run_code)
    if manifest.plan.serving:
        plan = served_runs.with_timeout(manifest.plan, request_timeout_s)
        session = served_runs.Session(
            folder=folder, plan=plan, corpus=corpus, watchers=watchers, run_code=run_code
        )
        return served_runs.resume(session, manifest, endpoints)
    if endpoints:
        raise UsageError(f"{folder}: this run uses no servers; leave out the URLs.")
    same_threads = replace(manifest.plan.options, num_threads=manifest.environment.num_threads)
    plan = replace(manifest.plan, options=same_threads)
    engine, fitting, _ = _ready(plan, corpus, watchers)
    if engine.models != manifest.models:
        raise UsageError(
            f"{folder}: the models are not those of the interrupted run (or dtype or device "
            "differ). Give the same models, or start a new run."
        )
    prompts = sample_fitting(fitting, corpus, manifest.corpus.options)
    if manifest.looks:
        prompts = shuffled(prompts, plan.seed)
    return _record(manifest, engine, prompts, folder, watchers, run_code=run_code)


def read_trace(folder: Path) -> Trace:
    """A recorded run, finished or not."""
    return store.read_trace(folder)


def _ready(
    plan: Plan, corpus: Corpus, watchers: Watchers, loaded: "LoadedModels | None" = None
) -> tuple["Engine", tuple[Prompt, ...], tuple[Dropped, ...]]:
    """The engine, and the prompts that its models can hold."""
    from specmeasure.engines.transformers import TransformersEngine

    watchers.stage("loading models")
    engine = TransformersEngine.load(
        plan,
        most_threads=free_cores(),
        loaded=loaded,
        samplings=asked_samplings(plan, corpus.prompts),
    )
    for warning in engine.warnings:
        watchers.warning(warning)
    limits = [limit for arm in plan.arms if (limit := engine.context_limit(arm)) is not None]
    fitting, misfits = keep_fitting(corpus, engine, plan, min(limits, default=None))
    return engine, fitting, misfits


def _record(  # noqa: PLR0913 - all that ``start`` has made ready
    manifest: Manifest,
    engine: "Engine",
    prompts: tuple[Prompt, ...],
    folder: Path,
    watchers: Watchers,
    *,
    run_code: bool = False,
) -> Trace:
    from specmeasure.run.recorder import Recorder

    with store.Journal(folder) as journal:
        if store.is_sealed(folder):  # by another process, while the models were loading
            store.seal_run(folder)
            return store.read_trace(folder)
        journal.drop_torn_line()
        sums = RunningSums(manifest.plan.arms)
        recorded = {}
        for trial in store.read_trace(folder).trials:
            sums.add(trial)
            recorded[trial.key] = replace(trial, blocks=())
        recorder = Recorder(
            plan=manifest.plan,
            engine=engine,
            journal=WatchedJournal(journal=journal, sums=sums, watchers=watchers),
            recorded=recorded,
            on_trial=lambda _: watchers.trial(),
            run_code=run_code,
        )
        watchers.stage("warming up")
        recorder.warm_up(prompts)
        if manifest.looks:
            watchers.stage(announce_looks(manifest.looks))
        watchers.planned(manifest.num_planned_trials)
        recorder.record(
            until_decided(
                prompts,
                manifest.looks,
                read_trace=lambda: store.read_trace(folder),
                say=watchers.stage,
            )
        )
        store.seal_run(folder)
    return store.read_trace(folder)
