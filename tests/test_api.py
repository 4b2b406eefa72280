import json
import shutil
from dataclasses import replace

import pytest

from specmeasure import api
from specmeasure.api import runs
from specmeasure.api.prompts import pinned_sources
from specmeasure.errors import UsageError
from specmeasure.records.corpus import Corpus, SourceFile
from specmeasure.records.decision import Policy, Verdict
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN, Plan, Sampling
from specmeasure.run.crowding import Unmetered
from specmeasure.trace import store
from tests.fakes import (
    DRAFT_4,
    NGRAM_4,
    FakeEngine,
    Machine,
    make_chat,
    make_manifest,
    make_plan,
    make_prompts,
    planned_keys,
    simulated_trace,
)

MADE_OF_TIMES = (
    "ttft_s",
    "tpot_s",
    "ttft_quantiles",
    "tpot_quantiles",
    "end_to_end_quantiles",
    "decode_speedup",
    "decode_speedup_corrected",
    "end_to_end_speedup",
    "median_prompt_speedup",
    "share_slower",
    "prompt_speedups",
    "costs",
    "textbook",
)
PROMPTS = [*make_prompts(9, categories=["chat", "code"]), make_chat("talk", 2)]


def test_hub_datasets_are_pinned():
    """A resumed or planned run reads the revision that was read first."""
    files = [("hf:org/chats:test", "abc"), ("hf:org/code:train@v1", "def"), ("hf:./own:test", None)]
    corpus = Corpus(
        prompts=(),
        files=tuple(
            SourceFile(path=path, format="f", num_rows=1, num_prompts=1, revision=revision)
            for path, revision in files
        ),
    )

    assert (
        "hf:org/chats:test@abc",
        "hf:org/code:train@def",
        "hf:./own:test",
        "-",
    ) == pinned_sources([*(path for path, _ in files), "-"], corpus)


@pytest.fixture(autouse=True)
def _nothing_else_runs(monkeypatch):
    """What the machine really does beside a test is in no record."""
    monkeypatch.setattr(runs, "CpuMeter", Unmetered)


def arm_names(drafts, lengths, *, ngram=False):
    return [
        arm.name
        for arm in api.plan_arms(
            api.Drafters(drafts=drafts, ngrams=[api.NgramSizes()] if ngram else []), lengths=lengths
        )
    ]


def record(folder, engine, *, prompts=PROMPTS, stop_after=None):
    """A session of ``api.start`` or ``api.resume`` with this engine; Ctrl-C after some trials."""
    if not (folder / store.MANIFEST).exists():
        manifest = make_manifest(engine.plan, prompts, models=engine.models)
        store.create_run(folder, manifest)
    told = []

    def tell():
        told.append(1)
        if len(told) == stop_after:
            raise KeyboardInterrupt

    watchers = api.Watchers(trial=tell)
    return runs._record(store.read_manifest(folder), engine, tuple(prompts), folder, watchers)


def test_arms_stand_between_two_baselines():
    """Every draft at every length in the order given, then n-grams, then the A/A baseline."""
    arms = api.plan_arms(
        api.Drafters(drafts=["models/small", "org/tiny"], ngrams=[api.NgramSizes()]), lengths=[4, 2]
    )

    assert [
        "baseline",
        *("small k=4", "small k=2", "tiny k=4", "tiny k=2", "ngram k=4", "ngram k=2"),
        "baseline A/A",
    ] == [arm.name for arm in arms]
    assert (BASELINE, BASELINE_AGAIN) == (arms[0], arms[-1])
    assert ["models/small", 2] == [arms[2].draft, arms[2].num_speculative_tokens]


@pytest.mark.parametrize(
    ("drafts", "expected"),
    [
        (["a/small/"], ["small k=1"]),
        (["embedded:draft"], ["draft k=1"]),
        (["a/small", "b/small"], ["a/small k=1", "b/small k=1"]),
        (["draft", "embedded:draft"], ["draft k=1", "embedded:draft k=1"]),
        ([], []),
    ],
)
def test_drafts_have_short_names_while_they_differ(drafts, expected):
    """The last part of a path or hub id; whole names where two would be the same."""
    assert ["baseline", *expected, "baseline A/A"] == arm_names(drafts, [1])


@pytest.mark.parametrize("drafts", [["a/small", "b/small"], ["a/x", "a/x/"], ["x", "y"]])
def test_different_drafts_make_a_plan(drafts):
    """Whatever the drafts are called, their arms have names of their own."""
    arms = api.plan_arms(api.Drafters(drafts=drafts, ngrams=[api.NgramSizes()]), lengths=[1, 2])

    assert 8 == len(Plan(target="t", arms=arms).arms)


