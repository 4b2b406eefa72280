"""The audit's page and its short form say what was found, and with what power."""

from dataclasses import replace

from specmeasure.brief.audit import audit_content, audit_summary, render_audit
from specmeasure.records.audit import AuditedArm, AuditReport
from specmeasure.records.decision import Policy, RuleFinding, RuleOutcome, Verdict
from specmeasure.records.estimates import (
    Drift,
    FirstDivergence,
    Losslessness,
    NearTie,
    SampledLosslessness,
    Unmeasured,
)
from specmeasure.records.plan import GREEDY, Sampling
from tests.brief.examples import interval
from tests.brief.terminal import printed

GREEDY_COUNTS = Losslessness(
    num_trials=40,
    num_identical=37,
    num_near_tie=2,
    num_divergent=1,
    num_checked_tokens=5120,
    num_differing_from_baseline=3,
    worst_delta=1.5,
    worst_noise=0.00002,
    divergent_prompts=("p7, turn 1, token 17",),
    near_ties=(NearTie(place="p3, turn 1, token 4", delta=0.00001, noise=0.00002),),
    first_divergences=(
        FirstDivergence(
            place="p7, turn 1, token 17", token_id=311, baseline_token_id=12, gap=1.5, noise=2e-5
        ),
        FirstDivergence(
            place="p9, turn 1, token 5", token_id=None, baseline_token_id=9, gap=None, noise=None
        ),
    ),
)
SAMPLED = SampledLosslessness(
    num_trials=160,
    num_tokens=21_340,
    num_impossible=0,
    p_uniform=0.41,
    p_baseline=0.52,
    p_surprise=0.63,
    p_pull=0.74,
    p_value=0.99,
    excess_nats=0.0012,
    pull_share=0.0021,
    detectable_share=0.031,
    detectable_acceptance=0.013,
)
RULE = "at most 0 answers with an unexplained divergence"


def arm(name: str = "draft k=4", verdict: Verdict = Verdict.GO, **changes: object) -> AuditedArm:
    outcome = RuleOutcome.MET if verdict is Verdict.GO else RuleOutcome.FAILED
    made = AuditedArm(
        name=name,
        num_prompts=40,
        num_answers=40,
        num_tokens=5120,
        is_baseline=name == "baseline",
        losslessness=None,
        sampled_losslessness=None,
        detectable_shift=None,
        drift=None,
        verdict=verdict,
        findings=(RuleFinding(rule=RULE, outcome=outcome, observed="0 of 40"),),
    )
    return replace(made, **changes)


def report(*arms: AuditedArm) -> AuditReport:
    return AuditReport(
        subject="answers.jsonl",
        target="models/target",
        dtype="float32",
        samplings=((GREEDY, 40), (Sampling(temperature=0.7), 160)),
        policy=Policy(),
        arms=arms,
    )


def test_a_divergent_arm_is_named_with_its_places():
    """NO_GO names the arm; the page has counts, first divergences and near-ties."""
    page = render_audit(
        report(arm("baseline"), arm(verdict=Verdict.NO_GO, losslessness=GREEDY_COUNTS))
    )

    assert page.startswith("# NO_GO: the output of draft k=4 is not the target's own\n")
    assert "| draft k=4 | 40      | 5,120  | 37        | 2        | 1 " in page
    assert "| draft k=4 | p7, turn 1, token 17 | 311   | 12         | 1.5 (2e-05) |" in page
    assert "| draft k=4 | p9, turn 1, token 5  | ended | 9          | –           |" in page
    assert "| draft k=4 | p3, turn 1, token 4 | 1e-05 (2e-05) |" in page


def test_power_is_said_in_words():
    """What so many tokens would have shown: in points of acceptance where the draft is known."""
    known = arm(sampled_losslessness=SAMPLED)
    unjudged = replace(SAMPLED, detectable_acceptance=None)
    unknown = replace(unjudged, p_pull=None, pull_share=None, detectable_share=None)
    other = arm("ngram k=4", sampled_losslessness=unknown, detectable_shift=0.0135)
    outside = arm("vllm k=4", sampled_losslessness=unjudged, detectable_shift=0.0135)
    said = "these 21,340 tokens would have shown, with a chance of 80 %,"
    moved = "moves 1.4 points of chance between the target's likelier and less likely tokens"

    assert (
        f"draft k=4: {said} a verifier that accepts 1.3 points too much.",
        f"vllm k=4: {said} 3.1 % of the draft's law in place of the target's.",
        f"ngram k=4: {said} a fault that {moved}.",
    ) == audit_content(report(arm("baseline"), known, outside, other)).power


def test_all_tests_of_sampled_tokens_are_shown():
    """Each p-value, the excess and the draft's share, on the page."""
    page = render_audit(report(arm("baseline"), arm(sampled_losslessness=SAMPLED)))

    for said in ("0.99", "0.41", "0.52", "0.63", "0.74", "+0.0012", "0.21 %", "21,340"):
        assert said in page


def test_a_baseline_that_fails_proves_nothing_of_speculation():
    """Then the target is another one, or its settings are; no arm is NO_GO for that."""
    content = audit_content(
        report(arm("baseline", Verdict.NO_GO), arm(verdict=Verdict.NO_GO), arm("ngram k=4"))
    )

    assert Verdict.INCONCLUSIVE is content.verdict
    assert "answers without speculation are not this target's either" in content.headline
    assert "BOS" in content.headline


def test_without_a_baseline_the_page_says_what_that_leaves_open():
    """A fault may be the engine's model and not its verifier."""
    missing = "no answers of an arm called baseline"

    assert any(missing in note for note in audit_content(report(arm())).notes)
    assert not any(missing in note for note in audit_content(report(arm("baseline"))).notes)


def test_lossy_arms_show_their_drift():
    """Nats per token and changed tokens, or why they are not known."""
    drift = Drift(
        num_tokens=900,
        nats_per_token=interval(0.01, 0.005, 0.02),
        changed_share=interval(0.02, 0.01, 0.03),
    )
    content = audit_content(
        report(arm(drift=drift), arm("other", drift=Unmeasured(reason="too few prompts")))
    )

    assert ("draft k=4", "900", "0.010 [0.005, 0.020]", "2.0 % [1.0, 3.0]") == content.drift.rows[0]
    assert ("Not measured¹: too few prompts",) == content.footnotes


def test_names_cannot_break_the_page():
    """An arm's name is text, whatever is in it."""
    page = render_audit(report(arm("a|<b>\x1b[31m")))

    assert "a\\|\\<b\\> [31m" in page


def test_the_short_form_fits_in_a_hundred_columns():
    """With every table that there can be."""
    drift = Drift(
        num_tokens=900,
        nats_per_token=interval(0.01, 0.005, 0.02),
        changed_share=interval(0.02, 0.01, 0.03),
    )
    full = {"losslessness": GREEDY_COUNTS, "sampled_losslessness": SAMPLED, "drift": drift}
    text = printed(audit_summary(report(arm("baseline", **full), arm(**full))), width=100)

    assert "First divergences" in text
    assert max(map(len, text.splitlines())) <= 100
