from dataclasses import replace

import pytest

from specmeasure.estimate.drift import is_near_tie, losslessness
from specmeasure.records.estimates import Losslessness, Unmeasured
from specmeasure.records.plan import GREEDY, Sampling
from specmeasure.records.trace import Audit, Checks, Divergence, SuspectToken
from tests.fakes import make_block, make_trial

NEAR_TIE = SuspectToken(index=3, delta=0.5, noise=0.25)
LEFT_AT_3 = Divergence(index=3, token_id=7, baseline_token_id=8, gap=0.5, noise=0.25)
DIVERGENT = SuspectToken(index=5, delta=0.75, noise=0.25)


def judge(trials, sampling=GREEDY):
    return losslessness([replace(trial, sampling=sampling) for trial in trials])


def audited(prompt_id, *suspects, divergence=None):
    audit = Audit(num_checked_tokens=10, suspects=suspects, divergence=divergence)
    return make_trial(prompt_id, make_block(4, 4), checks=Checks(audit=audit))


@pytest.mark.parametrize(
    ("delta", "noise", "expected"),
    [(0.5, 0.25, True), (0.500001, 0.25, False), (0.499999, 0.25, True), (1e-9, 0.0, False)],
)
def test_a_near_tie_is_at_most_twice_the_noise(delta, noise, expected):
    """An argmax can move by twice the largest logit difference, and not by more."""
    assert expected == is_near_tie(SuspectToken(index=0, delta=delta, noise=noise))


def test_trials_are_classified():
    """Without suspects identical, with near-ties alone near-tie, else divergent; they add up."""
    found = judge(
        [
            audited("a"),
            audited("b"),
            audited("c", NEAR_TIE, divergence=LEFT_AT_3),
            audited("d", NEAR_TIE, DIVERGENT, divergence=LEFT_AT_3),
            audited("e", DIVERGENT, divergence=replace(LEFT_AT_3, index=5)),
        ]
    )

    assert isinstance(found, Losslessness)
    assert (2, 1, 2) == (found.num_identical, found.num_near_tie, found.num_divergent)
    assert found.num_trials == found.num_identical + found.num_near_tie + found.num_divergent
    assert 50 == found.num_checked_tokens
    assert 3 == found.num_differing_from_baseline
    assert ("d, turn 1, token 5", "e, turn 1, token 5") == found.divergent_prompts


def test_the_worst_divergence_is_shown():
    """A near-tie with larger logits does not hide how far a divergent token was off."""
    loud = SuspectToken(index=1, delta=8.0, noise=4.0)

    found = judge([audited("a", loud), audited("b", DIVERGENT)])

    assert (0.75, 0.25) == (found.worst_delta, found.worst_noise)


def test_the_worst_near_tie_is_shown():
    """Without divergences the largest near-tie stands there."""
    small = SuspectToken(index=1, delta=0.1, noise=0.1)

    found = judge([audited("a", small), audited("b", NEAR_TIE)])

    assert (0.5, 0.25) == (found.worst_delta, found.worst_noise)


def test_no_suspect_has_no_delta():
    """Where all answers are identical there is no worst token, not one with delta 0."""
    found = judge([audited("a")])

    assert (None, None) == (found.worst_delta, found.worst_noise)


def test_ten_divergences_are_listed():
    """A broken verifier does not fill the brief: all are counted, ten are named."""
    found = judge([audited(f"p{i}", DIVERGENT) for i in range(30)])

    assert (30, 10) == (found.num_divergent, len(found.divergent_prompts))


def test_near_ties_are_listed_largest_first():
    """At most ten, with what they were off by and the noise there; divergent tokens are not."""
    small = [SuspectToken(index=i, delta=0.01 * i, noise=1.0) for i in range(1, 12)]

    found = judge([audited("a", NEAR_TIE, DIVERGENT), audited("b", *small)])

    assert ("a, turn 1, token 3", 0.5, 0.25) == (
        found.near_ties[0].place,
        found.near_ties[0].delta,
        found.near_ties[0].noise,
    )
    assert [0.5, 0.11, 0.10, 0.09] == [round(one.delta, 2) for one in found.near_ties[:4]]
    assert 10 == len(found.near_ties)


def test_first_divergences_are_listed_by_their_gap():
    """Both tokens, gap and noise; where one answer had ended there is no gap, which is not 0."""
    ended = Divergence(index=4, token_id=None, baseline_token_id=8, gap=None, noise=None)
    tie = replace(LEFT_AT_3, gap=0.0)

    found = judge(
        [
            audited("a", divergence=ended),
            audited("b", divergence=tie),
            audited("c", divergence=LEFT_AT_3),
            audited("d"),
        ]
    )

    assert [
        ("c, turn 1, token 3", 7, 8, 0.5, 0.25),
        ("b, turn 1, token 3", 7, 8, 0.0, 0.25),
        ("a, turn 1, token 4", None, 8, None, None),
    ] == [
        (one.place, one.token_id, one.baseline_token_id, one.gap, one.noise)
        for one in found.first_divergences
    ]


def test_unaudited_is_unmeasured():
    """Sampled answers have no audit: losslessness is not measured, which is not lossless."""
    found = judge([replace(audited("a"), checks=None)], Sampling(temperature=1.0))

    assert isinstance(found, Unmeasured)


def test_lost_audits_are_not_identical():
    """A greedy run that lost its audits has audited nothing; it has not shown anything."""
    found = judge([replace(audited("a"), checks=None)])

    assert isinstance(found, Losslessness)
    assert (0, 0) == (found.num_trials, found.num_identical)


def test_a_mixed_run_audits_its_greedy_answers():
    """Sampled answers are counted beside the audits, failed ones nowhere."""
    drawn = Sampling(temperature=0.7)
    sampled = [replace(make_trial(f"s{n}", make_block(4, 4)), sampling=drawn) for n in range(3)]
    failed = replace(sampled[0], error="no kernel")

    found = losslessness([audited("a"), audited("b", DIVERGENT), *sampled, failed])

    assert isinstance(found, Losslessness)
    assert (2, 1, 3) == (found.num_trials, found.num_divergent, found.num_sampled)


def hashed(prompt_id, ids_hash, **changes):
    return make_trial(prompt_id, make_block(4, 4), ids_hash=ids_hash, **changes)


def test_answers_that_were_not_audited_are_compared_by_digest():
    """Equal to any of the baseline's own answers is equal; without one there is no comparison."""
    baseline = [hashed("a", "1"), hashed("a", "2"), hashed("b", "1"), hashed("c", None)]
    arm = [hashed("a", "2"), hashed("b", "2"), hashed("c", "1"), hashed("d", "1")]
    failed = hashed("a", "3", error="HTTP 500")
    sampled = hashed("a", "3", sampling=Sampling(temperature=1.0))

    found = losslessness([*arm, failed, sampled], baseline, as_text=True)

    assert (0, 2, 1) == (
        found.num_trials,
        found.num_compared,
        found.num_differing_from_baseline,
    )
    assert found.compared_as_text


def test_an_audit_tells_before_the_digest():
    """It compared the tokens, with the answer that it knew."""
    found = losslessness([audited("a"), audited("b", divergence=LEFT_AT_3)], [hashed("a", "other")])

    assert (2, 1) == (found.num_compared, found.num_differing_from_baseline)
