"""Differences between candidates: by hand, against themselves, and against known truths.

Coverage is counted over 200 simulated pairs of runs of 30 prompts with answers of 5 to 24 tokens.
A count of 0.95 has a binomial standard error of 0.015 there, so the floor of 0.91 stands 2.6 errors
below and the ceiling of 0.985 2.3 above. Over 1600 pairs, counted to ± 0.005, it was 0.948 for
ratios of speedups, 0.958 for differences of acceptance and 0.958 for those of τ.
"""

from dataclasses import replace

import numpy as np
import pytest

from specmeasure.estimate import acceptance
from specmeasure.estimate.comparison import (
    compare,
    compare_all,
    enter,
    find_leaders,
    pareto_front,
)
from specmeasure.estimate.intervals import Intervals
from specmeasure.records.estimates import Interval, Unmeasured
from specmeasure.records.plan import BASELINE
from tests.estimate.paired_runs import SAME, WORSE, observed_run, run
from tests.fakes import (
    DRAFT_2,
    DRAFT_4,
    NGRAM_4,
    Machine,
    Traffic,
    make_block,
    make_environment,
    make_plan,
    make_prompts,
    make_trial,
    truth,
)

INTERVALS = Intervals()
NUM_PAIRS, NUM_PROMPTS = 200, 30
FLOOR, CEILING = 0.91, 0.985


def trials(num_prompts, *, draft_s=1.0, num_kept=2, arm=DRAFT_4.name, category="chat"):
    """A prompt's baseline takes 2 s, its draft arm ``draft_s``; a block keeps so many of 4."""
    return [
        trial
        for number in range(num_prompts)
        for trial in (
            make_trial(
                f"{category}{number}",
                *[make_block(0, 0)] * 6,
                arm=BASELINE.name,
                decode_s=2.0,
                labels={"category": category},
            ),
            make_trial(
                f"{category}{number}",
                *[make_block(4, num_kept)] * 2,
                arm=arm,
                decode_s=draft_s,
                labels={"category": category},
            ),
        )
    ]


def arms_of(one_run, *arms):
    return [enter(arm.name, one_run, arm) for arm in arms]


def entrant(*args, **changes):
    return enter("draft", run(trials(*args, **changes)), DRAFT_4)


def slow_baseline(made, *, by):
    return [
        replace(one, decode_s=one.decode_s * by) if one.key.arm == BASELINE.name else one
        for one in made
    ]


def bounds(estimate):
    return (estimate.value, estimate.low, estimate.high)


def test_a_run_against_itself_is_exactly_equal():
    """Ratio 1.00 and differences 0 without width: not told apart."""
    traffic = observed_run(make_prompts(12), SAME, seed=1, noise=1)
    found = compare(*(enter(name, traffic, DRAFT_4) for name in "ab"), INTERVALS)

    assert (1, 1, 1) == bounds(found.speedup_ratio)
    assert (0, 0, 0) == bounds(found.acceptance) == bounds(found.length)
    assert found.told_apart is False


def test_across_runs_each_speedup_is_over_its_own_baseline():
    """2 s to 1 s is twice as fast; 3 s to 2 s is one and a half times: 4 / 3 of it."""
    slower = slow_baseline(trials(6, draft_s=2.0), by=1.5)
    found = compare(entrant(6), enter("draft", run(slower), DRAFT_4), INTERVALS)

    assert 4 / 3 == pytest.approx(found.speedup_ratio.value)
    assert found.told_apart


def test_within_a_run_the_baseline_cancels():
    """Σ seconds per token of the one over those of the other, whatever the baseline took."""
    others = trials(6, draft_s=1.25, arm=DRAFT_2.name)[1::2]
    both = run([*slow_baseline(trials(6), by=7), *others], arms=(DRAFT_4, DRAFT_2))
    found = compare(*arms_of(both, DRAFT_4, DRAFT_2), INTERVALS)

    assert 1.25 == pytest.approx(found.speedup_ratio.value)


