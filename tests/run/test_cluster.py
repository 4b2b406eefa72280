"""How workers fit a cluster, and what is said where they do not."""

import os
import sys

import pytest

from specmeasure.api import fleets
from specmeasure.errors import ClusterError, UsageError
from specmeasure.records.machine import Fleet
from specmeasure.records.plan import ModelOptions
from specmeasure.records.request import Request
from specmeasure.run.cluster import Node, lay_out
from specmeasure.run.ray_pool import niceness_notes, other_software, ray_pool
from tests.fakes import make_plan
from tests.run.test_pool import counting


def fleet_of(num_workers: int, gpus: float = 0, address: str = "local") -> Fleet:
    return Fleet(address=address, num_workers=num_workers, gpus_per_worker=gpus)


def node_of(num_cores: int, num_gpus: float = 0) -> Node:
    return Node(name="node", num_cores=num_cores, num_gpus=num_gpus)


@pytest.mark.parametrize(
    ("fleet", "nodes", "num_cores"),
    [
        (fleet_of(1), [node_of(8)], 8),
        (fleet_of(2), [node_of(8)], 4),
        (fleet_of(3), [node_of(8)], 2),
        (fleet_of(2), [node_of(8), node_of(2)], 4),
        (fleet_of(3), [node_of(8), node_of(3)], 3),
        (fleet_of(4, 1), [node_of(16, 4)], 4),
        (fleet_of(4, 2), [node_of(16, 4), node_of(16, 4)], 8),
        (fleet_of(3, 0.1), [node_of(3, 0.3)], 1),
    ],
)
def test_workers_share_what_there_is(fleet: Fleet, nodes: list[Node], num_cores: int) -> None:
    """All get the same number of cores, and as many as they all can have."""
    assert num_cores == lay_out(fleet, nodes).num_cores


@pytest.mark.parametrize(
    ("fleet", "nodes", "room"),
    [
        (fleet_of(3), [node_of(2)], 2),
        (fleet_of(2, 2), [node_of(8, 3)], 1),
        (fleet_of(1, 1), [node_of(8)], 0),
        (fleet_of(1), [], 0),
    ],
)
def test_too_many_are_refused(fleet: Fleet, nodes: list[Node], room: int) -> None:
    """With what there is, and for how many that is room."""
    with pytest.raises(ClusterError, match=f"room for {room}: lower --workers"):
        lay_out(fleet, nodes)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else is tried."""
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(ClusterError, match=r'pip install "specmeasure\[ray\]"'):
        ray_pool(fleet_of(1), counting).__enter__()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:9", "nothing answers there within 5 s"),
        ("ray://127.0.0.1:10001", "ray:// addresses cannot stream"),
        ("somewhere", "Give local, auto, or the head's HOST:PORT"),
    ],
)
def test_an_address_that_does_not_answer_is_named(address: str, said: str) -> None:
    """Ray itself would try for many minutes."""
    pytest.importorskip("ray", reason="ray is not installed")

    with pytest.raises(ClusterError, match=said):
        ray_pool(fleet_of(1, address=address), counting).__enter__()


@pytest.mark.parametrize(
    ("changes", "options", "named"),
    [
        ({"until_decided": True}, ModelOptions(), "--until-decided"),
        ({}, ModelOptions(device="cuda"), "--gpus-per-worker 1"),
        ({}, ModelOptions(device_map="auto"), "--gpus-per-worker 1"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(
    changes: dict[str, bool], options: ModelOptions, named: str
) -> None:
    """Before prompts are read."""
    plan = make_plan(options=options)
    request = Request(plan=plan, sources=("p.txt",), fleet=fleet_of(2), **changes)

    with pytest.raises(UsageError, match=named):
        fleets.refuse_unshared(request)


def test_another_version_of_ours_is_named_before_anything_is_sent() -> None:
    """A node that cannot read what it is sent dies without a word; other packages may differ."""
    here = {"specmeasure": "1.0", "torch": "2"}

    assert other_software("n", {"specmeasure": "1.0", "torch": "3"}, here) is None
    assert "Node n has specmeasure 0.9, this process 1.0." in str(
        other_software("n", {"specmeasure": "0.9"}, here)
    )
    assert "specmeasure not installed" in str(other_software("n", {}, here))


@pytest.mark.parametrize(("niceness", "num_notes"), [(0, 0), (-5, 0), (15, 1)])
def test_workers_that_give_way_are_told(
    monkeypatch: pytest.MonkeyPatch, niceness: int, num_notes: int
) -> None:
    """With the variable that ends it."""
    monkeypatch.setattr(os, "getpriority", lambda *_: niceness)

    assert num_notes == sum("RAY_worker_niceness=0" in note for note in niceness_notes("n"))


@pytest.mark.parametrize("gpus", [1.5, 2.25, -1])
def test_ray_has_no_such_part_of_gpus(gpus: float) -> None:
    """Above one it gives out whole ones."""
    with pytest.raises(ValueError, match="GPUs"):
        fleet_of(1, gpus)
    assert [True, False, False, False] == [fleet_of(1, fine).shares_gpus for fine in (0.5, 0, 1, 2)]
