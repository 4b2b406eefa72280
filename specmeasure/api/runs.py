"""Runs: from prompts and a plan to a trace."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from specmeasure.api import fleets, served_runs
from specmeasure.api.ahead import Ahead, look_ahead
from specmeasure.api.answers import grading_notes
from specmeasure.api.arms import lossy_notes
from specmeasure.api.beginnings import open_folder, read_again, read_asked, state
from specmeasure.api.prompts import asked_samplings, budget_notes
from specmeasure.api.sequential import (
    announce_looks,
    looks_over,
    num_trials,
    shuffled,
    until_decided,
)
from specmeasure.errors import UsageError
from specmeasure.estimate.running import RunningSums
from specmeasure.records.corpus import Corpus, CorpusOptions, Prompt
from specmeasure.records.machine import Fleet
from specmeasure.records.plan import Plan
from specmeasure.records.request import Request
from specmeasure.records.serving import Endpoint
from specmeasure.records.trace import Manifest, Trace
from specmeasure.run.cores import free_cores, thread_cap
from specmeasure.run.crowding import CpuMeter, watch_crowding
from specmeasure.run.environment import busy_notes, environment, load_average
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
    if request.fleet is not None:
        fleets.refuse_unshared(request)
    corpus = read_asked(
        request, folder, replace_run=replace_run, run_code=run_code, watchers=watchers
    )
    if plan.serving:
        session = served_runs.Session(
            folder=folder, plan=plan, corpus=corpus, watchers=watchers, run_code=run_code
        )
        return served_runs.start(session, request, replace_run=replace_run)
    if request.fleet is not None:
        team = fleets.Session(folder=folder, corpus=corpus, watchers=watchers, run_code=run_code)
        return fleets.start(team, request, request.fleet, replace_run=replace_run)
    load_before, meter = load_average(), CpuMeter()
    ahead, engine = _ready(plan, corpus, request.options, watchers, loaded=loaded)
    machine = environment(engine.num_threads, load_before, meter.end())
    prompts = ahead.prompts
    if request.until_decided:
        prompts = shuffled(prompts, plan.seed)
    notes = [*corpus.warnings, *budget_notes(plan, prompts)]
    notes += [*lossy_notes(plan), *grading_notes(plan, prompts)]
    notes += busy_notes(machine)
    for note in notes:
        watchers.warning(note)
    manifest = replace(
        state(request, corpus, prompts, ahead.misfits, machine),
        models=engine.models,
        num_planned_trials=num_trials(plan, prompts),
        looks=looks_over(plan, prompts, request.policy) if request.until_decided else (),
        warnings=(*ahead.warnings, *engine.warnings, *notes),
        memory=ahead.memory,
    )
    open_folder(folder, manifest, replace_run=replace_run)
    return _record(manifest, engine, prompts, folder, watchers, run_code=run_code)


def resume(  # noqa: PLR0913 - what may have changed since, each by keyword
    folder: Path,
    sources: Sequence[str] = (),
    *,
    endpoints: Sequence[Endpoint] = (),
    request_timeout_s: float | None = None,
    fleet: Fleet | None = None,
    run_code: bool = False,
    watchers: Watchers = SILENT,
) -> Trace:
    """Finish an interrupted run; a sealed one is returned as it is.

    Args:
        folder: of the run.
        sources: where the prompts are now, if they moved or came from stdin.
        endpoints: where attached servers are now, if they moved or were not there yet.
        request_timeout_s: seconds that a server's answer may take now; None: as before.
        fleet: workers now, if the run had workers and they are to be others; None: as before.
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
    if manifest.fleet is not None:
        team = fleets.Session(folder=folder, corpus=corpus, watchers=watchers, run_code=run_code)
        return fleets.resume(team, manifest, fleet or manifest.fleet)
    if fleet is not None:
        raise UsageError(f"{folder}: this run has no workers; leave out --ray.")
    same_threads = replace(manifest.plan.options, num_threads=manifest.environment.num_threads)
    plan = replace(manifest.plan, options=same_threads)
    ahead, engine = _ready(plan, corpus, manifest.corpus.options, watchers)
    if engine.models != manifest.models:
        raise UsageError(
            f"{folder}: the models are not those of the interrupted run (or dtype or device "
            "differ). Give the same models, or start a new run."
        )
    prompts = ahead.prompts
    if manifest.looks:
        prompts = shuffled(prompts, plan.seed)
    return _record(manifest, engine, prompts, folder, watchers, run_code=run_code)


def read_trace(folder: Path) -> Trace:
    """A recorded run, finished or not."""
    return store.read_trace(folder)


def _ready(
    plan: Plan,
    corpus: Corpus,
    options: CorpusOptions,
    watchers: Watchers,
    *,
    loaded: "LoadedModels | None" = None,
) -> tuple[Ahead, "Engine"]:
    """The prompts that the models can hold, and the engine, once it is known to fit."""
    from specmeasure.engines.transformers import TransformersEngine

    if plan.options.num_threads is None and (cap := thread_cap()):
        watchers.stage(f"no more than {cap[1]} CPU threads are tried: {cap[0]} says so")
    watchers.stage("counting tokens")
    ahead = look_ahead(plan, corpus, options, held_bytes=loaded.num_bytes if loaded else 0)
    for warning in ahead.warnings:
        watchers.warning(warning)
    watchers.stage("loading models")
    engine = TransformersEngine.load(
        plan,
        most_threads=free_cores(),
        loaded=loaded,
        samplings=asked_samplings(plan, corpus.prompts),
    )
    for warning in engine.warnings:
        watchers.warning(warning)
    return ahead, engine


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
            journal=WatchedJournal(
                journal=journal,
                sums=sums,
                watchers=watchers,
                crowding=watch_crowding(manifest, watchers.warning),
            ),
            recorded=recorded,
            on_trial=lambda _: watchers.trial(),
            run_code=run_code,
            meter=CpuMeter(),
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
