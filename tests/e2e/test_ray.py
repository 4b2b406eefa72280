"""Runs over workers of a real Ray cluster of two nodes on this machine."""

import json
import pickle
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from specmeasure.api import fleets, runs
from specmeasure.api.prompts import read_prompts
from specmeasure.errors import ClusterError, ModelNotFound
from specmeasure.records.machine import Fleet
from specmeasure.records.plan import BASELINE, Arm, Method, ModelOptions, Plan
from specmeasure.records.request import Request
from specmeasure.records.trace import TrialRecord
from specmeasure.run.fleet_recorder import FleetRecorder, whole_turns
from specmeasure.run.ray_pool import import_ray, ray_pool
from specmeasure.run.watch import Watchers
from tests.e2e.ray_workers import FakesModels, fails_with_text, lacks_models, slow_fakes
from tests.fakes import make_chat, make_plan, make_prompts, planned_keys
from tests.run.test_fleet import MemoryJournals, by_one, counts

pytest.importorskip("ray", reason="ray is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]  # one cluster at a time

PLAN = make_plan(num_repeats=2)
TALKS = [*make_prompts(20), make_chat("talk", 3)]
NODE = {"num_cpus": 2, "num_gpus": 0, "object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and another node, of two cores each as far as Ray knows."""
    import_ray()
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=NODE)
    made.add_node(**NODE)
    yield made
    made.shutdown()


def fleet_of(cluster: Any, num_workers: int = 3, **changes: Any) -> Fleet:
    return Fleet(address=cluster.address, num_workers=num_workers, **changes)


def test_a_killed_worker_costs_its_turn_alone(cluster: Any, tmp_path: Path) -> None:
    """All planned trials are recorded, as by one process; pairs stay on one worker."""
    make = FakesModels(plan=PLAN, mark=tmp_path / "killed", fatal_prompt="talk")
    journals, told, warnings = MemoryJournals(), [], []
    watchers = Watchers(trial=lambda: told.append(1), warning=warnings.append)
    with ray_pool(fleet_of(cluster), make) as pool:
        recorder = FleetRecorder(plan=PLAN, pool=pool, watchers=watchers)
        recorder.record(TALKS, journals, warm_up=TALKS[:1])
        nodes = {worker.node for worker in pool.workers}

    keys = planned_keys(PLAN, TALKS)
    workers = defaultdict(set)
    for key, trial in journals.last.items():
        workers[key.prompt_id, key.turn].add(trial.worker)
    assert (tmp_path / "killed").exists()
    assert by_one_without_limit() == {key: counts(one) for key, one in journals.last.items()}
    assert {1} == set(map(len, workers.values()))
    assert len(keys) == len(told)
    assert len(keys) + 2 == sum(map(len, journals.trials.values()))
    assert any("killed" in warning for warning in warnings)
    assert 2 == len(nodes)


def test_a_lost_node_costs_its_turn_alone(cluster: Any) -> None:
    """The workers of other nodes finish the run."""
    node = cluster.add_node(**NODE)
    make = FakesModels(plan=PLAN, observe_sleep_s=0.05)
    journals, told = MemoryJournals(), []

    def count() -> None:
        told.append(1)
        if len(told) == 20:
            cluster.remove_node(node, allow_graceful=False)

    with ray_pool(fleet_of(cluster), make) as pool:
        assert 3 == len({worker.node for worker in pool.workers})
        recorder = FleetRecorder(plan=PLAN, pool=pool, watchers=Watchers(trial=count))
        recorder.record(TALKS, journals, warm_up=TALKS[:1])

    assert by_one_without_limit() == {key: counts(one) for key, one in journals.last.items()}
    assert len(planned_keys(PLAN, TALKS)) == len(told)


def test_an_error_of_the_set_up_names_the_node(cluster: Any) -> None:
    """It is our own, with its remedy."""
    with (
        pytest.raises(ModelNotFound, match=r"On node .*no folder /models/target\. Give one"),
        ray_pool(fleet_of(cluster), lacks_models),
    ):
        pass


def test_no_text_comes_back_with_a_foreign_error(cluster: Any) -> None:
    """It may hold a prompt: its kind and place are told, and no log of Ray's holds it either."""
    with (
        pytest.raises(ClusterError, match=r"KeyError at ray_workers\.py") as caught,
        ray_pool(fleet_of(cluster), fails_with_text),
    ):
        pass

    logs = list(Path(cluster.head_node.get_logs_dir_path()).rglob("*.*"))
    assert "private" not in str(caught.value)
    assert logs
    assert not any(b"a private prompt" in path.read_bytes() for path in logs if path.is_file())


def test_too_many_workers_are_refused(cluster: Any) -> None:
    """At once, with what the cluster has."""
    with (
        pytest.raises(ClusterError, match=r"9 workers .* 2 cores .* room for 4: lower --workers"),
        ray_pool(fleet_of(cluster, 9), lacks_models),
    ):
        pass


def by_one_without_limit() -> dict[Any, Any]:
    return by_one(PLAN, TALKS)


def asked(tmp_path: Path, plan: Plan, fleet: Fleet | None = None, num_prompts: int = 6) -> Request:
    """Completions."""
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"Once upon a time number {n} there was"} for n in range(num_prompts)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Request(plan=plan, sources=(str(prompts),), fleet=fleet)


