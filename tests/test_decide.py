"""Every rule at its boundary, and what the rules make together."""

from dataclasses import replace

import pytest

from specmeasure.decide import decide, override, read_policy
from specmeasure.errors import InsufficientEvidence, UnusablePolicy
from specmeasure.records.decision import Policy, RuleOutcome, Verdict
from specmeasure.records.estimates import (
    Accuracy,
    ArmEstimates,
    Drift,
    Estimates,
    Interval,
    Losslessness,
    SampledLosslessness,
    SliceEstimates,
    Unmeasured,
)

UNKNOWN = Unmeasured(reason="nobody looked")
GIB = 2**30


def interval(low, high, *, value=None, num_prompts=100):
    """Around its middle, unless the value is given."""
    middle = (low + high) / 2 if value is None else value
    return Interval(value=middle, low=low, high=high, level=0.95, num_clusters=num_prompts)


def a_slice(name, speedup):
    return SliceEstimates(
        axis="category",
        name=name,
        num_prompts=10,
        decode_speedup=speedup,
        mean_acceptance_length=UNKNOWN,
        draft_acceptance_rate=UNKNOWN,
    )


def audited(num_divergent):
    return Losslessness(
        num_trials=100,
        num_identical=100 - num_divergent,
        num_near_tie=0,
        num_divergent=num_divergent,
        num_checked_tokens=5000,
        num_differing_from_baseline=num_divergent,
        worst_delta=None,
        worst_noise=None,
        divergent_prompts=(),
    )


def an_arm(name="draft k=4", speedup=None, **changes):
    """An arm that every default rule approves of."""
    speedup = speedup or interval(1.2, 1.4)
    made = ArmEstimates(
        name=name,
        num_speculative_tokens=4,
        num_prompts=100,
        num_trials=100,
        num_failed_trials=0,
        num_planned_trials=100,
        num_emitted_tokens=5000,
        ttft_s=UNKNOWN,
        tpot_s=UNKNOWN,
        memory_bytes=GIB,
        decode_speedup=speedup,
        decode_speedup_corrected=speedup,
        slices=(a_slice("chat", interval(1.2, 1.5)),),
        losslessness=audited(0),
    )
    return replace(made, **changes)


def estimates_of(*arms, **changes):
    made = Estimates(
        num_prompts=100,
        num_planned_trials=300,
        num_recorded_trials=300,
        noise_floor=interval(0.99, 1.01),
        baseline=an_arm("baseline"),
        arms=arms or (an_arm(),),
        num_resamples=200,
        seed=0,
    )
    return replace(made, **changes)


def judged(arm=None, policy=None, **changes):
    """The decision on one arm."""
    return decide(estimates_of(arm or an_arm(), **changes), policy or Policy()).arms[0]


def outcome(decision, words):
    (finding,) = [one for one in decision.findings if words in one.rule]
    return finding.outcome


@pytest.mark.parametrize(
    ("speedup", "rule", "verdict"),
    [
        (interval(1.10, 1.30), RuleOutcome.MET, Verdict.GO),
        (interval(1.0999, 1.30), RuleOutcome.OPEN, Verdict.INCONCLUSIVE),
        (interval(0.90, 1.10), RuleOutcome.OPEN, Verdict.INCONCLUSIVE),
        (interval(0.90, 1.0999), RuleOutcome.FAILED, Verdict.NO_GO),
        (UNKNOWN, RuleOutcome.OPEN, Verdict.INCONCLUSIVE),
    ],
)
def test_speed_is_met_low_and_failed_high(speedup, rule, verdict):
    """The lower bound must reach 1.10; an upper bound below it fails; unknown stays open."""
    found = judged(an_arm(speedup=speedup))

    assert (rule, verdict) == (outcome(found, "decode speedup"), found.verdict)


