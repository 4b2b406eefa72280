"""Runs that end when they are decided, on machines whose true speedup is stated."""

import random
from dataclasses import replace

import pytest

from specmeasure.api import comparisons, reports, runs
from specmeasure.api.sequential import LEVEL, looks_over, num_trials, shuffled, until_decided
from specmeasure.estimate.sequential import look_levels
from specmeasure.estimate.shared_prompts import Run
from specmeasure.records.decision import Policy, RuleOutcome, Verdict
from specmeasure.records.estimates import Interval
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN
from specmeasure.run.crowding import Unmetered
from specmeasure.run.watch import Watchers
from specmeasure.trace import store
from tests.fakes import (
    DRAFT_2,
    DRAFT_4,
    FakeEngine,
    Machine,
    Traffic,
    make_chat,
    make_manifest,
    make_plan,
    make_prompts,
    truth,
)

FAST, SLOW = Machine(draft_ratio=0.02, verify_ratio=1.05), Machine(draft_ratio=1.0)
TRAFFIC = Traffic(lengths=(18, 20, 22), acceptance_rates=(0.7, 0.8, 0.9))
PLAN = make_plan(max_new_tokens=40)
CORPUS = [
    *make_prompts(42, categories=["chat", "code"]),
    *(make_chat(f"talk{i}", 2) for i in range(8)),
]
PROMPTS = shuffled(CORPUS, seed=0)
LOOKS = looks_over(PLAN, PROMPTS, Policy())
FIRST = LOOKS[0].num_trials
LEVELS = look_levels([look.num_prompts for look in LOOKS], LEVEL)


@pytest.fixture(autouse=True)
def _nothing_else_runs(monkeypatch):
    """What the machine really does beside a test is in no record."""
    monkeypatch.setattr(runs, "CpuMeter", Unmetered)


def engine(machine=FAST, **changes):
    return FakeEngine(**{"plan": PLAN, "machine": machine, "traffic": TRAFFIC, **changes})


def record(folder, fake, *, policy=None, stop_after=None, **watchers):
    """A session of ``api.start`` or ``api.resume``; Ctrl-C after some trials."""
    if not (folder / store.MANIFEST).exists():
        stated = policy or Policy()
        manifest = make_manifest(
            fake.plan,
            PROMPTS,
            models=fake.models,
            policy=stated,
            looks=looks_over(fake.plan, PROMPTS, stated),
        )
        store.create_run(folder, manifest)
    told = []

    def tell():
        told.append(1)
        if len(told) == stop_after:
            raise KeyboardInterrupt

    listeners = Watchers(trial=tell, **watchers)
    return runs._record(store.read_manifest(folder), fake, PROMPTS, folder, listeners)


def recorded_prompts(trace):
    return {trial.key.prompt_id for trial in trace.trials}


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    """A run whose true speedup is nearly twice what is demanded."""
    return record(tmp_path_factory.mktemp("fast") / "run", engine())


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """A run whose true speedup is the threshold."""
    policy = Policy(min_decode_speedup=truth(PLAN, DRAFT_4, TRAFFIC, Machine()).decode_speedup)
    return record(tmp_path_factory.mktemp("endless") / "run", engine(Machine()), policy=policy)


def test_looks_are_fixed_before_the_first_trial():
    """They grow, the first has the fewest prompts that may decide, the last is the whole run."""
    sizes = [look.num_prompts for look in LOOKS]

    assert sizes == sorted(set(sizes))
    assert (Policy().min_prompts, len(PROMPTS)) == (sizes[0], sizes[-1])
    assert [num_trials(PLAN, PROMPTS[:size]) for size in sizes] == [one.num_trials for one in LOOKS]


def test_far_above_the_threshold_the_first_look_ends_the_run(fast):
    """GO after the prompts of the first look, all of them recorded and no other."""
    report = reports.conclude(fast)

    assert truth(PLAN, DRAFT_4, TRAFFIC, FAST).decode_speedup > 1.9
    assert fast.sealed
    assert {prompt.prompt_id for prompt in PROMPTS[:20]} == recorded_prompts(fast)
    assert (Verdict.GO, 1) == (report.decision.verdict, report.estimates.stopping.look)


