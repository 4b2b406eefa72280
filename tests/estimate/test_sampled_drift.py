"""The tests of sampled tokens: by hand, quiet on a sound verifier, loud on faulty ones."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from calibration.audit_power import (
    Auditor,
    Fault,
    accepts_more,
    as_trial,
    lets_through,
    make_laws,
    redraws_from_the_target,
    sound,
    warmer,
)
from specmeasure.estimate.sampled_drift import (
    chance_above,
    chance_both_sides,
    sampled_losslessness,
)
from specmeasure.records.estimates import SampledLosslessness, Unmeasured
from specmeasure.records.plan import GREEDY
from specmeasure.records.trace import Pull, SampledAudit, Score, TrialRecord

NUM_TOKENS = 20_000
PIT = tuple((place + 0.5) / 100 for place in range(100))  # as even as can be
EVEN = SampledAudit(
    pit=PIT,
    num_impossible=1,
    surprise=Score(excess=5.0, variance=100.0),
    pull=Pull(
        score=Score(excess=4.0, variance=16.0), shift=80.0, num_judged=90, total_variation=36.0
    ),
)


def judged(*trials: TrialRecord, baseline: tuple[TrialRecord, ...] = ()) -> SampledLosslessness:
    found = sampled_losslessness(trials, baseline)
    assert isinstance(found, SampledLosslessness)
    return found


def test_two_answers_by_hand():
    """Sums over both; z = 10 / √200 of surprise, z = 8 / √32 of pull, three tests in all."""
    found = judged(as_trial(EVEN), as_trial(EVEN))

    assert (2, 200, 2) == (found.num_trials, found.num_tokens, found.num_impossible)
    assert 0.05 == pytest.approx(found.excess_nats)
    assert 0.05 == pytest.approx(found.pull_share)
    assert 2 * stats.norm.sf(10 / math.sqrt(200)) == pytest.approx(found.p_surprise, rel=1e-3)
    assert stats.norm.sf(8 / math.sqrt(32)) == pytest.approx(found.p_pull, rel=1e-3)
    assert 1.0 == pytest.approx(found.p_uniform)
    assert None is found.p_baseline
    assert 3 * found.p_pull == pytest.approx(found.p_value)


def test_what_could_have_been_found_by_hand():
    """(z of 0.05 / 3 + z of 0.8) · √32 / 160, and that times a mean distance of 0.4."""
    found = judged(as_trial(EVEN), as_trial(EVEN))

    share = (stats.norm.isf(0.05 / 3) + stats.norm.ppf(0.8)) * math.sqrt(32) / 160
    assert share == pytest.approx(found.detectable_share)
    assert 0.4 * share == pytest.approx(found.detectable_acceptance)


def test_the_baselines_tokens_are_a_yardstick():
    """Where they are there, theirs is a fourth test: two samples against each other."""
    uneven = replace(EVEN, pit=tuple(one**3 for one in PIT))

    same = judged(as_trial(EVEN), baseline=(as_trial(EVEN),))
    other = judged(as_trial(uneven), baseline=(as_trial(EVEN),))

    assert 1.0 == pytest.approx(same.p_baseline)
    assert 4 * same.p_pull == pytest.approx(same.p_value)
    assert 1e-3 > other.p_baseline > other.p_uniform


def test_no_draft_no_pull():
    """A baseline's tokens lean nowhere: the pull and its power are absent, not 0."""
    found = judged(as_trial(replace(EVEN, pull=None)))

    assert [None] * 4 == [
        found.p_pull,
        found.pull_share,
        found.detectable_share,
        found.detectable_acceptance,
    ]
    assert 1.0 == found.p_value


def test_a_target_that_drafts_for_itself_has_no_pull():
    """Two equal laws cannot be told apart by the tokens drawn from them."""
    alike = Pull(
        score=Score(excess=1e-7, variance=1e-9), shift=1e-8, num_judged=90, total_variation=1e-7
    )

    assert None is judged(as_trial(replace(EVEN, pull=alike))).p_pull


def test_greedy_and_failed_answers_are_left_out():
    """A mixed run is judged by its sampled answers; a greedy one is not judged here at all."""
    trial = as_trial(EVEN)
    greedy, failed = replace(trial, sampling=GREEDY), replace(trial, error="no room", checks=None)

    assert 1 == judged(trial, greedy, failed).num_trials
    assert None is sampled_losslessness([greedy, failed], [])


