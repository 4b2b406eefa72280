from dataclasses import replace

import pytest

from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.intervals import MIN_PROMPTS, Intervals
from specmeasure.estimate.summary import estimate
from specmeasure.records.corpus import AskedSampling
from specmeasure.records.estimates import Interval, Unmeasured
from specmeasure.records.plan import BASELINE, BASELINE_AGAIN, Sampling
from tests.fakes import (
    DRAFT_2,
    DRAFT_4,
    NGRAM_4,
    FakeEngine,
    Machine,
    Traffic,
    make_chat,
    make_plan,
    make_prompts,
    recorded_trace,
    simulated_trace,
    truth,
)

QUICK = Intervals(num_resamples=200)


def run(prompts, *arms, temperature=0.0, **changes):
    """The estimates of a run of these arms."""
    plan = make_plan(*arms, sampling=Sampling(temperature=temperature))
    engine = FakeEngine(plan=plan, **changes)
    return estimate(recorded_trace(engine, prompts), QUICK)


@pytest.fixture(scope="module")
def hundred():
    """A run of 100 prompts and its plan."""
    return simulated_trace(100, seed=5)


def test_a_run_is_estimated_close_to_the_truth(hundred):
    """Speedup, acceptance rate and τ of 100 prompts: the intervals hold what they should."""
    known = truth(hundred.manifest.plan, DRAFT_4, Traffic(), Machine())

    (arm,) = estimate(hundred, QUICK).arms

    for found, true_value in [
        (arm.decode_speedup, known.decode_speedup),
        (arm.draft_acceptance_rate, known.draft_acceptance_rate),
        (arm.mean_acceptance_length, known.mean_acceptance_length),
    ]:
        assert found.low <= true_value <= found.high
        assert 100 == found.num_clusters


def test_counts_are_those_of_the_trace(hundred):
    """Prompts, planned and recorded trials, and tokens."""
    found = estimate(hundred, QUICK)
    tokens = {
        arm.name: sum(t.num_emitted_tokens for t in hundred.trials if t.key.arm == arm.name)
        for arm in hundred.manifest.plan.arms
    }

    assert (100, 300, 300) == (
        found.num_prompts,
        found.num_planned_trials,
        found.num_recorded_trials,
    )
    assert [tokens["baseline"], tokens["draft k=4"]] == [
        found.baseline.num_emitted_tokens,
        found.arms[0].num_emitted_tokens,
    ]


def test_graphs_are_timed_by_arm(hundred):
    """Σ over an arm's trials; an arm that made none says so, and it is not 0."""
    spent = {"p0": 0.25, "p1": 0.5}
    trials = tuple(
        replace(trial, capture_s=spent.get(trial.key.prompt_id))
        if trial.key.arm == "draft k=4"
        else trial
        for trial in hundred.trials
    )
    found = estimate(replace(hundred, trials=trials), QUICK)

    assert (None, 0.75) == (found.baseline.capture_s, found.arms[0].capture_s)


def test_trials_that_were_measured_again_are_told(hundred):
    """They count for nothing else."""
    found = estimate(replace(hundred, num_void=4), QUICK)

    assert replace(estimate(hundred, QUICK), num_void_trials=4) == found


def test_estimates_repeat(hundred):
    """The same trace and seed give the same numbers, resampled ones among them."""
    assert estimate(hundred, QUICK) == estimate(hundred, QUICK)


def test_a_baseline_against_itself_is_one(hundred):
    """On a machine with a little noise, the A/A ratio is 1 to within it."""
    floor = estimate(hundred, QUICK).noise_floor

    assert 0.99 < floor.low < 1 < floor.high < 1.01


def test_without_a_second_baseline_the_noise_is_unknown():
    """No A/A arm: not measured, which is not 1.00."""
    found = run(make_prompts(5), BASELINE, DRAFT_4)

    assert Unmeasured(reason="the run has no second baseline (A/A) arm") == found.noise_floor


def test_only_common_prompts_are_compared():
    """A prompt that one arm failed leaves that arm's comparison, and no other's."""
    found = run(
        make_prompts(12),
        BASELINE,
        DRAFT_4,
        NGRAM_4,
        failures={"p3": RuntimeError("no")},
        failing_arms=frozenset({"draft k=4"}),
    )

    draft, ngram = found.arms
    assert (11, 12) == (draft.decode_speedup.num_clusters, ngram.decode_speedup.num_clusters)
    assert (12, 1) == (draft.num_trials, draft.num_failed_trials)


