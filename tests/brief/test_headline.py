from dataclasses import replace

import pytest

from specmeasure.brief.headline import Headline, routing, write_headline, write_summary
from specmeasure.brief.joined import JoinedArm, join_arms
from specmeasure.brief.numbers import TIMES
from specmeasure.records.decision import (
    ArmDecision,
    RuleFinding,
    RuleOutcome,
    SliceVerdict,
    Verdict,
)
from specmeasure.records.estimates import Interval, Unmeasured
from tests.brief import examples, examples_load


def headline_arm(records: examples.Records) -> JoinedArm:
    return join_arms(*records)[0]


def spoken(headline: Headline) -> str:
    return f"{headline.verdict}: {headline.before}{headline.arm}{headline.after}"


def decided(
    verdict: Verdict, *findings: RuleFinding, num_prompts_to_settle: int | None = None
) -> JoinedArm:
    decision = ArmDecision(
        arm="draft k=4",
        verdict=verdict,
        findings=findings,
        slices=(),
        num_prompts_to_settle=num_prompts_to_settle,
    )
    return replace(headline_arm(examples.go()), decision=decision)


def test_go_names_arm_and_speedup():
    """GO says what to turn on and what it gives, at the corrected level."""
    expected = (
        f"GO: turn on draft k=4: your prompts decode at 1.42{TIMES} [1.35, 1.49] the target's speed"
    )

    assert expected == spoken(write_headline(Verdict.GO, headline_arm(examples.go())))


def test_no_go_names_the_failed_rule():
    """NO_GO gives the first rule that failed, not one that only caps the verdict."""
    arm = decided(
        Verdict.NO_GO,
        examples.finding("quiet machine", RuleOutcome.FAILED, "noisy", blocks_no_go=True),
        examples.finding("fast enough", RuleOutcome.FAILED, "0.9"),
    )

    assert "failed on “fast enough” with 0.9" in spoken(write_headline(Verdict.NO_GO, arm))


def test_inconclusive_names_the_rule_that_caps_it():
    """A run that cannot be trusted is the reason, before any open rule."""
    arm = decided(
        Verdict.INCONCLUSIVE,
        examples.finding("fast enough", RuleOutcome.OPEN, "1.1"),
        examples.finding("quiet machine", RuleOutcome.FAILED, "noisy", blocks_no_go=True),
        num_prompts_to_settle=230,
    )
    said = spoken(write_headline(Verdict.INCONCLUSIVE, arm))

    assert "“quiet machine” with noisy; more prompts would not settle it" in said


def test_inconclusive_says_how_many_prompts_settle_it():
    """The next step is a number where one is known."""
    still_open = examples.finding("fast enough", RuleOutcome.OPEN, "1.1")
    known = decided(Verdict.INCONCLUSIVE, still_open, num_prompts_to_settle=230)
    unknown = decided(Verdict.INCONCLUSIVE, still_open)

    assert "about 230 prompts in all" in spoken(write_headline(Verdict.INCONCLUSIVE, known))
    assert "more prompts would not" in spoken(write_headline(Verdict.INCONCLUSIVE, unknown))


def test_noise_is_the_reason_where_it_decides():
    """A machine too noisy for its policy is named before any rule that it leaves open."""
    _, estimates, _ = examples.noisy()
    arm = headline_arm(examples.noisy())
    assert isinstance(estimates.noise_floor, Interval)
    headline = write_headline(Verdict.INCONCLUSIVE, arm, noise_beyond=estimates.noise_floor)

    assert spoken(headline) == (
        "INCONCLUSIVE: the machine was too noisy to judge draft k=4: the target ran at "
        f"1.051{TIMES} [1.032, 1.069] its own speed"
    )


def test_noise_does_not_hide_a_failed_rule():
    """NO_GO names its rule on a noisy machine too."""
    floor = examples.interval(1.05, 1.03, 1.07)
    arm = headline_arm(examples.no_go())

    assert "failed on" in spoken(write_headline(Verdict.NO_GO, arm, noise_beyond=floor))