def test_differences_of_drafting_by_hand():
    """3 of 4 drafts kept against 1 of 4: 50 points, and two tokens more from each block."""
    found = compare(entrant(6, num_kept=3), entrant(6, num_kept=1), INTERVALS)

    assert 0.5 == pytest.approx(found.acceptance.value)
    assert 2 == pytest.approx(found.length.value)


def test_differences_are_antisymmetric():
    """The other way round is the reciprocal and the negative, intervals of differences too."""
    runs = [observed_run(make_prompts(12), t, seed=1, noise=1) for t in (SAME, WORSE)]
    one, other = (enter("x", each, DRAFT_4) for each in runs)
    there, back = compare(one, other, INTERVALS), compare(other, one, INTERVALS)

    assert 1 == pytest.approx(there.speedup_ratio.value * back.speedup_ratio.value)
    assert -there.acceptance.low == pytest.approx(back.acceptance.high)
    assert -there.length.high == pytest.approx(back.length.low)


def test_pairing_makes_differences_narrow():
    """What makes a prompt easy for both cancels: under half the width of two unpaired runs."""
    one, other = (
        observed_run(make_prompts(20), Traffic(lengths=(200,)), seed=2, noise=noise)
        for noise in range(2)
    )
    found = compare(*(enter("x", each, DRAFT_4) for each in (one, other)), INTERVALS).acceptance
    alone = [trial for trial in one.trace.trials if trial.key.arm == DRAFT_4.name]
    counts = acceptance.count_acceptance([[trial] for trial in alone], 4)
    own = acceptance.draft_acceptance_rate(counts, INTERVALS)

    assert found.high - found.low < 0.5 * 2**0.5 * (own.high - own.low)


def test_failed_answers_have_no_pair():
    """Only prompts that both answered are behind a difference."""
    failing = trials(8)
    failing[1] = replace(failing[1], error="OutOfMemory", blocks=())
    found = compare(enter("a", run(failing), DRAFT_4), entrant(8), INTERVALS)

    assert 7 == found.speedup_ratio.num_clusters == found.acceptance.num_clusters


def test_few_prompts_are_not_measured():
    """Three prompts tell nothing; nor do blocks without drafts."""
    few = compare(entrant(3), entrant(3), INTERVALS)
    silent = [
        replace(trial, blocks=(make_block(0, 0),) * trial.num_emitted_tokens) for trial in trials(6)
    ]
    undrafted = compare(enter("a", run(silent), DRAFT_4), entrant(6), INTERVALS)

    assert all(isinstance(e, Unmeasured) for e in (few.speedup_ratio, few.acceptance, few.length))
    assert few.told_apart is None
    assert isinstance(undrafted.acceptance, Unmeasured)
    assert isinstance(undrafted.speedup_ratio, Interval)


def test_other_machines_share_acceptance_but_no_times():
    """A speed on one machine says nothing of another; drafts are kept alike on both."""
    here, there = run(trials(6)), run(trials(6, num_kept=3))
    manifest = replace(there.trace.manifest, environment=make_environment(cpu="another"))
    there = replace(there, trace=replace(there.trace, manifest=manifest))
    found = compare(enter("a", here, DRAFT_4), enter("b", there, DRAFT_4), INTERVALS)

    assert "different machines or software (cpu differ)" in found.speedup_ratio.reason
    assert -0.25 == pytest.approx(found.acceptance.value)


