"""The simulated large trace is a trace like any other."""

import importlib.util
import sys
from pathlib import Path

import pytest

from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.summary import estimate
from specmeasure.trace import store

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "large_trace.py"


@pytest.fixture(scope="module")
def large_trace():
    spec = importlib.util.spec_from_file_location("large_trace", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize("workers", [1, 3])
def test_it_reads_and_adds_up(large_trace, tmp_path, workers):
    """Sealed, whole, and with blocks that emit what their trials say: estimates refuse others."""
    size = large_trace.Size(prompts=60, tokens=12, k=3, drafts=2, workers=workers)
    num_blocks = large_trace.write_trace(tmp_path, size)
    trace = store.read_trace(tmp_path)
    found = estimate(trace, Intervals())

    assert trace.sealed
    assert num_blocks == sum(len(trial.blocks) for trial in trace.trials)
    assert 60 * 4 == len(trace.trials) == found.num_planned_trials
    assert (60, 3) == (found.num_prompts, found.arms[0].num_speculative_tokens)
    assert (workers > 1) == ("worker" in {one.axis for one in found.arms[0].slices})
