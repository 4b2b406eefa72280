"""vLLM's medusa method beside our own chain of the same heads: the same blocks, one by one.

vLLM drafts as many tokens as ever where the budget ends an answer; ours cut drafts to the budget.
So the last block of an answer is told apart.

The third of these heads is nearly useless on these prompts: either keeps it in a block of hundreds.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from specmeasure.engines.transformers import TransformersEngine
from specmeasure.records.plan import BASELINE, Arm, DecodeSettings, Method
from specmeasure.records.trace import Observation, Trace, TrialRecord
from specmeasure.trace import store
from tests.e2e.command import ROOT
from tests.vllm.windows import by_counters, by_histogram, by_steps, speculative_windows, summed

pytestmark = pytest.mark.vllm
MODELS = ROOT.parent / "shared" / "data" / "models" / "tiny-python"
NUM_PROMPTS, MOST, K = 16, 48, 3
Pairs = list[tuple[TrialRecord, Observation]]


@pytest.fixture(scope="module")
def trace(measured, questions) -> Trace:
    if not MODELS.is_dir():
        pytest.skip("the tiny-python models are not beside this checkout")
    heads = {"method": "medusa", "model": str(MODELS / "medusa"), "num_speculative_tokens": K}
    arms = ("--target", str(MODELS / "target"), "--speculative-config", json.dumps(heads))
    rows = [{"prompt": text} for text in questions[:NUM_PROMPTS]]
    folder: Path = measured(rows, *arms, "--max-new-tokens", str(MOST), "--ignore-eos")
    return store.read_trace(folder)


@pytest.fixture(scope="module")
def pairs(trace) -> Pairs:
    """Requests that ran alone, with what the engine in this process makes of the same ids."""
    heads = Arm(
        name="medusa k=3",
        method=Method.MEDUSA,
        num_speculative_tokens=K,
        heads=str(MODELS / "medusa"),
    )
    plan = trace.manifest.plan
    options = replace(plan.options, device="cpu")
    engine = TransformersEngine.load(
        replace(plan, arms=(BASELINE, heads), serving=None, options=options)
    )
    settings = DecodeSettings(max_new_tokens=MOST)
    alone = [trial for trial in drafted(trace) if trial.key.load.concurrency == 1]
    found = {one.prompt_ids: engine.observe(one.prompt_ids, heads, settings) for one in alone}
    return [(trial, found[trial.prompt_ids]) for trial in alone]


def drafted(trace: Trace) -> Iterator[TrialRecord]:
    drafting = {arm.name for arm in trace.manifest.plan.speculative_arms}
    return (trial for trial in trace.trials if trial.key.arm in drafting)


def test_windows_agree_with_the_servers_counters(trace):
    """Blocks, histograms and Prometheus are the same drafts, and each block has all heads'."""
    for window, trials in speculative_windows(trace):
        assert summed(trials, by_steps) == summed(trials, by_histogram)
        drafts, accepted, blocks, positions = summed(trials, by_steps)
        assert (drafts, accepted, blocks, positions[:K]) == by_counters(window.counters)
        assert drafts == K * blocks > 0


def test_both_emit_the_same_tokens(pairs):
    """Greedy, in float32."""
    assert NUM_PROMPTS <= len(pairs)
    for trial, ours in pairs:
        assert trial.token_ids == ours.token_ids


def test_both_keep_the_same_drafts_block_by_block(pairs):
    """In all blocks of all answers but the last, which the budget cuts differently."""
    for trial, ours in pairs:
        theirs = [accepted for _, accepted in trial.counts.steps]
        own = [block.num_accepted_tokens for block in ours.blocks[1:]]
        assert theirs[:-1] == own[:-1]
        assert own[-1] <= theirs[-1]


def test_both_keep_as_much_by_position(pairs):
    """Summed over whole blocks; the third head's share is small, and not a fault of either."""
    blocks = [
        (accepted, block.num_accepted_tokens)
        for trial, ours in pairs
        for (_, accepted), block in zip(trial.counts.steps[:-1], ours.blocks[1:-1], strict=True)
    ]
    theirs, own = (
        [sum(kept > place for kept in one) for place in range(K)]
        for one in zip(*blocks, strict=True)
    )

    assert theirs == own
    assert 0 < theirs[1]
    assert theirs[2] < 0.02 * len(blocks)
