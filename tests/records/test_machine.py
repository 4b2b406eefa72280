import pytest

from specmeasure.records.machine import Crowding
from tests.fakes import make_environment


@pytest.mark.parametrize(
    ("others", "stalled", "is_crowded"),
    [
        (2.5, None, False),  # 2 threads of ours on 4 cores leave 2, and half a one is spared
        (2.51, None, True),
        (None, 0.1, False),
        (None, 0.101, True),
        (0.0, 0.5, True),
        (3.0, 0.0, True),
        (0.0, 0.0, False),
        (None, None, None),
    ],
)
def test_a_trial_is_crowded_by_either_sign(others, stalled, is_crowded):
    """Too few cores for all, or waiting for one; where nothing is known, so is the answer."""
    crowding = Crowding(other_cores=others, stalled_share=stalled)

    assert crowding.is_crowded(num_threads=2, num_cores=4) is is_crowded


def test_an_accelerator_is_fed_by_one_thread():
    """Its passes do not wait for the CPU's other threads."""
    machine = make_environment(num_threads=3)

    assert [3, 1, 1] == [machine.threads_on(device) for device in ("cpu", "cuda", "cuda:1")]
