from dataclasses import replace

from specmeasure.brief.headline import Headline, routing, write_headline
from specmeasure.brief.joined import JoinedArm, join_arms
from specmeasure.brief.numbers import TIMES
from specmeasure.records.decision import (
    ArmDecision,
    RuleFinding,
    RuleOutcome,
    SliceVerdict,
    Verdict,
)
from specmeasure.records.estimates import Unmeasured
from tests.brief import examples


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