@pytest.mark.parametrize(
    ("speedup", "rule", "verdict"),
    [
        (interval(0.80, 1.00), RuleOutcome.MET, Verdict.GO),
        (interval(0.80, 0.9999), RuleOutcome.FAILED, Verdict.NO_GO),
        (UNKNOWN, RuleOutcome.MET, Verdict.GO),
    ],
)
def test_a_slow_slice_is_no_go(speedup, rule, verdict):
    """A category that is slower even at its upper bound fails the arm; an unmeasured one cannot."""
    slices = (a_slice("chat", interval(1.3, 1.5)), a_slice("law", speedup))

    found = judged(an_arm(slices=slices))

    assert (rule, verdict) == (outcome(found, "slice"), found.verdict)


def test_slow_slices_are_named():
    """All of them, with their numbers; else the slowest."""
    slow = (a_slice("law", interval(0.8, 0.9)), a_slice("poems", interval(0.7, 0.95)))
    fine = a_slice("chat", interval(1.3, 1.5))

    (failed,) = [f for f in judged(an_arm(slices=(fine, *slow))).findings if "slice" in f.rule]
    (met,) = [
        f
        for f in judged(an_arm(slices=(fine, a_slice("code", interval(1.1, 1.2))))).findings
        if "slice" in f.rule
    ]

    assert failed.observed.startswith("category law 0.85 [0.80, 0.90]")
    assert "; category poems 0.82 [0.70, 0.95]" in failed.observed
    assert met.observed.startswith("category code 1.15 [1.10, 1.20]")


def test_no_measured_slice_is_open():
    """Where no category could be measured, nobody knows whether one is slow."""
    found = judged(an_arm(slices=(a_slice("chat", UNKNOWN),)))

    assert (RuleOutcome.OPEN, Verdict.INCONCLUSIVE) == (outcome(found, "slice"), found.verdict)


@pytest.mark.parametrize(
    ("num_divergent", "allowed", "verdict"),
    [(0, 0, Verdict.GO), (1, 0, Verdict.NO_GO), (2, 2, Verdict.GO), (3, 2, Verdict.NO_GO)],
)
def test_a_divergence_is_no_go(num_divergent, allowed, verdict):
    """More unexplained divergences than the policy allows: fast and wrong is not GO."""
    found = judged(
        an_arm(losslessness=audited(num_divergent)), Policy(max_divergent_trials=allowed)
    )

    assert verdict == found.verdict


@pytest.mark.parametrize(
    ("memory", "rule", "verdict"),
    [
        (GIB, RuleOutcome.MET, Verdict.GO),
        (GIB + 1, RuleOutcome.FAILED, Verdict.NO_GO),
        (None, RuleOutcome.OPEN, Verdict.INCONCLUSIVE),
    ],
)
def test_memory_must_fit(memory, rule, verdict):
    """Weights and cache up to the limit fit, a byte more does not, unknown stays open."""
    found = judged(an_arm(memory_bytes=memory), Policy(max_memory_bytes=GIB))

    assert (rule, verdict) == (outcome(found, "1.00 GiB"), found.verdict)


def test_memory_without_a_limit_is_no_rule():
    """A policy that names no limit does not judge memory."""
    assert not [one for one in judged().findings if "GiB" in one.rule]


@pytest.mark.parametrize(
    ("num_prompts", "rule", "verdict"),
    [(20, RuleOutcome.MET, Verdict.GO), (19, RuleOutcome.OPEN, Verdict.INCONCLUSIVE)],
)
def test_few_prompts_are_inconclusive(num_prompts, rule, verdict):
    """Below the policy's number of prompts nothing is GO, however fast."""
    found = judged(an_arm(num_prompts=num_prompts))

    assert (rule, verdict) == (outcome(found, "at least 20 prompts"), found.verdict)


@pytest.mark.parametrize(
    ("num_failed", "verdict"),
    [(5, Verdict.GO), (6, Verdict.INCONCLUSIVE), (99, Verdict.INCONCLUSIVE)],
)
def test_an_arm_that_mostly_fails_is_never_go(num_failed, verdict):
    """More than a twentieth of the planned trials lost: what is left may be the easy ones."""
    losslessness = replace(audited(0), num_trials=100 - num_failed)
    found = judged(an_arm(num_failed_trials=num_failed, losslessness=losslessness))

    assert verdict == found.verdict