def test_all_pairs_are_corrected_together():
    """Three candidates are three pairs, each at 1 - 0.05 / 3; the better placed comes first."""
    found = compare_all([replace(entrant(6), name=name) for name in "abc"], INTERVALS)

    assert [("a", "b"), ("a", "c"), ("b", "c")] == [(one.first, one.second) for one in found]
    assert [pytest.approx(1 - 0.05 / 3)] * 3 == [one.speedup_ratio.level for one in found]


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ({"a": (1.5, 100)}, {"a"}),
        ({"fast": (1.5, 100), "small": (1.2, 0)}, {"fast", "small"}),
        ({"fast": (1.5, 100), "slower": (1.4, 100)}, {"fast"}),
        ({"fast": (1.5, 100), "larger": (1.5, 200)}, {"fast"}),
        ({"one": (1.5, 100), "twin": (1.5, 100)}, {"one", "twin"}),
        ({"a": (1.5, 300), "b": (1.4, 200), "c": (1.3, 250), "d": (0.9, -5)}, {"a", "b", "d"}),
        ({}, set()),
    ],
)
def test_front_by_hand(places, expected):
    """On the front is whoever none equals in both and beats in one; equals share it."""
    assert expected == pareto_front(places)


def two_slices(lead_s, num_prompts=8):
    """On chat the draft takes ``lead_s`` less than the lookup, on code they take the same."""
    made = []
    for category, gap in (("chat", lead_s), ("code", 0.0)):
        made += trials(num_prompts, category=category, draft_s=1.0)
        lookups = trials(num_prompts, category=category, draft_s=1.0 + gap, arm=NGRAM_4.name)
        made += lookups[1::2]
    return run(made, arms=(DRAFT_4, NGRAM_4))


def leaders(one_run):
    baseline = [t for t in one_run.trace.trials if t.key.arm == BASELINE.name]
    return find_leaders(arms_of(one_run, DRAFT_4, NGRAM_4), baseline, INTERVALS)


def test_every_slice_has_its_leader():
    """The fastest on each, its lead over the next, and whether they are told apart."""
    chat, code = leaders(two_slices(0.5))

    assert ("category", "chat", 8) == (chat.axis, chat.name, chat.num_prompts)
    assert ("draft k=4", "ngram k=4") == (chat.leader, chat.runner_up)
    assert (2.0, 1.5) == pytest.approx((chat.decode_speedup.value, chat.lead.value))
    assert (True, False) == (chat.told_apart, code.told_apart)


def test_leaders_are_corrected_for_every_look():
    """Four speeds of two candidates on two slices; two leads of one pair."""
    chat, _ = leaders(two_slices(0.5))

    assert pytest.approx(1 - 0.05 / 4) == chat.decode_speedup.level
    assert pytest.approx(1 - 0.05 / 2) == chat.lead.level


def test_a_slice_of_few_prompts_has_no_leader():
    """Nobody leads where nothing was measured."""
    chat, _ = leaders(two_slices(0.5, num_prompts=3))

    assert (None, None, None) == (chat.leader, chat.runner_up, chat.lead)
    assert isinstance(chat.decode_speedup, Unmeasured)


def test_prompts_of_one_kind_have_no_leaders():
    """Without an axis that cuts the prompts there is no slice to lead."""
    assert () == leaders(run(trials(6)))


@pytest.fixture(scope="module")
def differences():
    """A draft that lost 4 points, against itself before, 200 times."""
    prompts = make_prompts(NUM_PROMPTS)
    made = []
    for seed in range(NUM_PAIRS):
        runs = (
            observed_run(prompts, traffic, seed=seed, noise=noise)
            for noise, traffic in enumerate((WORSE, SAME))
        )
        made.append(compare(*(enter("x", one, DRAFT_4) for one in runs), INTERVALS))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", ["speedup_ratio", "acceptance", "length"])
def test_differences_cover_the_truth(differences, name):
    """Paired 95 % intervals hold the true ratio or difference about 95 times in 100."""
    new, old = (truth(make_plan(), DRAFT_4, traffic, Machine()) for traffic in (WORSE, SAME))
    true_value = {
        "speedup_ratio": new.decode_speedup / old.decode_speedup,
        "acceptance": new.draft_acceptance_rate - old.draft_acceptance_rate,
        "length": new.mean_acceptance_length - old.mean_acceptance_length,
    }[name]
    found = [getattr(one, name) for one in differences]

    assert FLOOR <= np.mean([one.low <= true_value <= one.high for one in found]) <= CEILING
