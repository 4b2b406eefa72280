"""Runs over the workers of a Ray cluster: prompts handed out, one journal a worker."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from specmeasure.api.answers import grading_notes
from specmeasure.api.arms import lossy_notes
from specmeasure.api.beginnings import open_folder, state
from specmeasure.api.prompts import asked_samplings, budget_notes, sample_fitting, sort_out
from specmeasure.api.sequential import num_trials
from specmeasure.errors import UsageError
from specmeasure.records.corpus import Corpus, Dropped, Prompt
from specmeasure.records.machine import Environment, Fleet
from specmeasure.records.plan import ModelOptions, Plan
from specmeasure.records.request import Request
from specmeasure.records.trace import Manifest, Trace
from specmeasure.run.alike import unlikeness
from specmeasure.run.crowding import OTHERS, OTHERS_OF_A_TEAM, CrowdingWatch
from specmeasure.run.environment import environment, introduction, load_average, team_notes
from specmeasure.run.fleet_recorder import FleetRecorder
from specmeasure.run.measuring import Finding, LoadsModels, Task
from specmeasure.run.pool import Pool
from specmeasure.run.ray_pool import ray_pool
from specmeasure.run.schedule import middling_and_longest
from specmeasure.run.watch import Watchers
from specmeasure.trace import store


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What one session of a run over workers is about.

    Args:
        folder: of the run.
        corpus: its prompts.
        watchers: told what happens.
        run_code: whether answers may be run to grade them.
    """

    folder: Path
    corpus: Corpus
    watchers: Watchers
    run_code: bool = False


def refuse_unshared(request: Request, *, is_timed: bool = True) -> None:
    """Raise UsageError where a run cannot be shared out over workers; see ``refuse_shares``."""
    if request.until_decided:
        raise UsageError(
            "--until-decided looks at prompts in an order fixed before, and workers finish them in "
            "another. Leave it out, or leave --ray out."
        )
    if request.plan.serving is not None:
        raise UsageError("--ray is for models in specmeasure's own processes; servers have theirs.")
    if request.fleet is not None:
        refuse_shares(request.plan.options, request.fleet, is_timed=is_timed)


def refuse_shares(options: ModelOptions, fleet: Fleet, *, is_timed: bool = True) -> None:
    """Raise UsageError where workers would have too little of a GPU.

    Args:
        options: of the models.
        fleet: as asked for.
        is_timed: whether workers time anything while others are at work.
    """
    if is_timed and fleet.shares_gpus:
        raise UsageError(
            f"--gpus-per-worker {fleet.gpus_per_worker:g}: workers on one GPU slow each other, so "
            "that times of one are noise in the other's. Pass --gpus-per-worker 1."
        )
    wants_gpu = options.device.startswith("cuda") or options.device_map is not None
    if wants_gpu and not fleet.gpus_per_worker:
        raise UsageError(
            "the models are to be on a GPU, and workers get none. Pass --gpus-per-worker 1, or "
            "more for models that several share."
        )


def start(session: Session, request: Request, fleet: Fleet, *, replace_run: bool) -> Trace:
    """Record a new run into the session's folder and seal it; see ``runs.start``."""
    corpus, watchers, load_before = session.corpus, session.watchers, load_average()
    with _ready(session, request.plan, fleet) as team:
        fitting, misfits = team.sort_out(corpus)
        prompts = sample_fitting(fitting, corpus, request.options)
        notes = [*corpus.warnings, *budget_notes(request.plan, prompts)]
        notes += [*lossy_notes(request.plan), *grading_notes(request.plan, prompts)]
        notes += team_notes(team.pool.workers)
        for note in notes:
            watchers.warning(note)
        lead = team.pool.lead
        manifest = replace(
            state(
                request,
                corpus,
                prompts,
                misfits,
                environment(lead.environment.num_threads, load_before),
            ),
            models=lead.models,
            num_planned_trials=num_trials(request.plan, prompts),
            warnings=(*team.pool.warnings, *notes),
            fleet=fleet,
            workers=team.pool.workers,
        )
        open_folder(session.folder, manifest, replace_run=replace_run)
        return team.record(manifest, prompts)