def test_lost_audits_are_not_lossless():
    """A greedy arm without a single audit cannot be GO."""
    lost = replace(audited(0), num_trials=0, num_identical=0)

    assert Verdict.INCONCLUSIVE == judged(an_arm(losslessness=lost)).verdict


@pytest.mark.parametrize(
    ("floor", "rule", "verdict"),
    [
        (interval(1.02, 1.04), RuleOutcome.MET, Verdict.GO),
        (interval(1.0201, 1.04), RuleOutcome.FAILED, Verdict.INCONCLUSIVE),
        (interval(0.95, 0.98), RuleOutcome.MET, Verdict.GO),
        (interval(0.95, 0.9799), RuleOutcome.FAILED, Verdict.INCONCLUSIVE),
        (interval(0.5, 2.0), RuleOutcome.MET, Verdict.GO),
        (UNKNOWN, RuleOutcome.OPEN, Verdict.INCONCLUSIVE),
    ],
)
def test_a_noisy_machine_is_inconclusive(floor, rule, verdict):
    """A baseline that differs from itself by more than 2 % for certain proves nothing."""
    found = judged(noise_floor=floor)

    assert (rule, verdict) == (outcome(found, "A/A"), found.verdict)


@pytest.mark.parametrize(
    "changes", [{"num_prompts": 3}, {"noise_floor": interval(1.1, 1.2)}, {"noise_floor": UNKNOWN}]
)
@pytest.mark.parametrize(
    "arm",
    [
        an_arm(speedup=interval(0.7, 0.8)),
        an_arm(losslessness=audited(1)),
        an_arm(slices=(a_slice("law", interval(0.7, 0.8)),)),
    ],
    ids=["slow", "divergent", "slow slice"],
)
def test_noise_and_few_prompts_do_not_hide_a_no_go(arm, changes):
    """They cap a verdict at INCONCLUSIVE; they do not lift one to it."""
    assert Verdict.NO_GO == judged(arm, **changes).verdict


def test_go_needs_every_rule():
    """GO where all findings are met, and the decision carries the arm and the policy."""
    policy = Policy(max_memory_bytes=2 * GIB)

    decision = decide(estimates_of(), policy)

    assert (Verdict.GO, "draft k=4", policy) == (decision.verdict, decision.arm, decision.policy)
    assert [RuleOutcome.MET] * 7 == [one.outcome for one in decision.arms[0].findings]


def test_one_failed_rule_outweighs_an_open_one():
    """An open speed and a divergence together are NO_GO."""
    found = judged(an_arm(speedup=interval(0.9, 1.5), losslessness=audited(1)))

    assert Verdict.NO_GO == found.verdict


@pytest.mark.parametrize(
    ("corrected", "verdict"),
    [(interval(1.05, 1.40), Verdict.INCONCLUSIVE), (interval(1.12, 1.40), Verdict.GO)],
)
def test_the_corrected_interval_decides(corrected, verdict):
    """With several arms the interval that allows for the choice among them is judged."""
    arm = an_arm(speedup=interval(1.15, 1.35), decode_speedup_corrected=corrected)

    decision = decide(estimates_of(arm, an_arm("slow", interval(0.5, 0.6))), Policy())

    assert verdict == decision.verdict


def test_slices_are_judged_by_the_speed_rule():
    """Each category alone: route what gains, not what loses."""
    slices = (
        a_slice("chat", interval(1.10, 1.3)),
        a_slice("code", interval(1.05, 1.3)),
        a_slice("law", interval(0.9, 1.09)),
        a_slice("rare", UNKNOWN),
    )

    found = judged(an_arm(slices=slices))

    assert {
        "chat": Verdict.GO,
        "code": Verdict.INCONCLUSIVE,
        "law": Verdict.NO_GO,
        "rare": Verdict.INCONCLUSIVE,
    } == {one.name: one.verdict for one in found.slices}


