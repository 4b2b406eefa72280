"""What several of these files need."""

from collections.abc import Iterator

import pytest

from specmeasure.api import replay_sessions
from specmeasure.engines import costs
from specmeasure.run import replayer


@pytest.fixture(scope="module")
def timed_briefly() -> Iterator[None]:
    """Costs are timed once: how sure they are is no matter here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(costs, "NUM_ROUNDS", 1)
        patched.setattr(costs, "NUM_STEPS", 2)
        patched.setattr(replayer, "COST_QUANTILES", (0.5,))
        patched.setattr(replay_sessions, "free_cores", lambda: 1)
        yield
