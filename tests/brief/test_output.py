from dataclasses import replace

import pytest

from specmeasure.brief.joined import join_arms
from specmeasure.brief.output import UNTESTED, write_output, write_output_notes
from specmeasure.records.estimates import Losslessness, Unmeasured
from specmeasure.records.plan import GREEDY, Sampling, TypicalAcceptance
from tests.brief import examples


def first(records: examples.Records, **changes: object) -> str:
    """What is said of the headline's arm, some of its estimates replaced."""
    manifest, estimates, decision = records
    arm = replace(estimates.arms[0], **changes)
    estimates = replace(estimates, arms=(arm, *estimates.arms[1:]))
    return write_output(manifest, join_arms(manifest, estimates, decision))[0].text


def notes(records: examples.Records) -> tuple[str, ...]:
    manifest, estimates, decision = records
    return write_output_notes(
        manifest, estimates.baseline, join_arms(manifest, estimates, decision)
    )


def audited(**changes: object) -> Losslessness:
    audit = examples.draft_arm().losslessness
    assert isinstance(audit, Losslessness)
    return replace(audit, **changes)


def test_greedy_answers_are_counted():
    """Identical, near-tie and divergent add up to what was checked, in one sentence."""
    assert first(examples.go()).startswith(
        "319 greedy answers checked token by token (30,020 tokens): 316 identical, 3 near-ties, "
        "0 divergent."
    )


def test_divergent_places_are_listed():
    """A divergence says where to look."""
    audit = audited(num_divergent=1, divergent_prompts=("p-9, turn 1, token 4",))

    assert "more than rounding explains: p-9, turn 1, token 4." in first(
        examples.go(), losslessness=audit
    )


def test_a_lossy_arm_diverges_by_its_own_rule():
    """What its rule lets through is counted, and not called unexplained."""
    manifest, estimates, decision = examples.go()
    arms = [
        replace(arm, lossy=None if arm.is_baseline else TypicalAcceptance())
        for arm in manifest.plan.arms
    ]
    manifest = replace(manifest, plan=replace(manifest.plan, arms=tuple(arms)))
    audit = audited(num_divergent=1, divergent_prompts=("p-9, turn 1, token 4",))
    said = first((manifest, estimates, decision), losslessness=audit)

    assert "1 divergent." in said
    assert "explains" not in said
    assert "lossy" in notes((manifest, estimates, decision))[-1]


def test_an_audit_that_is_missing_gives_its_reason():
    """Nothing is passed off as checked."""
    lost = Unmeasured(reason="the audit ran out of memory.")

    assert first(examples.go(), losslessness=lost) == "Not audited: the audit ran out of memory."
    assert first(examples.go(), losslessness=None) == "Not audited: the run holds no audit."


def test_sampled_tokens_come_with_power():
    """The p-value, what was impossible, and how small a fault so many tokens would show."""
    said = first(examples.sampled())

    assert "30,020 sampled tokens tested" in said
    assert "p = 0.44 (small is bad), 0 impossible." in said
    assert "accepts 1.6 points too much in four runs of five" in said


def test_what_was_not_greedy_is_no_gap_of_a_tested_run():
    """Where sampled tokens are tested, a greedy audit is not missed; else its reason stands."""
    nothing = Unmeasured(reason="no answer was decoded greedily")

    assert "Not audited" not in first(examples.sampled(), losslessness=nothing)
    assert "Not audited" in first(
        examples.sampled(), losslessness=nothing, sampled_losslessness=nothing
    )


def test_power_that_is_not_known_is_said():
    """Without the draft's law no power is claimed."""
    _, estimates, _ = examples.sampled()
    tested = replace(estimates.arms[0].sampled_losslessness, detectable_acceptance=None)
    said = first(examples.sampled(), sampled_losslessness=tested)

    assert "is not known without a draft's law" in said
    assert "four runs of five" not in said


def test_untested_sampling_claims_nothing():
    """A sampled run without a test says so, and why the rule may hold all the same."""
    said = first(examples.inconclusive())

    assert said.startswith("Not audited: only greedy runs are audited token by token.")
    assert said.endswith(UNTESTED)


@pytest.mark.parametrize(
    ("sampling", "is_untested"), [(GREEDY, False), (Sampling(temperature=0.7), True)]
)
def test_rows_decide_what_was_sampled(sampling, is_untested):
    """A greedy plan whose rows ask for a temperature was sampled in part."""
    manifest, estimates, decision = examples.go()
    corpus = replace(manifest.corpus, samplings=((GREEDY, 90), (sampling, 70)))
    said = first((replace(manifest, corpus=corpus), estimates, decision))

    assert is_untested == said.endswith(UNTESTED)


def test_drift_and_grades_of_a_lossy_arm():
    """Nats per token, changed tokens, right answers beside the baseline's."""
    manifest, estimates, decision = examples.sampled()
    said = write_output(manifest, join_arms(manifest, estimates, decision))[1].text

    assert "drifts 0.0213 [0.0192, 0.0234] nats per token" in said
    assert "3.8 % [3.4, 4.2] of 30,112 tokens" in said
    assert "63 % [55, 70] are right, of the baseline's 64 % [56, 72]" in said
    assert "-1.4 points [-4.3, +1.6]." in said


@pytest.mark.parametrize(
    ("dtype", "is_expected"),
    [("float32", False), ("torch.bfloat16", True), ("float16", True)],
)
def test_near_ties_are_expected_in_coarse_numbers(dtype, is_expected):
    """In 16 bits the page says that they happen; the baseline's own are the yardstick."""
    manifest, estimates, decision = examples.go()
    target = replace(manifest.models[0], dtype=dtype)
    (said,) = notes((replace(manifest, models=(target,)), estimates, decision))

    assert is_expected == ("they are expected" in said)
    assert "plain batching would do the same" in said
    assert said.endswith("The target alone has 3 near-ties in 320 answers.")


def test_no_near_tie_needs_no_explanation():
    """A page explains what it has."""
    manifest, estimates, decision = examples.no_go()
    clean = replace(
        estimates.baseline,
        losslessness=replace(estimates.baseline.losslessness, num_identical=320, num_near_tie=0),
    )

    assert () == notes((manifest, replace(estimates, baseline=clean), decision))
    assert 1 == len(notes((manifest, estimates, decision)))