@pytest.mark.parametrize(
    ("speedup", "expected"),
    [
        # 0.50 wide, 0.25 away: twice too wide, four times the prompts
        (interval(0.75, 1.75, value=1.25, num_prompts=30), 120),
        # below the threshold the upper half counts: 0.75 wide, 0.25 away
        (interval(0.25, 1.5, value=0.75, num_prompts=30), 270),
        # 0.2501 against 0.25: one prompt more
        (interval(0.9999, 1.5, value=1.25, num_prompts=30), 31),
        # exactly on the threshold: no number of prompts would tell
        (interval(0.5, 1.5, value=1.0, num_prompts=30), None),
        (UNKNOWN, None),
    ],
)
def test_prompts_to_settle_by_hand(speedup, expected):
    """n · (half width towards the threshold / distance to it)²."""
    found = judged(an_arm(speedup=speedup), Policy(min_decode_speedup=1.0))

    assert expected == found.num_prompts_to_settle


def test_prompts_to_settle_reach_the_minimum():
    """A fast arm on few prompts needs as many as the policy asks for."""
    speedup = interval(1.3, 1.5, num_prompts=8)

    found = judged(an_arm(speedup=speedup, num_prompts=8), Policy(min_prompts=50))

    assert (Verdict.INCONCLUSIVE, 50) == (found.verdict, found.num_prompts_to_settle)


@pytest.mark.parametrize(
    ("arm", "changes"),
    [
        (an_arm(), {}),
        (an_arm(speedup=interval(0.7, 0.8)), {}),
        (an_arm(), {"noise_floor": interval(1.1, 1.2)}),
    ],
    ids=["GO", "NO_GO", "noise"],
)
def test_more_prompts_do_not_always_help(arm, changes):
    """A verdict that stands, or a noisy machine, names no number of prompts."""
    assert None is judged(arm, **changes).num_prompts_to_settle


def test_arms_are_ordered_best_first():
    """GO before INCONCLUSIVE before NO_GO; within a verdict the faster one first."""
    arms = (
        an_arm("slow", interval(0.7, 0.9)),
        an_arm("slower", interval(0.5, 0.6)),
        an_arm("go", interval(1.2, 1.3)),
        an_arm("open", interval(1.0, 3.0)),
        an_arm("best", interval(1.4, 1.6)),
        an_arm("wrong but fast", interval(3.0, 4.0), losslessness=audited(1)),
    )

    decision = decide(estimates_of(*arms), Policy())

    assert ["best", "go", "open", "wrong but fast", "slow", "slower"] == [
        one.arm for one in decision.arms
    ]
    assert (Verdict.GO, "best") == (decision.verdict, decision.arm)


def test_an_unmeasured_arm_comes_last():
    """An arm whose speed is unknown does not pass one that was measured."""
    arms = (an_arm("unknown", UNKNOWN), an_arm("open", interval(0.9, 1.2)))

    decision = decide(estimates_of(*arms), Policy())

    assert ["open", "unknown"] == [one.arm for one in decision.arms]


def test_nothing_to_decide_is_an_error():
    """Estimates of baselines alone answer no question."""
    with pytest.raises(InsufficientEvidence, match="no speculative arm"):
        decide(replace(estimates_of(), arms=()), Policy())


def test_findings_show_their_numbers():
    """A rule names its threshold; what was observed has bounds, level and prompts."""
    finding = judged(policy=Policy(min_decode_speedup=1.15)).findings[0]

    assert "decode speedup ≥ 1.15 at the lower bound" == finding.rule
    assert "1.30 [1.20, 1.40] at 95 %, 100 prompts" == finding.observed


def test_an_empty_policy_is_the_default():
    """A file that says nothing changes nothing."""
    assert Policy() == read_policy("", "policy.toml")


