"""Sessions of a run over workers: what its manifest names, and what is refused when it goes on."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from specmeasure.api import beginnings, fleets, runs
from specmeasure.errors import UsageError, WorkersLost
from specmeasure.records.machine import Fleet
from specmeasure.records.plan import ModelOptions, Plan
from specmeasure.records.request import Request
from specmeasure.run.crew import Facts, Share
from specmeasure.run.crowding import Unmetered
from specmeasure.run.measuring import FitPrompts, Measure, MeasuringStation
from specmeasure.run.pool import Pool
from specmeasure.trace import store
from tests.fakes import FakeEngine, make_environment, make_plan
from tests.run.crews import MortalCrew

PLAN = make_plan()
FLEET = Fleet(address="local", num_workers=2)


class Cluster:
    """Where workers with fake engines come from, in the place of Ray."""

    def __init__(self) -> None:
        self.dies: Any = lambda _who, _task, _told: False
        self.most_hired = 1000
        self.loaded: Any = lambda: None  # called when all workers are ready
        self.cpu = "a CPU"

    def station(self, _: Share) -> MeasuringStation:
        engine = FakeEngine(plan=PLAN)
        facts = Facts(environment=make_environment(cpu=self.cpu), models=engine.models)
        return MeasuringStation(PLAN, engine, facts, meter=Unmetered())

    @contextmanager
    def pool(self, fleet: Fleet, _: Any, *, numbered_from: int, say: Any) -> Iterator[Any]:
        crew = MortalCrew(self.station, dies=self.dies, most_hired=self.most_hired)
        with Pool(
            crew,
            fleet.num_workers,
            pools_hardware=fleet.pools_hardware,
            numbered_from=numbered_from,
            say=say,
        ) as pool:
            self.loaded()
            yield pool


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(fleets, "ray_pool", made.pool)
    return made


@pytest.fixture
def begun(cluster: Cluster, tmp_path: Path) -> Path:
    """A run that ended in the middle, since nobody was left."""
    num_measured: list[Any] = []

    def dies(_who: int, task: Any, num_told: int) -> bool:
        num_measured.extend([task] * (isinstance(task, Measure) and num_told == 0))
        return len(num_measured) > 3

    cluster.dies, cluster.most_hired = dies, 2
    with pytest.raises(WorkersLost):
        runs.start(asked(tmp_path), tmp_path / "run")
    cluster.dies, cluster.most_hired = (lambda *_: False), 1000
    return tmp_path / "run"


def asked(tmp_path: Path, plan: Plan = PLAN, fleet: Fleet = FLEET) -> Request:
    prompts = tmp_path / "prompts.jsonl"
    rows = [json.dumps({"prompt": f"Once upon a time number {n} there was"}) for n in range(8)]
    prompts.write_text("\n".join(rows))
    return Request(plan=plan, sources=(str(prompts),), fleet=fleet)


def test_a_run_goes_on_with_workers_of_new_numbers(begun: Path) -> None:
    """The sealed trace can be read, and its manifest names everyone who measured."""
    trace = runs.resume(begun)

    assert trace.sealed
    assert [0, 1, 2, 3] == [worker.number for worker in trace.manifest.workers]
    assert {trial.worker for trial in trace.trials} <= {0, 1, 2, 3}
    assert 8 * len(PLAN.arms) == len(trace.trials)


def test_a_run_that_another_process_finished_stays_as_it_is(cluster: Cluster, begun: Path) -> None:
    """Nothing is added to its manifest, whose digest the seal holds."""

    def finish() -> None:
        cluster.loaded = lambda: None
        runs.resume(begun)

    cluster.loaded = finish
    trace = runs.resume(begun)

    assert trace.sealed
    assert [0, 1, 2, 3] == [worker.number for worker in trace.manifest.workers]
    assert trace.trials == store.read_trace(begun).trials


def test_numbers_that_another_process_took_are_refused(cluster: Cluster, begun: Path) -> None:
    """Two workers of one number would be one in the trace."""

    def take() -> None:
        cluster.loaded = lambda: None
        store.add_workers(begun, [replace(store.read_manifest(begun).workers[0], number=2)])

    cluster.loaded = take
    with pytest.raises(UsageError, match="another process went on with this run"):
        runs.resume(begun)


def test_a_worker_that_came_while_prompts_were_read_is_named(cluster: Cluster, begun: Path) -> None:
    """It is in the manifest before its first trial."""
    cluster.dies = lambda who, task, _told: isinstance(task, FitPrompts) and who < 2
    trace = runs.resume(begun)
    numbers = {worker.number for worker in trace.manifest.workers}

    assert {0, 1, 2, 3, 4} <= numbers
    assert {trial.worker for trial in trace.trials} <= numbers


def test_a_number_that_only_a_journal_has_is_taken(begun: Path) -> None:
    """Its trials stay those of another worker."""
    (begun / "journal-7.jsonl").write_bytes(b"")
    trace = runs.resume(begun)

    assert [0, 1, 8, 9] == [worker.number for worker in trace.manifest.workers]


def test_what_is_asked_for_now_is_in_the_manifest(cluster: Cluster, begun: Path) -> None:
    """Hardware that is pooled from now on is pooled by the estimates too."""
    cluster.cpu = "another CPU"
    pooled = replace(FLEET, num_workers=3, pools_hardware=True)
    with pytest.raises(UsageError, match="another CPU"):
        runs.resume(begun)
    trace = runs.resume(begun, fleet=pooled)

    assert pooled == trace.manifest.fleet
    assert {"a CPU", "another CPU"} == {one.environment.cpu for one in trace.manifest.workers}


def test_a_run_with_workers_goes_on_from_another_machine(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver measures nothing; its versions must be the same."""
    here = store.read_manifest(begun).environment
    other = replace(here, cpu="a driver's", num_cores=99, accelerators=("GPU",), memory_bytes=1)
    newer = replace(other, versions={**here.versions, "specmeasure": "99"})
    monkeypatch.setattr(beginnings, "environment", lambda *_: newer)
    with pytest.raises(UsageError, match=r"\(versions differ\)"):
        runs.resume(begun)
    monkeypatch.setattr(beginnings, "environment", lambda *_: other)

    assert runs.resume(begun).sealed


@pytest.mark.parametrize("gpus", [0.5, 0.25])
def test_workers_do_not_time_beside_each_other_on_one_gpu(
    begun: Path, tmp_path: Path, gpus: float
) -> None:
    """Neither from the beginning nor later."""
    shared = replace(FLEET, gpus_per_worker=gpus)
    with pytest.raises(UsageError, match="--gpus-per-worker 1"):
        runs.start(asked(tmp_path, fleet=shared), tmp_path / "new")
    with pytest.raises(UsageError, match="--gpus-per-worker 1"):
        runs.resume(begun, fleet=shared)


def test_models_on_a_gpu_need_one_when_a_run_goes_on() -> None:
    """As when it began."""
    options = ModelOptions(device="cuda")

    with pytest.raises(UsageError, match="--gpus-per-worker 1"):
        fleets.refuse_shares(options, FLEET)
    fleets.refuse_shares(options, replace(FLEET, gpus_per_worker=2))