def test_a_prompt_without_baseline_compares_nothing():
    """Where the baseline failed, no arm has a partner."""
    found = run(
        make_prompts(12),
        failures={"p3": RuntimeError("no")},
        failing_arms=frozenset({"baseline"}),
    )

    assert 11 == found.num_prompts == found.arms[0].decode_speedup.num_clusters
    assert 1 == found.baseline.num_failed_trials


def test_a_conversation_is_one_prompt():
    """Turns and repeats do not count as further evidence: the conversation is the cluster."""
    talks = [make_chat(f"talk{i}", 3) for i in range(6)]

    (arm,) = run(talks, BASELINE, DRAFT_4).arms

    assert (6, 18) == (arm.decode_speedup.num_clusters, arm.num_trials)


def test_several_arms_are_corrected_for():
    """With three arms tried, the corrected interval stands at 98.3 %, around the plain one."""
    found = run(make_prompts(8), BASELINE, DRAFT_2, DRAFT_4, NGRAM_4)

    for arm in found.arms:
        plain, corrected = arm.decode_speedup, arm.decode_speedup_corrected
        assert 1 - 0.05 / 3 == pytest.approx(corrected.level)
        assert corrected.low < plain.low < plain.value == corrected.value
        assert plain.high < corrected.high


def test_one_arm_is_not_corrected_for():
    """A single candidate was picked from nothing."""
    (arm,) = run(make_prompts(8), BASELINE, DRAFT_4, BASELINE_AGAIN).arms

    assert arm.decode_speedup == arm.decode_speedup_corrected


def test_slices_are_corrected_for():
    """Every category has its own speedup, at a level that holds for all of them together."""
    (arm,) = run(make_prompts(36, categories=["chat", "code", "law"])).arms

    assert ["chat", "code", "law"] == [one.name for one in arm.slices]
    assert [12, 12, 12] == [one.decode_speedup.num_clusters for one in arm.slices]
    assert {"category"} == {one.axis for one in arm.slices}
    assert {round(1 - 0.05 / looks, 12) for looks in (1, 2, 3)} == {
        round(one.decode_speedup.level, 12) for one in arm.slices
    }


def test_a_small_slice_is_unmeasured():
    """A category of one prompt has no interval; the others keep theirs."""
    prompts = make_prompts(MIN_PROMPTS + 1)
    prompts[-1] = replace(prompts[-1], category="rare")

    (arm,) = run(prompts).arms

    assert [Interval, Unmeasured] == [type(one.decode_speedup) for one in arm.slices]
    assert 1 == arm.slices[-1].num_prompts


def test_few_prompts_measure_nothing():
    """A run of one prompt ends in reasons, not in numbers without intervals."""
    (arm,) = run(make_prompts(1)).arms

    for name in (
        "ttft_s",
        "tpot_s",
        "draft_acceptance_rate",
        "mean_acceptance_length",
        "tokens_per_target_pass",
        "decode_speedup",
        "decode_speedup_corrected",
        "end_to_end_speedup",
        "median_prompt_speedup",
        "share_slower",
    ):
        assert isinstance(getattr(arm, name), Unmeasured), name


def test_a_silent_proposer_has_a_speed_but_no_acceptance():
    """An n-gram arm that never found anything is timed; its acceptance is unknown, not 0."""
    (arm,) = run(make_prompts(6), BASELINE, NGRAM_4, traffic=Traffic(ngram_miss_rate=1.0)).arms

    assert Unmeasured(reason="nothing was counted") == arm.draft_acceptance_rate
    assert Unmeasured(reason="nothing was counted") == arm.mean_acceptance_length
    assert isinstance(arm.decode_speedup, Interval)
    assert 1.0 == arm.tokens_per_target_pass.value
    assert None is arm.costs.draft_ratio


def test_memory_is_weights_and_the_largest_cache(hundred):
    """The draft's weights are the difference to the baseline."""
    found = estimate(hundred, QUICK)
    caches = [trial.cache_bytes for trial in hundred.trials]

    assert 2**30 + max(caches) == found.baseline.memory_bytes
    assert 2**28 == found.arms[0].extra_memory_bytes


