from dataclasses import replace

import numpy as np
import pytest

from specmeasure.estimate.intervals import MIN_PROMPTS, Intervals
from specmeasure.estimate.lossy_drift import lossy_drift
from specmeasure.records.estimates import Drift, Interval, Unmeasured
from specmeasure.records.plan import Sampling
from specmeasure.records.trace import Audit, Checks, SampledAudit, Score, SuspectToken
from tests.fakes import make_block, make_trial

PROMPTS = tuple(f"p{n}" for n in range(MIN_PROMPTS))
NEAR_TIE = SuspectToken(index=3, delta=0.5, noise=0.25)
HALF_A_NAT = SuspectToken(index=5, delta=0.5, noise=0.01)
TWO_NATS = SuspectToken(index=7, delta=2.0, noise=0.01)


def greedy(prompt_id, *suspects, num_tokens=10):
    audit = Audit(num_checked_tokens=num_tokens, suspects=suspects)
    return make_trial(prompt_id, make_block(4, 4), checks=Checks(audit=audit))


def sampled(prompt_id, excess, num_tokens=10):
    found = SampledAudit(
        pit=(0.5,) * num_tokens, num_impossible=0, surprise=Score(excess=excess, variance=1.0)
    )
    return make_trial(
        prompt_id,
        make_block(4, 4),
        sampling=Sampling(temperature=1.0),
        checks=Checks(sampled_audit=found),
    )


def drift_of(trials) -> Drift:
    found = lossy_drift(trials, Intervals())
    assert isinstance(found, Drift)
    return found


def test_greedy_drift_is_pooled_over_tokens():
    """2.5 nats in 65 tokens, 2 changed tokens in 65; near-ties are neither."""
    found = drift_of(
        [
            greedy("a", NEAR_TIE),
            greedy("b", HALF_A_NAT, NEAR_TIE),
            greedy("c", TWO_NATS, num_tokens=30),
            *[greedy(prompt, num_tokens=5) for prompt in "def"],
        ]
    )

    assert 65 == found.num_tokens
    assert pytest.approx(2.5 / 65) == found.nats_per_token.value
    assert pytest.approx(2 / 65) == found.changed_share.value
    assert 0 == found.nats_per_token.low


def test_no_change_still_leaves_a_bound_on_the_share():
    """Forty unchanged answers do not prove that no answer changes."""
    found = drift_of([greedy(str(n)) for n in range(40)])

    assert (0.0, 0.0) == (found.nats_per_token.value, found.changed_share.value)
    assert 0 < found.changed_share.high < 0.1


def test_trials_of_a_prompt_are_one_cluster():
    """Turns of a prompt are summed up before prompts are compared."""
    rows = [greedy(prompt, HALF_A_NAT) for prompt in PROMPTS]
    turns = [replace(row, key=replace(row.key, turn=1)) for row in rows]

    assert len(PROMPTS) == drift_of(rows + turns).nats_per_token.num_clusters


def test_sampled_drift_has_a_sign():
    """Tokens likelier than the target's own draws have less surprise than its entropy."""
    found = drift_of([sampled(str(n), -1.0 - n % 2) for n in range(20)])

    assert pytest.approx(-0.15) == found.nats_per_token.value
    assert found.nats_per_token.low < -0.15 < found.nats_per_token.high < 0
    assert isinstance(found.changed_share, Unmeasured)


def test_greedy_answers_speak_for_a_mixed_run():
    """Exact gaps are not added to surprises."""
    rows = [greedy(prompt, HALF_A_NAT) for prompt in PROMPTS]

    assert drift_of(rows) == drift_of([*rows, sampled("e", 100.0)])


def test_sampled_drift_is_covered():
    """A 95 % interval of the mean surprise holds 0 for tokens drawn from the target itself."""
    rng = np.random.default_rng(5)
    log_p = np.log([0.6, 0.3, 0.1])
    entropy = -float(np.exp(log_p) @ log_p)
    covered = []
    for _ in range(400):
        lengths = rng.integers(20, 200, size=30)
        rows = [
            sampled(str(n), float(-log_p[rng.choice(3, m, p=np.exp(log_p))].sum() - m * entropy), m)
            for n, m in enumerate(lengths.tolist())
        ]
        nats = drift_of(rows).nats_per_token
        assert isinstance(nats, Interval)
        covered.append(nats.low <= 0 <= nats.high)

    assert 0.93 - 0.02 <= np.mean(covered) <= 0.97 + 0.02  # ± 2 standard errors of such a count


def test_unaudited_arms_say_so():
    """No audit: no drift is claimed."""
    found = lossy_drift([make_trial("a", make_block(4, 4))], Intervals())

    assert isinstance(found, Unmeasured)
    assert "audited" in found.reason


def test_few_prompts_have_no_interval():
    """The drift's intervals say how many prompts they need."""
    rows = [greedy(prompt) for prompt in PROMPTS]

    assert isinstance(drift_of(rows[1:]).nats_per_token, Unmeasured)
    assert isinstance(drift_of(rows).nats_per_token, Interval)