def resume(session: Session, manifest: Manifest, fleet: Fleet) -> Trace:
    """Finish an interrupted run with workers that are like those it had.

    Raises:
        UsageError: models, software or hardware are not those of the run, or another process went
            on with it meanwhile.
    """
    refuse_shares(manifest.plan.options, fleet)
    before = manifest.workers[0]
    threads = replace(manifest.plan.options, num_threads=before.environment.num_threads)
    plan = replace(manifest.plan, options=threads)
    numbered_from = store.next_worker(session.folder, manifest.workers)
    with _ready(session, plan, fleet, numbered_from=numbered_from) as team:
        if team.pool.lead.models != manifest.models:
            raise UsageError(
                f"{session.folder}: the models are not those of the interrupted run (or dtype or "
                "device differ). Give the same models, or start a new run."
            )
        reason = unlikeness(before, team.pool.workers[0], pools_hardware=fleet.pools_hardware)
        if reason is not None:
            raise UsageError(f"{session.folder}: these are not workers like the run's. {reason}")
        fitting, _ = team.sort_out(session.corpus)
        prompts = sample_fitting(fitting, session.corpus, manifest.corpus.options)
        return team.record(manifest, prompts, fleet=fleet)


@dataclass(slots=True, kw_only=True)
class _Team:
    """Workers that are ready, and what they said of prompts."""

    session: Session
    pool: Pool[Task, Finding]
    recorder: FleetRecorder
    lengths: dict[str, int]  # of first contexts, by prompt

    def sort_out(self, corpus: Corpus) -> tuple[tuple[Prompt, ...], tuple[Dropped, ...]]:
        """The prompts that the models can hold, and those that they cannot, by reason."""
        self.session.watchers.stage("reading the prompts")
        fits = self.recorder.fits(corpus.prompts)
        pairs = zip(corpus.prompts, fits, strict=True)
        self.lengths = {prompt.prompt_id: fit.num_tokens for prompt, fit in pairs}
        return sort_out(corpus.prompts, fits)

    def record(
        self, manifest: Manifest, prompts: Sequence[Prompt], fleet: Fleet | None = None
    ) -> Trace:
        """Measure what is not recorded yet, and seal the run.

        Args:
            manifest: of the run.
            prompts: in its order.
            fleet: what a run that goes on was asked for now; None: it begins.
        """
        folder, watchers = self.session.folder, self.session.watchers
        with store.WorkerJournals(folder) as journals:
            if store.is_sealed(folder):  # by another process, while the models were loading
                store.seal_run(folder)
                return store.read_trace(folder)
            if fleet is not None:
                self._enter(fleet)
            recorded = store.read_trace(folder).trials
            self.recorder.joined = lambda worker: store.add_workers(folder, [worker])
            self.recorder.crowding = CrowdingWatch(
                environment_of=self._environment_of,
                device=manifest.models[0].device,
                tell=watchers.warning,
                others=OTHERS_OF_A_TEAM if self.pool.num_workers > 1 else OTHERS,
            )
            watchers.stage("warming up, then measuring")
            watchers.planned(manifest.num_planned_trials)
            lengths = [self.lengths[prompt.prompt_id] for prompt in prompts]
            self.recorder.record(
                prompts,
                journals,
                warm_up=middling_and_longest(prompts, lengths),
                recorded=recorded,
            )
            store.seal_run(folder)
        return store.read_trace(folder)

    def _enter(self, fleet: Fleet) -> None:
        """Add all workers of this session to the run; its folder is locked."""
        folder, pool = self.session.folder, self.pool
        known = store.read_manifest(folder).workers
        if store.next_worker(folder, known) > pool.numbered_from:
            raise UsageError(
                f"{folder}: another process went on with this run while models were loaded here. "
                "Resume it again."
            )
        store.add_workers(folder, pool.workers, fleet)

    def _environment_of(self, number: int | None) -> Environment:
        """Where a worker of this session is."""
        place = (number or 0) - self.pool.numbered_from
        return self.pool.workers[place].environment


@contextmanager
def _ready(
    session: Session, plan: Plan, fleet: Fleet, *, numbered_from: int = 0
) -> Iterator[_Team]:
    """Workers with the plan's models."""
    watchers = session.watchers
    make = LoadsModels(
        plan=plan,
        samplings=asked_samplings(plan, session.corpus.prompts),
        run_code=session.run_code,
    )
    with ray_pool(fleet, make, numbered_from=numbered_from, say=watchers.stage) as pool:
        for worker in pool.workers:
            watchers.stage(introduction(worker))
        for warning in pool.warnings:
            watchers.warning(warning)
        recorder = FleetRecorder(plan=plan, pool=pool, watchers=watchers)
        yield _Team(session=session, pool=pool, recorder=recorder, lengths={})