def test_at_the_threshold_the_run_goes_to_the_last_look(endless):
    """Nothing is decided before, and the last look is the whole plan."""
    stopping = reports.conclude(endless).estimates.stopping

    assert len(PROMPTS) == len(recorded_prompts(endless)) == stopping.num_prompts
    assert len(LOOKS) == stopping.look == stopping.num_looks


def test_far_below_the_threshold_the_run_ends_early(tmp_path):
    """A draft as slow as the target is NO_GO long before the end."""
    trace = record(tmp_path, engine(SLOW))

    assert Verdict.NO_GO is reports.conclude(trace).decision.verdict
    assert len(recorded_prompts(trace)) <= LOOKS[1].num_prompts


def test_a_wrong_answer_ends_the_run(tmp_path):
    """However fast: an unexplained divergence is final at the first look."""
    trace = record(tmp_path, engine(broken_arms=frozenset({DRAFT_4.name})))

    assert Verdict.NO_GO is reports.conclude(trace).decision.verdict
    assert 20 == len(recorded_prompts(trace))


def test_one_wrong_arm_does_not_end_the_run_of_another(tmp_path):
    """One arm is NO_GO and the other GO: the run is GO, and ends for it."""
    plan = make_plan(BASELINE, DRAFT_4, DRAFT_2, BASELINE_AGAIN, max_new_tokens=40)
    trace = record(tmp_path, engine(plan=plan, broken_arms=frozenset({DRAFT_4.name})))
    decision = reports.conclude(trace).decision

    assert (Verdict.GO, DRAFT_2.name) == (decision.verdict, decision.arm)
    assert 20 == len(recorded_prompts(trace))


def test_a_noisy_machine_is_never_go(tmp_path):
    """A/A far from 1: the fastest arm goes on to the last look and is INCONCLUSIVE there."""

    class Noisy(FakeEngine):
        def observe(self, context_ids, arm, settings):
            seen = FakeEngine.observe(self, context_ids, arm, settings)
            return seen if arm != BASELINE_AGAIN else replace(seen, decode_s=1.3 * seen.decode_s)

    trace = record(tmp_path, Noisy(plan=PLAN, machine=FAST, traffic=TRAFFIC))
    decision = reports.conclude(trace).decision
    by_rule = {one.rule.split()[0]: one.outcome for one in decision.arms[0].findings}

    assert Verdict.INCONCLUSIVE is decision.verdict
    assert (RuleOutcome.MET, RuleOutcome.FAILED) == (by_rule["decode"], by_rule["baseline"])
    assert len(PROMPTS) == len(recorded_prompts(trace))


def test_every_interval_is_at_the_level_of_its_look(fast, endless):
    """What looking costs is paid by all numbers that are published."""
    for trace, look in ((fast, 0), (endless, len(LOOKS) - 1)):
        estimates = reports.conclude(trace).estimates
        arm = estimates.arms[0]
        levels = {one.level for one in (arm.decode_speedup, arm.tpot_s, estimates.noise_floor)}

        assert {LEVELS[look]} == levels
        assert LEVELS[look] == estimates.stopping.level > 0.95


def test_trials_are_missed_against_the_look_and_not_against_the_most(fast):
    """A run that ended early by plan has no trial missing."""
    estimates = reports.conclude(fast).estimates

    assert LOOKS[0].num_trials == estimates.num_planned_trials == estimates.num_recorded_trials
    assert LOOKS[0].num_trials == 3 * estimates.arms[0].num_planned_trials


def test_another_policy_is_judged_at_the_same_level(fast):
    """Repeated confidence intervals hold whatever made the run stop."""
    lenient = reports.conclude(fast, policy=Policy(min_decode_speedup=0.5))

    assert reports.conclude(fast).estimates == lenient.estimates


@pytest.mark.parametrize(
    ("machine", "stops"),
    [(FAST, [1]), (FAST, [FIRST - 1, FIRST]), (SLOW, [FIRST + 1]), (SLOW, [30, FIRST + 20])],
)
def test_killed_and_resumed_is_undisturbed(tmp_path, machine, stops):
    """Before, at and behind the first look: the same trials, and the same end."""
    whole = record(tmp_path / "whole", engine(machine))
    for stop in stops:
        try:
            record(tmp_path / "broken", engine(machine), stop_after=stop)
        except KeyboardInterrupt:
            continue
    resumed = record(tmp_path / "broken", engine(machine))

    assert whole.trials == resumed.trials
    assert reports.conclude(whole).estimates == reports.conclude(resumed).estimates


