"""Two releases whose speculation is wrong where they sample, and the audit that finds it.

Ids alone were recorded, 24 prompts of our own and 32 tokens each, all in float32: by vLLM 0.32.0
for CPUs and OpenVINO GenAI 2026.4.1 without drafts, with prompt lookup and with a draft model; by
llama.cpp (xllamacpp 2026.10.11549), which is sound, without drafts and with a draft model.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from specmeasure.api.audits import audit_answers
from specmeasure.api.candidates import Drafters, plan_candidates
from specmeasure.records.audit import AuditReport
from specmeasure.records.decision import Verdict
from specmeasure.records.plan import BASELINE, ModelOptions, Plan
from specmeasure.records.request import Request

pytestmark = pytest.mark.slow
PAYLOADS = Path(__file__).resolve().parents[1] / "payloads"
MODELS = Path(__file__).resolve().parents[3] / "shared/data/models/tiny-python"
OPENVINO = "openvino-genai-2026.4.1"
VLLM = "vllm-0.32.0"
LLAMACPP = "llamacpp-2026.10.11549"

Audited = Callable[..., AuditReport]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    """The audit of an engine's answers at one temperature."""
    if not MODELS.is_dir():
        pytest.skip("the tiny-python models are not beside this checkout")

    def audit(engine: str, temperature: float, *, drafts: Sequence[str] = ()) -> AuditReport:
        lines = (PAYLOADS / f"{engine}-answers.jsonl").read_text().splitlines(keepends=True)
        path = tmp_path_factory.mktemp("answers") / "answers.jsonl"
        path.write_text("".join(x for x in lines if json.loads(x)["temperature"] == temperature))
        options = ModelOptions(device="cpu", num_threads=1)
        arms = (BASELINE, *plan_candidates(Drafters(drafts=drafts), most=1))
        plan = Plan(target=str(MODELS / "target"), arms=arms, options=options)
        return audit_answers(Request(plan=plan, sources=(str(path),)))

    return audit


def verdicts(report: AuditReport) -> dict[str, Verdict]:
    return {arm.name: arm.verdict for arm in report.arms}


@pytest.mark.parametrize("engine", [OPENVINO, VLLM, LLAMACPP])
def test_greedy_answers_are_the_targets_own(audited: Audited, engine: str):
    """Speculation in float32 is sound there, token for token."""
    report = audited(engine, 0.0)

    assert {Verdict.GO} == set(verdicts(report).values())
    assert {24} == {arm.losslessness.num_identical for arm in report.arms}


@pytest.mark.parametrize("temperature", [0.01, 0.7])
def test_openvinos_draft_model_is_found_and_its_lookup_is_not(audited: Audited, temperature: float):
    """openvino.genai issue 4190: sampling with a draft model emits what the target would not."""
    report = audited(OPENVINO, temperature)

    assert {
        "baseline": Verdict.GO,
        "prompt lookup k=4": Verdict.GO,
        "draft_model k=4": Verdict.NO_GO,
    } == verdicts(report)


@pytest.mark.parametrize("temperature", [0.01, 0.7])
def test_vllms_speculation_is_found_and_its_baseline_is_not(audited: Audited, temperature: float):
    """vllm issue 55005: on a CPU, sampling with any drafts emits what the target would not."""
    report = audited(VLLM, temperature)

    assert {
        "baseline": Verdict.GO,
        "ngram k=4": Verdict.NO_GO,
        "draft_model k=4": Verdict.NO_GO,
    } == verdicts(report)


@pytest.mark.parametrize("temperature", [0.01, 0.7])
def test_llamacpps_sampling_with_a_draft_model_is_not_accused(audited: Audited, temperature: float):
    """A sound verifier passes the same test that the other two fail."""
    assert {"baseline": Verdict.GO, "draft_model k=4": Verdict.GO} == verdicts(
        audited(LLAMACPP, temperature)
    )


def test_a_pull_towards_the_draft_tells_what_is_wrong(audited: Audited):
    """OpenVINO's tokens are mostly the draft's own, as if all of them were accepted."""
    report = audited(OPENVINO, 0.7, drafts=[str(MODELS / "draft")])
    tests = {arm.name: arm.sampled_losslessness for arm in report.arms}

    assert tests["draft_model k=4"].p_pull < 1e-6
    assert tests["draft_model k=4"].pull_share > 0.5
    assert tests["prompt lookup k=4"].p_pull > 0.01
    assert tests["baseline"].p_pull is None