def test_a_policy_replaces_what_it_names():
    """Other rules keep their defaults; whole numbers serve as numbers."""
    text = "min_decode_speedup = 2\nmax_memory_bytes = 1000\nmax_noise = 0.05"

    assert Policy(min_decode_speedup=2, max_memory_bytes=1000, max_noise=0.05) == read_policy(
        text, "policy.toml"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("min_speed = 1.2", "no rule 'min_speed'; there are min_decode_speedup, "),
        ('min_decode_speedup = "1.2"', "min_decode_speedup is '1.2'; it takes a number"),
        ("min_decode_speedup = true", "min_decode_speedup is True; it takes a number"),
        ("min_decode_speedup = -1.0", r"min_decode_speedup is -1.0; it takes a number from 0"),
        ("min_prompts = 20.5", r"min_prompts is 20.5; it takes a whole number"),
        ("max_memory_bytes = 1e9", "max_memory_bytes is 1000000000.0; it takes a whole number"),
        ("max_divergent_trials = [0]", r"max_divergent_trials is \[0\]; it takes a number"),
        ("[policy]\nmin_prompts = 3", "no rule 'policy'"),
        ("min_prompts: 20", "not TOML: "),
    ],
)
def test_an_unusable_policy_names_file_and_rule(text, message):
    """What was asked, where, and what would do."""
    with pytest.raises(UnusablePolicy, match=f"^mine/policy.toml: {message}"):
        read_policy(text, "mine/policy.toml")


def test_flags_replace_single_rules():
    """A flag that was not given leaves the policy as stated."""
    stated = Policy(min_prompts=5, min_decode_speedup=1.5)

    found = override(stated, {"min_prompts": None, "min_decode_speedup": 1.2}, "flags")

    assert Policy(min_prompts=5, min_decode_speedup=1.2) == found


@pytest.mark.parametrize(
    ("num_sampled", "rule"), [(40, RuleOutcome.MET), (39, RuleOutcome.OPEN), (0, RuleOutcome.OPEN)]
)
def test_sampled_answers_are_no_lost_audits(num_sampled, rule):
    """Of 100 answers 60 are audited: sampled ones account for the rest, or audits are missing."""
    audit = replace(audited(0), num_trials=60, num_identical=60, num_sampled=num_sampled)

    assert rule == outcome(judged(an_arm(losslessness=audit)), "divergence")


def sampled(p_value=0.5, **changes):
    made = SampledLosslessness(
        num_trials=100,
        num_tokens=20_000,
        num_impossible=0,
        p_uniform=p_value,
        p_baseline=None,
        p_surprise=0.9,
        p_pull=0.9,
        p_value=p_value,
        excess_nats=0.0,
        pull_share=0.0,
        detectable_share=0.03,
        detectable_acceptance=0.0141,
    )
    return replace(made, **changes)


NOT_GREEDY = Unmeasured(reason="no answer was decoded greedily")


def drawn(audit, **changes):
    """An arm that sampled every answer."""
    return an_arm(losslessness=NOT_GREEDY, sampled_losslessness=audit, **changes)


@pytest.mark.parametrize(
    ("p_value", "rule", "verdict"),
    [
        (0.05, RuleOutcome.MET, Verdict.GO),
        (0.0499, RuleOutcome.OPEN, Verdict.INCONCLUSIVE),
        (0.001, RuleOutcome.OPEN, Verdict.INCONCLUSIVE),
        (0.00099, RuleOutcome.FAILED, Verdict.NO_GO),
    ],
)
def test_sampled_tokens_must_be_likely_enough(p_value, rule, verdict):
    """Below the policy's chance they are wrong, below 1 in 20 suspect: more tokens tell."""
    found = judged(drawn(sampled(p_value)))

    assert (rule, verdict) == (outcome(found, "sampled tokens"), found.verdict)


@pytest.mark.parametrize("audit", [UNKNOWN, None, sampled(num_trials=99)])
def test_sampled_answers_without_an_audit_are_open(audit):
    """Lossless by construction is a claim, not a measurement; nor is a part of the answers."""
    found = judged(drawn(audit))

    assert (RuleOutcome.OPEN, Verdict.INCONCLUSIVE) == (
        outcome(found, "sampled tokens"),
        found.verdict,
    )


def test_the_sampled_audit_states_its_power():
    """p, tokens, answers, and which fault would have been found."""
    (found,) = [f for f in judged(drawn(sampled())).findings if "sampled tokens" in f.rule]

    assert "sampled tokens follow the target's own distribution (p ≥ 0.001)" == found.rule
    assert (
        "p = 0.5 over 20,000 tokens of 100 answers; acceptance 1.4 points too high would show"
    ) == found.observed