def test_unknown_memory_is_not_zero():
    """Trials that could not say what they held leave memory unknown."""
    trace = simulated_trace(4, seed=0)
    trials = tuple(replace(trial, cache_bytes=None) for trial in trace.trials)

    found = estimate(replace(trace, trials=trials), QUICK)

    assert None is found.baseline.memory_bytes
    assert None is found.arms[0].extra_memory_bytes


def test_a_broken_verifier_is_found():
    """Every answer of an arm that lets a wrong token through is divergent; the baseline's none."""
    found = run(make_prompts(6), broken_arms=frozenset({"draft k=4"}))

    assert (6, 6) == (
        found.arms[0].losslessness.num_divergent,
        found.arms[0].losslessness.num_differing_from_baseline,
    )
    assert (6, 0) == (
        found.baseline.losslessness.num_identical,
        found.baseline.losslessness.num_divergent,
    )


def test_a_sampled_run_is_audited_by_its_law():
    """No greedy counts, but tests of every token; speed compares seconds per token."""
    found = run(make_prompts(6), temperature=1.0)
    for arm in (found.baseline, *found.arms):
        assert isinstance(arm.losslessness, Unmeasured)
        assert arm.num_emitted_tokens == arm.sampled_losslessness.num_tokens
        assert arm.sampled_losslessness.p_baseline is not None
    assert isinstance(found.arms[0].decode_speedup, Interval)


def test_a_sampled_broken_verifier_is_found():
    """Its tokens are unlikely, against the law and against the baseline's; the baseline's are not.

    Without drafts there is no pull.
    """
    found = run(make_prompts(6), temperature=1.0, broken_arms=frozenset({"draft k=4"}))
    broken, sound = found.arms[0].sampled_losslessness, found.baseline.sampled_losslessness

    assert max(broken.p_value, broken.p_baseline) < 1e-6
    assert sound.p_value > 0.001
    assert (None, None) == (sound.p_pull, sound.pull_share)


def test_a_greedy_run_has_sampled_nothing(hundred):
    """Which is not the same as a sampled run without audits."""
    found = estimate(hundred, QUICK)

    assert [None, None] == [arm.sampled_losslessness for arm in (found.baseline, *found.arms)]


def test_a_mixed_run_is_audited_both_ways():
    """Greedy rows by their divergences, rows that ask for a temperature by their law."""
    plain, warm = make_prompts(2), make_prompts(4)[2:]
    asked = AskedSampling(temperature=0.7)

    (arm,) = run([*plain, *(replace(one, asked=asked) for one in warm)]).arms

    assert (2, 2) == (arm.losslessness.num_trials, arm.losslessness.num_sampled)
    assert 2 == arm.sampled_losslessness.num_trials


def test_an_interrupted_run_is_estimated_as_far_as_it_got(hundred):
    """Half a trace is read like a whole one; both counts are shown."""
    found = estimate(replace(hundred, trials=hundred.trials[:150], sealed=False), QUICK)

    assert (50, 300, 150) == (
        found.num_prompts,
        found.num_planned_trials,
        found.num_recorded_trials,
    )


def test_nothing_recorded_is_an_error():
    """An empty trace has no estimates."""
    trace = replace(simulated_trace(4, seed=0), trials=())

    with pytest.raises(InsufficientEvidence, match="no baseline trial succeeded among 0 recorded"):
        estimate(trace, QUICK)


def test_nothing_succeeded_is_an_error():
    """Where all failed, the first failure is told."""
    failures = {f"p{i}": RuntimeError("no kernel") for i in range(3)}

    with pytest.raises(InsufficientEvidence, match=r"first failure: RuntimeError at fakes\.py"):
        run(make_prompts(3), failures=failures)


def test_uneven_sums_stop_the_estimates():
    """One arm's trial whose blocks do not add up is not averaged away."""
    trace = simulated_trace(6, seed=0)
    trials = tuple(
        replace(trial, num_emitted_tokens=trial.num_emitted_tokens + 1)
        if trial.key.arm == "draft k=4" and trial.key.prompt_id == "p4"
        else trial
        for trial in trace.trials
    )

    with pytest.raises(InsufficientEvidence, match=r"'p4'.*not to be trusted"):
        estimate(replace(trace, trials=trials), QUICK)
