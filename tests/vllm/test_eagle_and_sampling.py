"""A real vLLM whose sampling is wrong under speculation (its issue 55005), and one that is sound.

A few prompts ask for a greedy answer, the others for one at temperature 0.7. Neither top-k nor
top-p is sent: with drafts, this build ends at either.
"""

import json
from pathlib import Path

import pytest

from specmeasure.records.decision import Policy
from specmeasure.records.trace import Trace
from specmeasure.trace import store
from tests.e2e.command import ROOT, said, specmeasure
from tests.vllm.windows import by_counters, by_histogram, by_steps, speculative_windows, summed

pytestmark = pytest.mark.vllm
MODELS = ROOT.parent / "shared" / "data" / "models" / "tiny-python"
NUM_GREEDY, NUM_SAMPLED = 4, 12
ARMS = ("ngram k=4", "eagle k=3")


@pytest.fixture(scope="module")
def folder(measured, questions) -> Path:
    if not MODELS.is_dir():
        pytest.skip("the tiny-python models are not beside this checkout")
    rows = [
        {"prompt": text, "temperature": 0.0 if place < NUM_GREEDY else 0.7}
        for place, text in enumerate(questions[: NUM_GREEDY + NUM_SAMPLED])
    ]
    eagle = {"method": "eagle", "model": str(MODELS / "eagle"), "num_speculative_tokens": 3}
    arms = ("--ngram", "--speculative-config", json.dumps(eagle))
    return measured(
        rows, "--target", str(MODELS / "target"), *arms, "--max-new-tokens", "48", "--ignore-eos"
    )


@pytest.fixture(scope="module")
def trace(folder) -> Trace:
    return store.read_trace(folder)


@pytest.fixture(scope="module")
def estimates(folder) -> dict[int, dict]:
    """By concurrency."""
    points = json.loads((folder / "load.json").read_text())["points"]
    return {point["load"]["concurrency"]: point["estimates"] for point in points}


def test_an_eagle_arm_is_measured_by_its_blocks(trace):
    """K = 3 by its server's own word; its blocks, histograms and counters are the same drafts."""
    (facts,) = (one for one in trace.manifest.servers if one.arm == ARMS[1])
    windows = [pair for pair in speculative_windows(trace) if pair[0].key.arm == ARMS[1]]

    assert 3 == facts.num_speculative_tokens
    assert 2 * 2 == len(windows)
    for window, trials in windows:
        assert summed(trials, by_steps) == summed(trials, by_histogram)
        drafted, accepted, blocks, positions = summed(trials, by_steps)
        assert (drafted, accepted, blocks, positions[:3]) == by_counters(window.counters)
        assert drafted == 3 * blocks > 0


def test_greedy_answers_are_the_targets_own_where_they_run_alone(estimates):
    """Of prompt lookup and of EAGLE, all of them, one request at a time."""
    assert set(ARMS) == {arm["name"] for arm in estimates[1]["arms"]}
    for arm in estimates[1]["arms"]:
        losslessness = arm["losslessness"]
        assert losslessness["num_trials"] == losslessness["num_identical"] > 0


def test_greedy_answers_beside_sampled_ones_are_not(estimates):
    """In one batch with them, the defect reaches the greedy ones, too; the baseline has none."""
    for arm in estimates[4]["arms"]:
        assert arm["losslessness"]["num_divergent"] > 0
    assert 0 == estimates[4]["baseline"]["losslessness"]["num_divergent"]


def test_speculation_is_no_go(folder):
    """Both arms break the rule on greedy answers, EAGLE that on sampled ones as well."""
    arms = json.loads((folder / "decision.json").read_text())["arms"]
    failed = {
        arm["arm"]: {one["rule"] for one in arm["findings"] if one["outcome"] == "failed"}
        for arm in arms
    }

    assert ["NO_GO"] * 2 == [arm["verdict"] for arm in arms]
    for rules in failed.values():
        assert any("unexplained divergence" in rule for rule in rules)
    assert any(rule.startswith("sampled tokens follow") for rule in failed[ARMS[1]])


def test_the_audit_finds_the_sampling_defect(folder):
    """Over all loads the sampled tokens of both arms cannot be the target's; the baseline's can."""
    done = specmeasure("audit", str(folder), "--check")
    audit = json.loads((folder / "audit.json").read_text())["audit"]
    chances = {arm["name"]: arm["sampled_losslessness"]["p_value"] for arm in audit["arms"]}

    assert 10 == done.returncode, said(done)
    assert "the output of ngram k=4" in said(done)
    assert {"baseline", *ARMS} == set(chances)
    assert all(chances[name] < 1e-6 for name in ARMS)
    assert chances["baseline"] >= Policy().max_chance
    assert "GO" == audit["arms"][0]["verdict"]
