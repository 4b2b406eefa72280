"""Answers recorded anywhere, read by a target in memory: the embedded pair as engine and judge."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from specmeasure import demo
from specmeasure.api.audits import audit_answers, audit_run
from specmeasure.engines.transformers import TransformersEngine
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.audit import AuditReport
from specmeasure.records.decision import Verdict
from specmeasure.records.plan import BASELINE, GREEDY, DecodeSettings, ModelOptions, Plan, Sampling
from specmeasure.records.request import Request
from specmeasure.run.watch import SILENT, Watchers
from tests.fakes import FakeEngine, make_plan, make_prompts, recorded_trace

OPTIONS = ModelOptions(device="cpu", num_threads=1)
WARM = Sampling(temperature=0.8)
PROMPTS = [[5 + i, 9, 40 + 3 * i, 7] for i in range(12)]

Row = dict[str, object]


def decoded(model: str, arm: str, *, first_seed: int) -> list[Row]:
    """Sampled answers of a model to all prompts, as rows."""
    engine = TransformersEngine.load(
        Plan(target=model, arms=(BASELINE,), sampling=WARM, ignore_eos=True, options=OPTIONS)
    )
    settings = DecodeSettings(sampling=WARM, max_new_tokens=40)
    return [
        {
            "arm": arm,
            "prompt_ids": prompt,
            "token_ids": engine.observe(
                prompt, BASELINE, replace(settings, seed=first_seed + place)
            ).token_ids,
        }
        for place, prompt in enumerate(PROMPTS)
    ]


@pytest.fixture(scope="module")
def own() -> list[Row]:
    return decoded(demo.TARGET, "baseline", first_seed=0)


@pytest.fixture
def audit(tmp_path: Path):
    def run(rows: list[Row], sampling: Sampling, watchers: Watchers = SILENT) -> AuditReport:
        path = tmp_path / "answers.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        plan = Plan(target=demo.TARGET, arms=(BASELINE,), sampling=sampling, options=OPTIONS)
        return audit_answers(Request(plan=plan, sources=(str(path),)), watchers=watchers)

    return run


def test_a_runs_own_audits_are_summed_up_without_models():
    """The arm with a broken verifier is NO_GO, its places are named; the baseline is GO."""
    engine = FakeEngine(plan=make_plan(), broken_arms=frozenset(["draft k=4"]))
    report = audit_run(recorded_trace(engine, make_prompts(8)), subject="reports/mine")
    baseline, broken = report.arms

    assert (Verdict.GO, Verdict.NO_GO) == (baseline.verdict, broken.verdict)
    assert (0, 8) == (baseline.losslessness.num_divergent, broken.losslessness.num_divergent)
    assert 8 == len(broken.losslessness.first_divergences)
    assert Verdict.NO_GO is report.verdict


def test_sampled_answers_of_another_model_are_found(audit, own: list[Row]):
    """The draft's own answers are fluent and are not the target's; the target's again are."""
    rows = [
        *own,
        *decoded(demo.DRAFT, "accepts everything", first_seed=100),
        *decoded(demo.TARGET, "sound", first_seed=200),
    ]
    verdicts = {arm.name: arm.verdict for arm in audit(rows, WARM).arms}

    assert {
        "baseline": Verdict.GO,
        "accepts everything": Verdict.NO_GO,
        "sound": Verdict.GO,
    } == verdicts


def test_answers_judged_at_another_temperature_accuse_nobody(audit, own: list[Row]):
    """Then the baseline fails as well, and nothing can be said of the other arms."""
    other = [{**row, "arm": "sound"} for row in own]
    report = audit([*own, *other], Sampling(temperature=0.3))
    verdicts = {arm.name: arm.verdict for arm in report.arms}

    assert {"baseline": Verdict.NO_GO, "sound": Verdict.INCONCLUSIVE} == verdicts
    assert Verdict.INCONCLUSIVE is report.verdict


def test_rows_without_a_temperature_are_told_of(audit, own: list[Row]):
    """They are read as the options say, which may not be how they were drawn."""
    said: list[str] = []
    rows = [{**own[0], "temperature": 0.8}, *own[1:3]]
    report = audit(rows, WARM, Watchers(warning=said.append))

    assert "2 of 3 answers name no temperature and are read as temperature 0.8" in said[0]
    assert ((WARM, 3),) == report.samplings


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            {"token_ids": [5, 10**6]},
            "answers.jsonl:2: the answer's token 1 is id 1000000; embedded:target has ids below",
        ),
        (
            {"prompt_ids": [10**6]},
            "answers.jsonl:2: the prompt's token 0 is id 1000000; embedded:target has ids below",
        ),
        ({"token_ids": [5] * 10**5}, "answers.jsonl:2: prompt and answer are 100004 tokens"),
    ],
)
def test_what_the_target_cannot_read_is_refused(audit, own: list[Row], change: Row, found: str):
    """Ids without a meaning and texts beyond the context, with file and line."""
    with pytest.raises(UnreadableCorpus) as caught:
        audit([own[0], {**own[0], **change}], WARM)

    assert found in str(caught.value)


def test_the_first_token_has_a_noise_of_its_own(audit):
    """A near-tie may stand right after the prompt, too: the prompt's last token is read twice."""
    (arm,) = audit([{"prompt_ids": [5, 9, 40, 7], "token_ids": [300]}], GREEDY).arms

    assert arm.losslessness.worst_delta > 2 * arm.losslessness.worst_noise > 0
