import math
from dataclasses import replace

import pytest
import torch

from specmeasure import demo
from specmeasure.api.arms import arms_at
from specmeasure.api.candidates import Drafters, NgramSizes, plan_candidates
from specmeasure.engines.transformers import TransformersEngine, verify_rule
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import (
    DecodeSettings,
    ModelOptions,
    Plan,
    Sampling,
    TypicalAcceptance,
)
from specmeasure.speculate.verify import verify_strictly

TYPICAL = TypicalAcceptance()
ALMOST_STRICT = TypicalAcceptance(epsilon=0.5, delta=1e9)
CANDIDATES = plan_candidates(Drafters(drafts=[demo.DRAFT], ngrams=[NgramSizes()]), most=1)


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    plan = Plan(
        target=demo.TARGET,
        arms=arms_at(CANDIDATES, [4], [TYPICAL, ALMOST_STRICT]),
        options=ModelOptions(device="cpu", dtype="float32", num_threads=1),
    )
    return TransformersEngine.load(plan)


@pytest.fixture(scope="module")
def context_ids(engine: TransformersEngine) -> list[int]:
    text = "Once upon a time, there was a little dog"
    return engine.context_ids(Prompt(prompt_id="p", category="c", source="f:1", text=text), [])


def probs_along(engine, context_ids, token_ids) -> torch.Tensor:
    """The target's law [T, V] before each emitted token, from one plain forward."""
    with torch.inference_mode():
        ids = torch.tensor([[*context_ids, *token_ids[:-1]]])
        logits = engine._target.model(ids).logits[0, len(context_ids) - 1 :]
    return logits.double().softmax(-1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["draft k=4 typical", "ngram k=4 typical"])
def test_every_token_is_the_argmax_or_typical(engine, context_ids, name):
    """Through cache and rollback, a greedy answer holds nothing below the threshold."""
    (arm,) = (arm for arm in engine._plan.arms if name == arm.name)
    seen = engine.observe(context_ids, arm, DecodeSettings(max_new_tokens=64))
    probs = probs_along(engine, context_ids, seen.token_ids)
    entropy = torch.special.entr(probs).sum(-1).tolist()
    chances = probs[range(len(seen.token_ids)), list(seen.token_ids)].tolist()
    others = [
        (chance, min(TYPICAL.epsilon, TYPICAL.delta * math.exp(-h)))
        for chance, h, row, token in zip(chances, entropy, probs, seen.token_ids, strict=True)
        if int(row.argmax()) != token
    ]

    assert all(chance > threshold - 1e-5 for chance, threshold in others)


@pytest.mark.slow
def test_a_lossy_arm_leaves_the_strict_one_alone(engine, context_ids):
    """Side by side: the strict arm's answer is the baseline's, the lossy one's drifts."""
    baseline, strict, lossy, near, *_ = engine._plan.arms
    settings = DecodeSettings(max_new_tokens=64)
    plain, kept, drifted, halved = (
        engine.observe(context_ids, arm, settings) for arm in (baseline, strict, lossy, near)
    )

    assert plain.token_ids == kept.token_ids == halved.token_ids
    assert plain.token_ids != drifted.token_ids
    assert len(drifted.blocks) < len(kept.blocks) <= len(halved.blocks)


@pytest.mark.slow
def test_a_lossy_arm_samples_by_its_seed(engine, context_ids):
    """Sampled answers repeat with their seed and differ without."""
    arm = engine._plan.arms[2]
    settings = DecodeSettings(sampling=Sampling(temperature=0.9), max_new_tokens=48, seed=1)
    first, again, other = (
        engine.observe(context_ids, arm, one).token_ids
        for one in (settings, settings, replace(settings, seed=2))
    )

    assert first == again != other


def test_strict_arms_are_verified_strictly():
    """No arm is lossy unless it says so."""
    arms = arms_at(CANDIDATES, [2, 4], [TYPICAL])

    assert {arm.lossy is None for arm in arms if verify_rule(arm) is verify_strictly} == {True}
    assert all("typical" in arm.name for arm in arms if verify_rule(arm) is not verify_strictly)