def test_a_passed_look_decides_the_same_again(tmp_path):
    """Behind an undecided look nothing is asked of later records when it is read again."""
    policy = Policy(min_decode_speedup=truth(PLAN, DRAFT_4, TRAFFIC, Machine()).decode_speedup)
    said = []
    with pytest.raises(KeyboardInterrupt):
        record(tmp_path, engine(Machine()), policy=policy, stop_after=FIRST + 20, stage=said.append)
    first = [line for line in said if line.startswith("look ")]
    record(tmp_path, engine(Machine()), stage=said.append)
    again = [line for line in said if line.startswith("look ")][len(first) :]

    assert first
    assert first == again[: len(first)]


def test_between_looks_a_run_is_read_at_the_last_one(endless):
    """Prompts behind the look are recorded and not read; the estimates are the look's own."""
    cut = LOOKS[1].num_trials + 7
    interrupted = replace(endless, trials=endless.trials[:cut], sealed=False)
    at_look = replace(endless, trials=endless.trials[: LOOKS[1].num_trials], sealed=False)

    assert reports.conclude(at_look).estimates == reports.conclude(interrupted).estimates
    assert 2 == reports.conclude(interrupted).estimates.stopping.look


def test_before_its_first_look_a_run_is_not_go(fast):
    """However fast: as unfinished as a run of the full size would be."""
    interrupted = replace(fast, trials=fast.trials[:-1], sealed=False)
    report = reports.conclude(interrupted)

    assert Verdict.INCONCLUSIVE is report.decision.verdict
    assert None is report.estimates.stopping
    assert LOOKS[-1].num_trials == report.estimates.num_planned_trials
    assert LEVELS[0] == report.estimates.arms[0].decode_speedup.level


def test_failed_prompts_do_not_stop_the_looks(tmp_path):
    """A failed trial is recorded, so its look is complete; where all fail, nothing is decided."""
    failures = {prompt.prompt_id: ValueError("no") for prompt in PROMPTS[:22]}
    trace = record(tmp_path, engine(failures=failures))

    assert 20 < len(recorded_prompts(trace))
    assert len(LOOKS) >= reports.conclude(trace).estimates.stopping.look > 1


def test_a_compared_run_keeps_its_level(fast):
    """Beside another run: the same numbers as alone; on common prompts alone, the same level."""
    part = replace(fast, trials=tuple(t for t in fast.trials if t.key.prompt_id != "p1"))
    both = [Run(name="whole", trace=fast), Run(name="part", trace=part)]
    whole, _ = comparisons._conclude([both[0], both[0]])
    cut, _ = comparisons._conclude(both)
    speedup = cut.report.estimates.arms[0].decode_speedup

    assert reports.conclude(fast).estimates.arms == whole.report.estimates.arms
    assert isinstance(speedup, Interval)
    assert LEVELS[0] == speedup.level
    assert Verdict.GO is cut.report.decision.verdict


def test_a_sorted_corpus_is_recorded_in_mixed_order():
    """Half of the prompts hold about half of each category, wherever the files put them."""
    by_category = sorted(make_prompts(200, categories="ab"), key=lambda prompt: prompt.category)
    firsts = [
        sum(prompt.category == "a" for prompt in shuffled(by_category, seed=seed)[:100])
        for seed in range(20)
    ]

    assert 45 < sum(firsts) / len(firsts) < 55
    assert 20 > len(set(firsts)) > 1


def test_the_order_knows_prompts_and_seed_alone():
    """Another order of the files gives the same run; another seed gives another."""
    again = list(CORPUS)
    random.Random(3).shuffle(again)

    assert PROMPTS == shuffled(again, seed=0)
    assert PROMPTS != shuffled(again, seed=1)
    assert sorted(CORPUS, key=id) == sorted(PROMPTS, key=id)


def test_without_looks_every_prompt_is_recorded():
    """A run of a fixed size is asked nothing on the way."""
    given = until_decided(PROMPTS, (), read_trace=pytest.fail, say=pytest.fail)

    assert PROMPTS == tuple(given)