def shown(trial: TrialRecord) -> str:
    """Everything of a trial but its times and where it ran."""
    blocks = [replace(block, draft_s=0.0, verify_s=0.0) for block in trial.blocks]
    return repr((trial.key, trial.ids_hash, trial.finish_reason, trial.audit, blocks))


def test_one_run_by_one_process_and_by_three_workers(cluster: Any, tmp_path: Path) -> None:
    """The same greedy tokens, block for block; the sealed trace says who measured what."""
    draft = {"num_speculative_tokens": 3, "draft": "embedded:draft"}
    arm = Arm(name="draft", method=Method.DRAFT_MODEL, **draft)
    options = ModelOptions(num_threads=1)
    plan = Plan(target="embedded:target", arms=(BASELINE, arm), max_new_tokens=12, options=options)
    alone = runs.start(asked(tmp_path, plan), tmp_path / "alone")
    shared = runs.start(asked(tmp_path, plan, fleet_of(cluster)), tmp_path / "shared")

    order = [trial.worker for trial in shared.trials]
    assert shared.sealed
    assert [0, 1, 2] == [worker.number for worker in shared.manifest.workers]
    assert sorted(map(shown, alone.trials)) == sorted(map(shown, shared.trials))
    assert alone.manifest.models == shared.manifest.models
    assert sorted(order) == order


def test_a_killed_driver_is_resumed_with_other_workers(cluster: Any, tmp_path: Path) -> None:
    """After kill -9 whole turns are kept, and the sealed trace is that of one process."""
    plan = make_plan()
    request, folder = asked(tmp_path, plan, fleet_of(cluster, 2), 40), tmp_path / "run"
    (tmp_path / "request").write_bytes(pickle.dumps(request))
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.ray_workers", tmp_path / "request", folder]
    )
    while len(_journal_lines(folder)) < 20:
        assert driver.poll() is None
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    assert not (folder / "sealed.json").exists()
    with (folder / "journal-0.jsonl").open("ab") as journal:
        journal.write(b'{"torn')
    kept = whole_turns(plan, runs.read_trace(folder).trials)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fleets, "LoadsModels", slow_fakes)
        trace = runs.resume(folder, fleet=fleet_of(cluster, 1))
    prompts = read_prompts(request.sources, request.options).prompts
    one = by_one(plan, prompts)
    last = {trial.key: counts(trial) for trial in trace.trials}
    assert trace.sealed
    assert one == {key: replace(trial, blocks=tuple(trial.blocks)) for key, trial in last.items()}
    assert len(one) == len(trace.trials)
    assert [0, 1, 2] == [worker.number for worker in trace.manifest.workers]
    earlier = {trial.key for trial in trace.trials if trial.worker in {0, 1}}
    assert {trial.key for trials in kept.values() for trial in trials} == earlier
    assert earlier


def _journal_lines(folder: Path) -> list[bytes]:
    journals = folder.glob("journal-*.jsonl")
    return [line for path in journals for line in path.read_bytes().splitlines()]
