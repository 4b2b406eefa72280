"""--ray and its companions: workers, or one clear refusal."""

from dataclasses import replace
from typing import Any

import pytest

from specmeasure.cli.fleets import fleet
from specmeasure.errors import UsageError
from specmeasure.records.machine import Fleet

NOTHING: dict[str, Any] = {
    "ray": None,
    "workers": None,
    "gpus_per_worker": None,
    "pool_hardware": False,
}


def test_without_ray_there_is_one_process():
    """Nothing asked for, no workers."""
    assert fleet(NOTHING) is None


def test_ray_alone_is_one_worker():
    """What is left out has its stated default."""
    expected = Fleet(address="local", num_workers=1)

    assert expected == fleet({**NOTHING, "ray": "local"})


def test_every_option_is_taken():
    """Address, workers, GPUs and pooling."""
    asked = {
        "ray": "10.0.0.1:6379",
        "workers": 4,
        "gpus_per_worker": 2.0,
        "pool_hardware": True,
    }
    expected = Fleet(
        address="10.0.0.1:6379", num_workers=4, gpus_per_worker=2.0, pools_hardware=True
    )

    assert expected == fleet(asked)


def test_what_is_left_open_stays_as_it_was():
    """A run that goes on keeps its workers but for what was typed."""
    before = Fleet(address="a:1", num_workers=8, gpus_per_worker=1.0)

    assert before == fleet(NOTHING, before)
    assert replace(before, address="b:2") == fleet({**NOTHING, "ray": "b:2"}, before)
    assert replace(before, num_workers=3) == fleet({**NOTHING, "workers": 3}, before)


@pytest.mark.parametrize(
    ("stray", "name"),
    [
        ({"workers": 2}, "--workers"),
        ({"gpus_per_worker": 1.0}, "--gpus-per-worker"),
        ({"pool_hardware": True}, "--pool-hardware"),
    ],
)
def test_companions_need_ray(stray: dict[str, Any], name: str):
    """Workers without a cluster are refused, and the option is named."""
    with pytest.raises(UsageError, match=f"{name}: goes with --ray"):
        fleet({**NOTHING, **stray})


@pytest.mark.parametrize("name", ["engine", "baseline_url"])
def test_servers_are_not_spread(name: str):
    """A run on servers has no workers."""
    with pytest.raises(UsageError, match="servers are spread by their own engine"):
        fleet({**NOTHING, "ray": "local", name: "x"})
