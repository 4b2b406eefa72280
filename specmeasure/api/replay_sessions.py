"""Where a replay's models are while it is recorded: in this process, or with workers of a fleet."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from specmeasure.records.machine import Environment, Fleet, Worker
from specmeasure.records.plan import Sampling
from specmeasure.records.replay import ReplayRequest
from specmeasure.run.cores import free_cores, thread_cap
from specmeasure.run.crowding import CpuMeter
from specmeasure.run.environment import (
    busy_notes,
    environment,
    introduction,
    load_average,
    team_notes,
)
from specmeasure.run.watch import Watchers

if TYPE_CHECKING:
    from specmeasure.engines.models import LoadedModels
    from specmeasure.run.replay_workers import PooledTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A target that is ready, and what is known of where it is."""

    target: "PooledTarget"
    environment: Environment  # of this process
    warnings: tuple[str, ...] = ()
    workers: tuple[Worker, ...] = ()  # of a fleet; empty in this process
    machine: str | None = None  # what a cost table calls it; None: the workers that timed
    loaded: "LoadedModels | None" = None  # in this process, also once the session is over

    def busy_notes(self) -> list[str]:
        """What to tell of machines that are too full for what will be timed."""
        return team_notes(self.workers) if self.workers else busy_notes(self.environment)


@contextmanager
def replaying(
    request: ReplayRequest,
    samplings: Sequence[Sampling],
    watchers: Watchers,
    *,
    before: Sequence[Worker] = (),
) -> Iterator[Session]:
    """Load the target and heads on it; give memory back at the end, but for the target's here.

    Args:
        request: what is replayed, and where.
        samplings: all that answers are decoded with.
        watchers: told what happens.
        before: workers of earlier sessions.

    Raises:
        SpecmeasureError: models that cannot be loaded, or a cluster that lacks what is asked of it.
    """
    if request.request.plan.options.num_threads is None and (cap := thread_cap()):
        watchers.stage(f"no more than {cap[1]} CPU threads are tried: {cap[0]} says so")
    watchers.stage("loading the target")
    fleet = request.request.fleet
    opened = (
        _in_process(request, samplings)
        if fleet is None
        else _on_fleet(request, fleet, samplings, watchers, before)
    )
    with opened as session:
        for warning in session.warnings:
            watchers.warning(warning)
        yield session


@contextmanager
def _in_process(request: ReplayRequest, samplings: Sequence[Sampling]) -> Iterator[Session]:
    from specmeasure.engines.replay import ReplayEngine
    from specmeasure.run.crew import Facts, InProcessCrew, Share
    from specmeasure.run.pool import Pool
    from specmeasure.run.replay_station import ReplayStation
    from specmeasure.run.replay_workers import PooledTarget, ReplayWorkers

    plan, load_before, meter = request.request.plan, load_average(), CpuMeter()
    engine = ReplayEngine.load(plan, most_threads=free_cores(), samplings=samplings)
    machine = environment(engine.num_threads, load_before, meter.end())
    facts = Facts(environment=machine, models=(engine.target_facts,), warnings=engine.warnings)
    crew = InProcessCrew(
        lambda _: ReplayStation(engine, plan, facts), Share(num_cores=engine.num_threads)
    )
    with Pool(crew) as pool:
        workers = ReplayWorkers(pool)
        yield Session(
            target=PooledTarget(
                known=workers.describe(), texts=engine, workers=workers, splits=False
            ),
            environment=machine,
            warnings=engine.warnings,
            machine=f"{machine.cpu}, {machine.num_threads} threads",
            loaded=engine.loaded,
        )
    engine.loaded.drop_drafts()


@contextmanager
def _on_fleet(
    request: ReplayRequest,
    fleet: Fleet,
    samplings: Sequence[Sampling],
    watchers: Watchers,
    before: Sequence[Worker],
) -> Iterator[Session]:
    """Counts do not depend on hardware: unlike workers are refused where runs are to follow."""
    from specmeasure.engines.replayed_target import TargetTexts
    from specmeasure.run.ray_pool import ray_pool
    from specmeasure.run.replay_station import LoadsReplayedModels
    from specmeasure.run.replay_workers import PooledTarget, ReplayWorkers

    plan, load_before = request.request.plan, load_average()
    makes = LoadsReplayedModels(plan=plan, samplings=tuple(samplings))
    pooled = replace(fleet, pools_hardware=fleet.pools_hardware or not request.num_confirmed)
    numbered_from = max((one.number for one in before), default=-1) + 1
    with ray_pool(pooled, makes, numbered_from=numbered_from, say=watchers.stage) as pool:
        for worker in pool.workers:
            watchers.stage(introduction(worker))
        workers = ReplayWorkers(pool, watchers)
        known = workers.describe()
        yield Session(
            target=PooledTarget(
                known=known,
                texts=TargetTexts.load(plan, known.end_ids),
                workers=workers,
                splits=True,
            ),
            environment=environment(pool.lead.environment.num_threads, load_before),
            warnings=pool.warnings,
            workers=pool.workers,
        )