@pytest.mark.parametrize("is_greedy", [True, False])
def test_summary_gives_speed_noise_and_price(is_greedy):
    """How fast, beside what the machine does alone; who got slower; what changed."""
    _, estimates, _ = examples.go()
    arm = headline_arm(examples.go())
    said = write_summary(Verdict.GO, arm, estimates.noise_floor, is_greedy=is_greedy)[0]

    assert ("per emitted token" in said) is not is_greedy
    assert f"(the target against itself, A/A: 1.003{TIMES} [0.994, 1.013])" in said
    assert said.endswith(
        "; 4.4 % [2, 8] of them got slower; 0 of 319 audited answers diverged from the "
        "target's own."
    )


def test_summary_of_a_sampled_run_gives_its_test():
    """Sampled answers cannot be compared one by one: the p of their test stands instead."""
    _, estimates, _ = examples.sampled()
    arm = headline_arm(examples.sampled())
    said = write_summary(Verdict.GO, arm, estimates.noise_floor, is_greedy=False)[0]

    assert said.endswith(
        "; were its output unchanged, sampled tokens as odd as these would come with a chance of "
        "p = 0.44 (small is bad)."
    )


def test_summary_claims_nothing_unmeasured():
    """No price is named that nobody measured."""
    _, estimates, _ = examples.inconclusive()
    arm = headline_arm(examples.inconclusive())
    said = write_summary(Verdict.INCONCLUSIVE, arm, estimates.noise_floor, is_greedy=True)[0]

    assert said.endswith("(the target against itself, A/A: not measured).")


def test_unmeasured_speedup_is_said():
    """A verdict without a speedup does not invent one."""
    arm = headline_arm(examples.go())
    nothing = Unmeasured(reason="no pairs")
    estimates = replace(arm.estimates, decode_speedup=nothing, decode_speedup_corrected=nothing)
    headline = write_headline(Verdict.GO, replace(arm, estimates=estimates))

    assert "GO: turn on draft k=4; decode speedup not measured" == spoken(headline)


def test_routing_needs_a_go_and_a_no_go():
    """Categories that merely lack evidence are no reason to route."""
    chat = SliceVerdict(axis="category", name="chat", verdict=Verdict.GO)
    code = SliceVerdict(axis="category", name="code", verdict=Verdict.NO_GO)
    sql = SliceVerdict(axis="category", name="sql", verdict=Verdict.INCONCLUSIVE)

    assert routing([chat, chat]) is None
    assert "by category: GO for chat; INCONCLUSIVE for sql" == routing([chat, sql])
    assert "by category: GO for chat; NO_GO for code: route" == routing([chat, code])


def test_headline_arm_comes_first():
    """The arm that the verdict speaks of leads, whatever the order of the rest."""
    manifest, estimates, decision = examples.go()
    turned = replace(decision, arms=decision.arms[::-1])

    assert "draft k=4" == join_arms(manifest, estimates, turned)[0].plan.name


def test_windows_are_not_prompts():
    """Under load nobody estimated how many more would do, nor that they would be in vain."""
    manifest, estimates, decision = examples_load.attached().records
    (arm,) = join_arms(manifest, estimates, decision)

    said = write_headline(decision.verdict, arm, scope=" at concurrency 8")

    assert said.after.endswith("; how many more windows would settle it was not estimated")
    assert " at concurrency 8" == said.scope


def test_the_load_opens_the_summary():
    """Its first words, and no more than words."""
    manifest, estimates, decision = examples_load.managed().records
    arm = join_arms(manifest, estimates, decision)[0]
    given = (decision.verdict, arm, estimates.noise_floor)
    measured, concluded = write_summary(*given, is_greedy=True, at="At concurrency 4, ")

    assert measured.startswith("At concurrency 4, decoding your 160 prompts with draft k=4 ran")
    assert concluded == write_summary(*given, is_greedy=True)[1]
