import pytest
import torch

from specmeasure import demo
from specmeasure.decode.cache import CachedCausalLM
from specmeasure.engines import shortage
from specmeasure.engines.ahead import ModelsAhead
from specmeasure.engines.memory import Longest, predict_memory
from specmeasure.engines.transformers import TransformersEngine
from specmeasure.errors import OutOfMemory
from specmeasure.records.plan import BASELINE, GREEDY, DecodeSettings, ModelOptions, Plan

PLAN = Plan(target=demo.TARGET, arms=(BASELINE,), options=ModelOptions(device="cpu", num_threads=1))
SETTINGS = DecodeSettings(max_new_tokens=4)
CONTEXT = [3, 4, 5]


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine.load(PLAN)


def run_out(*_: object, **__: object) -> None:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")


def run_out_on_gpu(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("fail", [run_out, run_out_on_gpu])
def test_an_answer_that_runs_out(engine, fail, monkeypatch: pytest.MonkeyPatch):
    """Its length, its parts, what there is and what to lower, all in what a trace keeps."""
    longest = Longest(
        num_prompt_tokens=3, num_new_tokens=4, num_context_tokens=7, samplings=(GREEDY,)
    )
    reckoned = predict_memory(ModelsAhead.read(PLAN), longest)  # while the prefill works
    monkeypatch.setattr(shortage, "predict_memory", lambda *_: reckoned)
    monkeypatch.setattr(CachedCausalLM, "prefill", fail)
    with pytest.raises(OutOfMemory) as caught:
        engine.observe(CONTEXT, BASELINE, SETTINGS)
    said = str(caught.value)[:300]

    assert said.startswith("baseline: out of memory at 3 prompt and up to 4 new tokens: ")
    assert "MiB weights, " in said
    assert " keys and values, " in said
    assert " free. To make it fit: --dtype bfloat16 halves it; " in said
    assert "lower --max-new-tokens" in said


def test_an_audit_that_runs_out(engine, monkeypatch: pytest.MonkeyPatch):
    """The same of the check of an answer, whichever arm's it is."""
    seen = engine.observe(CONTEXT, BASELINE, SETTINGS)
    monkeypatch.setattr(CachedCausalLM, "prefill", run_out)
    with pytest.raises(OutOfMemory, match=r"^audit: out of memory at 3 prompt and up to 4 new"):
        engine.audit(CONTEXT, seen.token_ids)


def test_other_failures_are_not_about_memory(engine, monkeypatch: pytest.MonkeyPatch):
    """They pass as they are."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(CachedCausalLM, "prefill", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        engine.observe(CONTEXT, BASELINE, SETTINGS)