@pytest.mark.parametrize(
    ("num_impossible", "of_baseline", "rule"),
    [
        (20, 0, RuleOutcome.MET),
        (21, 0, RuleOutcome.FAILED),
        (21, 11, RuleOutcome.MET),
    ],
)
def test_tokens_without_a_chance_are_wrong(num_impossible, of_baseline, rule):
    """More than one in a thousand, and than twice the baseline's: no rounding moves an edge so."""
    found = judged(
        drawn(sampled(num_impossible=num_impossible)),
        baseline=an_arm(sampled_losslessness=sampled(num_impossible=of_baseline)),
    )

    assert rule == outcome(found, "sampled tokens")


def test_a_baseline_that_fails_does_not_convict():
    """Tokens drawn without drafts fail as well: the audit's law is off, not the verifier."""
    odd = an_arm(sampled_losslessness=sampled(1e-9))

    found = judged(drawn(sampled(1e-9)), baseline=odd)

    assert (RuleOutcome.OPEN, Verdict.INCONCLUSIVE) == (
        outcome(found, "sampled tokens"),
        found.verdict,
    )


def test_a_mixed_run_is_judged_twice():
    """Greedy answers by their divergences, sampled ones by their law; one failure is enough."""
    audit = replace(audited(0), num_trials=60, num_identical=60, num_sampled=40)
    wrong = sampled(1e-9, num_trials=40)

    found = judged(an_arm(losslessness=audit, sampled_losslessness=wrong))

    assert RuleOutcome.MET == outcome(found, "divergence")
    assert RuleOutcome.FAILED == outcome(found, "sampled tokens")
    assert Verdict.NO_GO == found.verdict


def lossy(nats, changed, **changes):
    """An arm that changes its output by design: its own audits do not judge it."""
    drift = Drift(num_tokens=5000, nats_per_token=nats, changed_share=changed)
    return an_arm(drift=drift, losslessness=audited(90), **changes)


SMALL, AT_LIMIT, LARGE = interval(0, 0.004), interval(0, 0.01), interval(0.0101, 0.02)
STRADDLING = interval(0.01, 0.02)


@pytest.mark.parametrize(
    ("nats", "changed", "verdict"),
    [
        (SMALL, AT_LIMIT, Verdict.GO),
        (AT_LIMIT, SMALL, Verdict.GO),
        (STRADDLING, SMALL, Verdict.INCONCLUSIVE),
        (SMALL, STRADDLING, Verdict.INCONCLUSIVE),
        (UNKNOWN, SMALL, Verdict.INCONCLUSIVE),
        (SMALL, UNKNOWN, Verdict.INCONCLUSIVE),
        (LARGE, SMALL, Verdict.NO_GO),
        (interval(-0.011, 0.001), SMALL, Verdict.INCONCLUSIVE),
        (interval(-0.5, -0.3), SMALL, Verdict.NO_GO),  # likelier tokens than the target's own
        (UNKNOWN, LARGE, Verdict.NO_GO),
    ],
)
def test_a_lossy_arm_is_judged_by_its_drift(nats, changed, verdict):
    """Both bounds at the pessimistic end for GO; beyond one at the optimistic end for NO_GO."""
    found = judged(lossy(nats, changed))

    assert verdict == found.verdict
    assert [] == [one.rule for one in found.findings if "divergence" in one.rule]


def test_a_lossy_arm_without_drift_is_not_go():
    """Speed alone does not turn loose verification on."""
    found = judged(an_arm(drift=UNKNOWN))

    assert Verdict.INCONCLUSIVE == found.verdict


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (interval(-0.02, 0.01), Verdict.GO),
        (interval(-0.0201, 0.01), Verdict.INCONCLUSIVE),
        (interval(-0.05, -0.0201), Verdict.NO_GO),
    ],
)
def test_a_lossy_arm_may_lose_a_few_answers(difference, verdict):
    """Where answers are graded, the loss is bounded like everything else."""
    accuracy = Accuracy(
        check="number",
        num_answers=100,
        baseline=interval(0.5, 0.7),
        arm=interval(0.5, 0.7),
        difference=difference,
    )

    assert verdict == judged(lossy(SMALL, SMALL, accuracy=accuracy)).verdict