def test_lost_audits_are_unmeasured():
    """Sampled answers without audits are not lossless."""
    assert isinstance(sampled_losslessness([replace(as_trial(EVEN), checks=None)], []), Unmeasured)


def test_what_rounding_explains_is_no_evidence():
    """Sums within a millionth a token say nothing, however small the law's own spread."""
    certain = Score(excess=9e-5, variance=1e-12)

    assert 1.0 == chance_above(certain, 100) == chance_both_sides(certain, 100)


@pytest.mark.parametrize("chance", [1e-3, 1e-5])
@pytest.mark.parametrize("num_tokens", [200, 2000, 20_000])
def test_rare_tokens_raise_no_alarm(chance: float, num_tokens: int):
    """At a low temperature one rare token decides the sum: the level holds within a factor of 2.

    A normal law's tail would be out by a factor of 20 and more. Exact over the number of rare
    tokens, which is binomial.
    """
    nats = np.array([-math.log1p(-chance), -math.log(chance)])
    law = np.array([1 - chance, chance])
    deviation = nats - law @ nats
    variance, third = (num_tokens * float(law @ deviation**power) for power in (2, 3))
    alarms = dict.fromkeys((0.05, 0.01, 0.001), 0.0)
    for num_rare in range(60):
        counts = np.array([num_tokens - num_rare, num_rare])
        score = Score(excess=float(counts @ deviation), variance=variance, third_moment=third)
        for level in alarms:
            if chance_both_sides(score, num_tokens) < level:
                alarms[level] += stats.binom.pmf(num_rare, num_tokens, chance)

    assert [] == [(level, found) for level, found in alarms.items() if found > 2.2 * level]


@pytest.fixture(scope="module", params=[False, True], ids=["sampled drafts", "point-mass drafts"])
def auditor(request: pytest.FixtureRequest) -> Auditor:
    return Auditor(make_laws(0, is_point=request.param))


def runs_of(
    auditor: Auditor, fault: Fault, num_runs: int, num_tokens: int
) -> list[SampledLosslessness]:
    rng = np.random.default_rng(num_runs)
    return [auditor.judge(auditor.draw(fault, num_tokens, rng), rng) for _ in range(num_runs)]


@pytest.mark.slow
@pytest.mark.parametrize("num_tokens", [500, NUM_TOKENS])
def test_a_sound_verifier_is_left_alone(auditor: Auditor, num_tokens: int):
    """At most 1 in 20 of 200 runs, and chance: 18 or fewer with a probability of 0.991."""
    found = [one.p_value for one in runs_of(auditor, sound, 200, num_tokens)]

    assert sum(p < 0.05 for p in found) <= 18
    assert sum(p < 0.001 for p in found) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["2 points", "redrawn", "2 % warmer"])
def test_a_faulty_verifier_is_caught(auditor: Auditor, name: str):
    """Within 20,000 tokens, in at least four of five runs."""
    faults = {
        "2 points": accepts_more(0.02),
        "redrawn": redraws_from_the_target,
        "2 % warmer": warmer(1.02),
    }
    found = [one.p_value for one in runs_of(auditor, faults[name], 30, NUM_TOKENS)]

    assert sum(p < 0.05 for p in found) >= 24


@pytest.mark.slow
def test_the_stated_power_is_the_power(auditor: Auditor):
    """A leak of the detectable share is found by the pull in 80 % of runs: 40 to 56 of 60."""
    (one,) = runs_of(auditor, sound, 1, NUM_TOKENS)
    share = one.detectable_share
    assert share is not None
    found = runs_of(auditor, lets_through(share), 60, NUM_TOKENS)

    assert 40 <= sum(one.p_pull < 0.05 / 4 for one in found if one.p_pull is not None) <= 56
    assert share == pytest.approx(np.mean([one.pull_share for one in found]), rel=0.15)


def test_a_leak_of_acceptance_is_measured(auditor: Auditor):
    """ε̂ lies within three standard errors of the share that was let through."""
    (found,) = runs_of(auditor, lets_through(0.1), 1, NUM_TOKENS)
    assert found.detectable_share is not None
    standard_error = found.detectable_share / (stats.norm.isf(0.05 / 4) + stats.norm.ppf(0.8))

    assert 0.1 == pytest.approx(found.pull_share, abs=3 * standard_error)
