"""A replay over workers of a real two-node Ray cluster, on loopback."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from specmeasure import demo
from specmeasure.api import replay_sessions
from specmeasure.api.candidates import Drafters, NgramSizes, plan_candidates
from specmeasure.api.replays import read_replay, resume_replay, start_replay
from specmeasure.records.machine import Fleet
from specmeasure.records.plan import BASELINE, ModelOptions, Plan
from specmeasure.records.replay import ReplayRequest, ReplayTrace
from specmeasure.records.request import Request
from specmeasure.run.ray_pool import import_ray
from specmeasure.run.watch import Watchers
from specmeasure.trace import replays

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),  # one cluster at a time
    pytest.mark.usefixtures("timed_briefly"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own, in threads of its own
]

PLANTED = "zyxquorble"  # a word that no model says, to be looked for
NUM_PROMPTS, NUM_TURNS = 11, 12
NODE = {"num_cpus": 2, "num_gpus": 0, "object_store_memory": 80_000_000}


@dataclass(frozen=True)
class Nodes:
    """A running cluster."""

    address: str
    logs: Path


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """Two nodes, of two cores each as far as Ray knows."""
    import_ray()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    cluster.add_node(**NODE)
    yield Nodes(cluster.address, Path(cluster.head_node.get_logs_dir_path()))
    cluster.shutdown()


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions of many lengths, the first with a second turn."""
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    rows: list[dict[str, Any]] = [
        {"id": f"p{i}", "turns": [f"Why do {i} cats sleep{', and sleep' * i}? {PLANTED}"]}
        for i in range(NUM_PROMPTS)
    ]
    rows[0]["turns"].append(f"And dogs, {PLANTED}?")
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def request_for(source: Path, fleet: Fleet | None) -> ReplayRequest:
    candidates = plan_candidates(Drafters(drafts=[demo.DRAFT], ngrams=[NgramSizes()]), most=3)
    plan = Plan(
        target=demo.TARGET,
        arms=(BASELINE, *candidates),
        max_new_tokens=12,
        options=ModelOptions(device="cpu", dtype="float32", num_threads=1),
    )
    request = Request(plan=plan, sources=(str(source),), fleet=fleet)
    return ReplayRequest(request=request, batch_size=2)


def over(nodes: Nodes, num_workers: int) -> Fleet:
    return Fleet(address=nodes.address, num_workers=num_workers)


@pytest.fixture(scope="module")
def alone(prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> ReplayTrace:
    """The same replay in this process."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(replay_sessions, "free_cores", lambda: 1)
        return start_replay(request_for(prompts, None), tmp_path_factory.mktemp("alone") / "r")


@pytest.fixture(scope="module")
def folder(nodes: Nodes, prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same replay over three workers, and its best candidate run for real."""
    folder = tmp_path_factory.mktemp("three") / "r"
    start_replay(replace(request_for(prompts, over(nodes, 3)), num_confirmed=1), folder)
    return folder


@pytest.fixture(scope="module")
def three(folder: Path) -> ReplayTrace:
    return read_replay(folder)


def test_three_workers_give_what_this_process_gives(alone: ReplayTrace, three: ReplayTrace):
    """Answers and scores, bit for bit, and what candidates weigh."""
    assert NUM_TURNS == len(three.answers)
    assert alone.answers == three.answers
    assert (alone.target, alone.scores) == (three.target, three.scores)
    assert alone.candidates == three.candidates


def test_the_manifest_has_all_workers(three: ReplayTrace):
    """Each with its node, and the table says which of them timed."""
    workers = three.manifest.workers

    assert [0, 1, 2] == [worker.number for worker in workers]
    assert 2 == len({worker.node for worker in workers})
    assert three.costs.machine.endswith(" (worker 0; the others had nothing to do)")


def worker_processes() -> list[int]:
    """Actors below this process."""
    return [
        process.pid
        for process in psutil.Process().children(recursive=True)
        if "ray::RayWorker" in " ".join(process.cmdline()[:1])
    ]


def test_a_killed_worker_and_an_interruption_change_nothing(
    nodes: Nodes, prompts: Path, three: ReplayTrace, tmp_path: Path
):
    """What was lost is done by others; later workers have numbers of their own."""
    folder, seen, warnings = tmp_path / "r", [], []

    def trial() -> None:
        seen.append(None)
        if len(seen) == 3:
            os.kill(min(worker_processes()), signal.SIGKILL)
        if len(seen) == NUM_TURNS + 5:
            raise KeyboardInterrupt

    watchers = Watchers(trial=trial, warning=warnings.append)
    with pytest.raises(KeyboardInterrupt):
        start_replay(request_for(prompts, over(nodes, 2)), folder, watchers=watchers)
    num_before = len(replays.read_replay_manifest(folder).workers)
    trace = resume_replay(folder)

    assert any("is lost; what it was at goes to another" in warning for warning in warnings)
    assert (three.answers, three.target) == (trace.answers, trace.target)
    assert three.scores == trace.scores
    assert list(range(num_before + 2)) == [one.number for one in trace.manifest.workers]


def test_best_candidates_are_run_over_the_same_fleet(folder: Path):
    """The workers of the replay are gone by then, and those of the run have their cores."""
    manifest = json.loads((folder / "confirm" / "manifest.json").read_text())

    assert 3 == len(manifest["workers"])
    assert not (folder / replays.PARTS).exists()


def test_ray_logs_no_word_of_a_prompt(nodes: Nodes, three: ReplayTrace):
    """Neither tasks nor errors are in the logs of any node."""
    logs = [path for path in nodes.logs.parent.rglob("*") if path.is_file()]

    assert three.answers
    assert len(logs) > 5
    assert [] == [path.name for path in logs if PLANTED.encode() in path.read_bytes()]