@pytest.mark.parametrize("lengths", [[], [0], [4, 0], [-1]])
def test_a_length_is_at_least_one(lengths):
    """K counts drafts: none at all is the baseline, which is there anyway."""
    with pytest.raises(UsageError, match="--k takes whole numbers from 1"):
        api.plan_arms(api.Drafters(drafts=["d"]), lengths=lengths)


def test_a_trace_is_read_to_its_conclusion():
    """Estimates, then the run's own policy; another policy may be given."""
    trace = simulated_trace(40, seed=1)

    report = api.conclude(trace)
    strict = api.conclude(trace, policy=Policy(min_decode_speedup=5))

    assert (Verdict.GO, trace.manifest.policy) == (report.decision.verdict, report.decision.policy)
    assert Verdict.NO_GO == strict.decision.verdict
    assert report.estimates == strict.estimates


def test_a_slow_draft_is_no_go():
    """A draft as slow as the target is found out."""
    trace = simulated_trace(30, seed=1, machine=Machine(draft_ratio=1.0))

    assert Verdict.NO_GO == api.conclude(trace).decision.verdict


@pytest.mark.parametrize("num_prompts", [1, 6])
def test_a_report_is_one_json_document(num_prompts):
    """It parses as a whole, holds no NaN, and unknown numbers come with their reason."""
    report = api.conclude(simulated_trace(num_prompts, seed=0))

    document = json.loads(api.as_json(report), parse_constant=pytest.fail)

    assert ["decision", "estimates"] == list(document)
    assert "INCONCLUSIVE" == document["decision"]["verdict"]
    speedup = document["estimates"]["arms"][0]["decode_speedup"]
    assert ({"reason"} if num_prompts == 1 else {"value", "low", "high"}) <= set(speedup)


def test_json_says_what_the_report_says():
    """Numbers are written in full: reading them back gives the same."""
    report = api.conclude(simulated_trace(6, seed=0))

    arm = json.loads(api.as_json(report))["estimates"]["arms"][0]

    assert report.estimates.arms[0].decode_speedup.low == arm["decode_speedup"]["low"]
    assert report.estimates.arms[0].costs.verify_ratio == arm["costs"]["verify_ratio"]


def test_a_report_is_written_beside_its_trace(tmp_path):
    """The brief with its figures, and both records as JSON; the trace is left as it was."""
    trace = record(tmp_path, FakeEngine(plan=make_plan()))
    before = {path.name for path in tmp_path.iterdir()}

    brief = api.write_report(api.conclude(trace), tmp_path)

    new = {path.name for path in tmp_path.iterdir()} - before
    assert brief == tmp_path / "brief.md"
    assert {"brief.md", "estimates.json", "decision.json"} <= new
    assert trace == api.read_trace(tmp_path)


def test_a_run_is_recorded_and_sealed(tmp_path):
    """A session ends with every planned trial in a sealed trace."""
    trace = record(tmp_path, FakeEngine(plan=make_plan()))

    assert trace.sealed
    assert sorted(planned_keys(make_plan(), PROMPTS)) == sorted(t.key for t in trace.trials)


def test_a_sealed_run_is_not_resumed(tmp_path):
    """Resuming a finished run returns it; neither prompts nor models are looked for."""
    trace = record(tmp_path, FakeEngine(plan=make_plan()))

    assert trace == api.resume(tmp_path, ["no/such/prompts.jsonl"])


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.9)])
@pytest.mark.parametrize("stops", [[1], [7], [31], [3, 10, 22]])
def test_tokens_do_not_remember_an_interruption(tmp_path, sampling, stops):
    """Interrupted, resumed on a machine of another speed: all that is made of tokens is equal."""
    plan = make_plan(BASELINE, DRAFT_4, NGRAM_4, sampling=sampling)
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            record(tmp_path, FakeEngine(plan=plan), stop_after=stop)
    resumed = record(tmp_path, FakeEngine(plan=plan, machine=Machine(step_s=0.5)))
    shutil.rmtree(tmp_path)
    whole = record(tmp_path, FakeEngine(plan=plan))

    assert made_of_tokens(whole) == made_of_tokens(resumed)


def made_of_tokens(trace):
    """The estimates of a trace, without those that a clock decides."""
    estimates = api.conclude(trace).estimates
    return [
        [estimates.num_prompts, estimates.num_recorded_trials],
        *(without_times(arm) for arm in (estimates.baseline, *estimates.arms)),
    ]


def without_times(arm):
    slices = tuple(
        replace(one, decode_speedup=None, decode_speedup_corrected=None) for one in arm.slices
    )
    return replace(arm, **dict.fromkeys(MADE_OF_TIMES), slices=slices)
