"""The verdict at the load that matters, and at every other beside it."""

from dataclasses import replace

import pytest

from specmeasure.decide import decide_under_load, override, read_policy
from specmeasure.errors import InsufficientEvidence, UnusablePolicy, UsageError
from specmeasure.records.decision import Policy, Verdict
from specmeasure.records.estimates import Losslessness
from specmeasure.records.load_curve import LoadCurve
from specmeasure.records.serving import Load
from tests.estimate.curves import a_point, between

DRAFT, NGRAM = "draft k=4", "ngram k=4"
LOSSLESS = Losslessness(
    num_trials=80,
    num_identical=80,
    num_near_tie=0,
    num_divergent=0,
    num_checked_tokens=4000,
    num_differing_from_baseline=0,
    worst_delta=None,
    worst_noise=None,
    divergent_prompts=(),
)


def point(concurrency, speedups, *, rate=None):
    """One at which every arm keeps the output."""
    made = a_point(concurrency, speedups, rate=rate)
    arms = tuple(replace(arm, losslessness=LOSSLESS) for arm in made.estimates.arms)
    return replace(made, estimates=replace(made.estimates, arms=arms))


def curve(*points):
    return LoadCurve(points=points, slo=None, crossovers=(), batch_sizes=(), foreign_share=None)


FALLING = curve(
    point(1, {DRAFT: between(1.3, 1.5), NGRAM: between(1.1, 1.2)}),
    point(4, {DRAFT: between(1.0, 1.2), NGRAM: between(1.12, 1.2)}),
    point(16, {DRAFT: between(0.7, 0.8), NGRAM: between(0.8, 0.9)}),
)


def test_the_highest_load_decides_unless_the_policy_names_one():
    """Where speculation gains least; each load's own verdict and best arm stand beside it."""
    found = decide_under_load(FALLING, Policy())

    assert (Verdict.NO_GO, NGRAM, Load(concurrency=16)) == (found.verdict, found.arm, found.load)
    assert [
        (1, DRAFT, Verdict.GO),
        (4, NGRAM, Verdict.GO),
        (16, NGRAM, Verdict.NO_GO),
    ] == [(one.load.concurrency, one.arm, one.verdict) for one in found.by_load]


@pytest.mark.parametrize(
    ("concurrency", "verdict", "arm"), [(1, Verdict.GO, DRAFT), (4, Verdict.GO, NGRAM)]
)
def test_the_policy_names_the_concurrency(concurrency, verdict, arm):
    """The same policy, at the load that its owner serves."""
    found = decide_under_load(FALLING, Policy(at_concurrency=concurrency))

    assert (verdict, arm, concurrency) == (found.verdict, found.arm, found.load.concurrency)
    assert 3 == len(found.by_load)


def test_the_speed_rule_names_the_load():
    """A speedup under load is not one of single requests."""
    found = decide_under_load(FALLING, Policy()).arms[0].findings[0]

    assert "decode speedup at concurrency 16 ≥ 1.10 at the lower bound" == found.rule
    assert "0.85 [0.80, 0.90] at 95 %, 10 windows" == found.observed


@pytest.mark.parametrize("whose", ["baseline", DRAFT])
@pytest.mark.parametrize(("number", "verdict"), [(4, Verdict.GO), (5, Verdict.INCONCLUSIVE)])
def test_answers_in_one_piece_leave_the_speed_open(whose, number, verdict):
    """More than 5 % of an arm's or of the baseline's 80: what is left may be of a kind."""
    made = point(4, {DRAFT: between(1.3, 1.5)})
    lumps = {"num_in_one_piece": number}
    if whose == DRAFT:
        made = replace(made, arms=tuple(replace(arm, **lumps) for arm in made.arms))
    else:
        made = replace(made, baseline=replace(made.baseline, **lumps))
    found = decide_under_load(curve(made), Policy())
    speed = found.arms[0].findings[0]

    assert verdict == found.verdict
    assert (verdict is Verdict.GO) == (
        f"; {number} of 80 answers of {whose} arrived in one piece: their" not in speed.observed
    )


def test_a_loss_is_open_too_where_answers_came_in_one_piece():
    """Nobody knows the decode time of those that were left out, either way."""
    made = point(4, {DRAFT: between(0.7, 0.8)})
    made = replace(made, baseline=replace(made.baseline, num_in_one_piece=30))

    assert Verdict.INCONCLUSIVE is decide_under_load(curve(made), Policy()).verdict


def test_a_concurrency_that_was_not_measured_is_refused():
    """With what was, and how to measure it."""
    with pytest.raises(UsageError, match=r"at_concurrency = 8.*concurrency 4.*--concurrency 8"):
        decide_under_load(FALLING, Policy(at_concurrency=8))


def test_rates_alone_decide_at_the_highest_rate():
    """A concurrency is not among them, and beside one they do not decide."""
    slow, fast = (
        point(None, {DRAFT: between(low, low + 0.1)}, rate=rate)
        for rate, low in ((1.0, 1.2), (4.0, 0.8))
    )

    assert Load(rate=4.0) == decide_under_load(curve(slow, fast), Policy()).load
    assert (
        Load(concurrency=16) == decide_under_load(curve(*FALLING.points, slow, fast), Policy()).load
    )
    with pytest.raises(UsageError, match="4 requests/s"):
        decide_under_load(curve(slow, fast), Policy(at_concurrency=4))


def test_nothing_measured_decides_nothing():
    """Neither without a load nor without an arm."""
    for empty in (curve(), curve(point(1, {}))):
        with pytest.raises(InsufficientEvidence, match="nothing to decide"):
            decide_under_load(empty, Policy())


def test_more_prompts_do_not_settle_windows():
    """The interval is over windows; a number of prompts would be a wrong one."""
    open_at_4 = decide_under_load(FALLING, Policy(at_concurrency=4)).arms[-1]

    assert (Verdict.INCONCLUSIVE, DRAFT, None) == (
        open_at_4.verdict,
        open_at_4.arm,
        open_at_4.num_prompts_to_settle,
    )


def test_a_policy_file_names_the_concurrency():
    """A whole number from 1; a flag that is not given replaces nothing."""
    stated = read_policy("at_concurrency = 16", "policy.toml")

    assert 16 == stated.at_concurrency
    assert stated == override(stated, {"at_concurrency": None}, "flags")


@pytest.mark.parametrize("value", ["0", "1.5", '"4"', "true"])
def test_a_concurrency_that_is_none_is_refused(value):
    """Named with the file."""
    with pytest.raises(UnusablePolicy, match=r"policy\.toml: at_concurrency is"):
        read_policy(f"at_concurrency = {value}", "policy.toml")