def test_a_lossy_arm_whose_grades_are_unknown_is_not_go():
    """Grading that was asked for and gave nothing leaves its rule open."""
    assert Verdict.INCONCLUSIVE == judged(lossy(SMALL, SMALL, accuracy=UNKNOWN)).verdict


def test_drift_of_greedy_answers_does_not_speak_for_sampled_ones():
    """A run of both kinds has its drift from greedy answers alone."""
    mixed = replace(lossy(SMALL, SMALL), losslessness=replace(audited(80), num_sampled=10))

    assert Verdict.INCONCLUSIVE == judged(mixed).verdict


def test_drift_is_shown_with_its_digits():
    """Thousandths of a nat are what the policy is about."""
    (found,) = [f for f in judged(lossy(SMALL, SMALL)).findings if "nats" in f.rule]

    assert "lossy: drift within ± 0.01 nats per token at both bounds" == found.rule
    assert found.observed.startswith("0.0020 [0.0000, 0.0040] at 95 %")


def test_workers_are_no_slices_of_the_traffic():
    """A slow worker breaks no rule, has no verdict, and stands for no measured slice."""
    slow = replace(a_slice("2", interval(0.7, 0.8)), axis="worker")
    fine = a_slice("chat", interval(1.3, 1.5))

    beside, alone = judged(an_arm(slices=(fine, slow))), judged(an_arm(slices=(slow,)))

    assert [judged(an_arm(slices=(fine,))), judged(an_arm(slices=()))] == [beside, alone]


def test_slow_slices_are_found_on_any_axis():
    """A language that loses stops an arm whose categories all gain."""
    slow = replace(a_slice("te", interval(0.75, 0.91, value=0.83)), axis="language")

    found = judged(an_arm(slices=(a_slice("chat", interval(1.3, 1.5)), slow)))

    (finding,) = [f for f in found.findings if "slice" in f.rule]
    assert Verdict.NO_GO == found.verdict
    assert finding.observed.startswith("language te 0.83 [0.75, 0.91]")
    assert ["category", "language"] == [one.axis for one in found.slices]


@pytest.mark.parametrize(
    ("num_compared", "num_differing", "verdict", "said"),
    [
        (100, 0, Verdict.GO, "0 audited, 100 greedy answers; compared as text: all 100 are equal"),
        (100, 3, Verdict.INCONCLUSIVE, "compared as text: 3 of 100 differ, by near-ties or by f"),
        (99, 0, Verdict.INCONCLUSIVE, "compared as text: all 99 are equal"),
        (0, 0, Verdict.INCONCLUSIVE, "0 of 0 audited, 100 greedy answers"),
    ],
)
def test_texts_that_are_all_equal_have_no_divergence(num_compared, num_differing, verdict, said):
    """Of a server that gives no ids; a differing text may be a near-tie and proves nothing."""
    texts = replace(
        audited(0),
        num_trials=0,
        num_identical=0,
        num_checked_tokens=0,
        num_compared=num_compared,
        num_differing_from_baseline=num_differing,
        compared_as_text=True,
    )
    found = decide(estimates_of(an_arm(losslessness=texts)), Policy())
    (finding,) = [one for one in found.arms[0].findings if "divergence" in one.rule]

    assert verdict == found.verdict
    assert said in finding.observed


def test_ids_that_are_all_equal_are_not_called_text():
    """The audit failed, and the ids are known."""
    ids = replace(audited(0), num_trials=0, num_compared=100)
    found = decide(estimates_of(an_arm(losslessness=ids)), Policy())
    (finding,) = [one for one in found.arms[0].findings if "divergence" in one.rule]

    assert "compared with the baseline's: all 100 are equal" in finding.observed
