"""An early exit of the embedded target in a replay: what it weighs and what is timed of it."""

import pytest

from specmeasure import demo
from specmeasure.decode.shared_exit import SharedExit
from specmeasure.engines import costs
from specmeasure.engines.replay import FLOPS_PER_PARAMETER, ReplayEngine
from specmeasure.records.plan import BASELINE, GREEDY, Arm, Method, ModelOptions, Plan
from specmeasure.records.replay import CandidateFacts

EXIT = Arm(name="exit", method=Method.EARLY_EXIT, num_speculative_tokens=2, exit_layer=4)


@pytest.fixture(scope="module")
def engine() -> ReplayEngine:
    plan = Plan(
        target=demo.TARGET,
        arms=(BASELINE, EXIT),
        options=ModelOptions(device="cpu", dtype="float32", num_threads=1),
    )
    return ReplayEngine.load(plan)


def test_it_weighs_nothing_and_adds_the_head_alone(engine: ReplayEngine):
    """Its layers' work is the verification's anyway; its cache is the target's."""
    model = engine.loaded.target.model
    head = model.get_output_embeddings().weight.numel() + model.model.norm.weight.numel()

    assert CandidateFacts(
        name="exit", num_flops_per_draft=float(FLOPS_PER_PARAMETER * head)
    ) == engine.facts(EXIT)


def test_its_verifications_are_timed(engine: ReplayEngine, monkeypatch: pytest.MonkeyPatch):
    """With the target that shares its cache, at every number of rows."""
    monkeypatch.setattr(costs, "NUM_ROUNDS", 1)
    meter = engine.cost_meter([range(5, 15)], 2)
    drafting = engine.drafting(EXIT, GREEDY)
    (found,) = meter.drafts(drafting, meter.target())

    assert isinstance(drafting.target, SharedExit)
    assert [3] == [len(row) for row in found.verify_s or ()]
    assert all(seconds > 0 for row in found.verify_s or () for seconds in row)


def test_nothing_is_to_be_warned_of(engine: ReplayEngine):
    """A target whose cache is shared has no note on it."""
    assert not any("exit" in said for said in engine.warnings)
