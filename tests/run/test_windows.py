"""Windows: who shares one, how long it is, and which comes when."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specmeasure.records.plan import BASELINE, BASELINE_AGAIN
from specmeasure.records.serving import Load
from specmeasure.run.windows import (
    arrival_seed,
    arrivals,
    groups_of,
    length_of,
    windows_in_order,
)
from tests.fake_servers import serving_plan
from tests.fakes import DRAFT_2, DRAFT_4, NGRAM_4, make_chat, make_plan, make_prompts

ONE, SIXTEEN, RATE = Load(concurrency=1), Load(concurrency=16), Load(rate=2.0)


@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 4), st.integers(0, 3))
def test_every_prompt_is_in_one_group(num_prompts, num_windows, num_categories, seed):
    """As many groups as windows or prompts, each prompt in one; sizes differ by one at most."""
    plan = serving_plan(num_windows=num_windows, seed=seed)
    prompts = make_prompts(num_prompts, categories=[f"c{i}" for i in range(num_categories)])

    groups = groups_of(prompts, ONE, plan)

    sizes = [len(group.prompts) for group in groups]
    assert min(num_windows, num_prompts) == len(groups)
    assert list(range(len(groups))) == [group.index for group in groups]
    assert sorted(p.prompt_id for p in prompts) == sorted(
        p.prompt_id for group in groups for p in group.prompts
    )
    assert not sizes or max(sizes) - min(sizes) <= 1


@given(st.integers(1, 60), st.integers(1, 10), st.integers(1, 4), st.integers(0, 3))
def test_groups_are_alike_in_category(num_prompts, num_windows, num_categories, seed):
    """No group has two more prompts of a category than another."""
    plan = serving_plan(num_windows=num_windows, seed=seed)
    prompts = make_prompts(num_prompts, categories=[f"c{i}" for i in range(num_categories)])

    groups = groups_of(prompts, ONE, plan)

    for category in {prompt.category for prompt in prompts}:
        sizes = [sum(p.category == category for p in group.prompts) for group in groups]
        assert max(sizes) - min(sizes) <= 1


def test_groups_are_alike_in_length():
    """Of prompts of all lengths each group has short ones and long ones."""
    prompts = [replace(one, text="x" * i) for i, one in enumerate(make_prompts(100))]

    groups = groups_of(prompts, ONE, serving_plan(num_windows=10))

    for group in groups:
        lengths = sorted(length_of(prompt) for prompt in group.prompts)
        assert [length // 10 for length in lengths] == list(range(10))


def test_groups_do_not_depend_on_the_load():
    """Arms and loads are compared on the same requests."""
    plan, prompts = serving_plan(num_windows=4), make_prompts(11)

    one, sixteen, rate = (groups_of(prompts, load, plan) for load in (ONE, SIXTEEN, RATE))

    assert [g.prompts for g in one] == [g.prompts for g in sixteen] == [g.prompts for g in rate]


def test_another_seed_deals_otherwise():
    """The dealing is drawn, and the plan's seed fixes it."""
    prompts = make_prompts(30)

    dealt = [groups_of(prompts, ONE, serving_plan(seed=seed)) for seed in (0, 0, 1)]

    assert dealt[0] == dealt[1] != dealt[2]


@pytest.mark.parametrize(
    ("load", "num_repeats", "expected"),
    [(ONE, 1, 2), (ONE, 3, 6), (SIXTEEN, 1, 22), (SIXTEEN, 2, 44), (RATE, 1, 7)],
    ids=str,
)
def test_a_window_is_long_enough(load, num_repeats, expected):
    """Three requests a round: 4·C of them, or 20 of an open loop, rounded up; repeats multiply."""
    plan = serving_plan(num_windows=1, num_repeats=num_repeats)

    (group,) = groups_of([make_chat("talk", 2), *make_prompts(1)], load, plan)

    assert expected == group.num_rounds
    assert 3 * expected == group.num_requests


def test_loads_then_groups_then_arms():
    """Lightest load first; within a group every arm, another one first each time."""
    plan = serving_plan(loads=(ONE, SIXTEEN), num_windows=2)

    order = [
        (str(w.load), w.group.index, w.arm.name) for w in windows_in_order(plan, make_prompts(4))
    ]

    assert [
        (load, group, arm)
        for load in ("concurrency 1", "concurrency 16")
        for group, arms in (
            (0, ("baseline", "draft k=4", "baseline A/A")),
            (1, ("draft k=4", "baseline A/A", "baseline")),
        )
        for arm in arms
    ] == order


def test_arms_take_every_place_equally_often():
    """Over as many groups as arms, each arm is first, second, … once."""
    plan = serving_plan(loads=(ONE,), num_windows=3)
    order = windows_in_order(plan, make_prompts(9))

    places = Counter((place % 3, window.arm.name) for place, window in enumerate(order))

    assert {1} == set(places.values())


def test_servers_kept_apart_start_twice_at_most():
    """A B C … C B A: the first half of the groups of every load, then the second half."""
    arms = (BASELINE, DRAFT_4, BASELINE_AGAIN, NGRAM_4)
    plan = serving_plan(*arms, loads=(ONE, SIXTEEN), num_windows=5, keep_apart=True)

    order = windows_in_order(plan, make_prompts(10))

    servers = ["baseline" if w.arm.is_baseline else w.arm.name for w in order]
    changes = [
        name for name, before in zip(servers, ["", *servers], strict=False) if name != before
    ]
    assert ["baseline", "draft k=4", "ngram k=4", "draft k=4", "baseline"] == changes
    assert {0, 1, 2} == {w.group.index for w in order[: len(order) * 3 // 5]}
    assert [ONE] * 6 + [SIXTEEN] * 6 == [w.load for w in order[:12]]


@pytest.mark.parametrize("keep_apart", [False, True])
@pytest.mark.parametrize("num_windows", [1, 2, 5])
def test_every_window_comes_once(keep_apart, num_windows):
    """Loads × groups × arms, whatever the order."""
    plan = serving_plan(BASELINE, DRAFT_2, NGRAM_4, num_windows=num_windows, keep_apart=keep_apart)
    prompts = make_prompts(7)

    order = windows_in_order(plan, prompts)

    assert 2 * num_windows * 3 == len({window.key for window in order}) == len(order)


def test_a_plan_in_process_has_no_windows():
    """A caller that mixes the two up is told."""
    with pytest.raises(ValueError, match="without servers"):
        windows_in_order(make_plan(), make_prompts(1))


@given(st.floats(0.1, 100), st.integers(0, 50), st.integers(0, 5))
def test_arrivals_begin_at_once_and_go_on(rate, num_arrivals, seed):
    """As many as asked for, the first at 0, in order; the seed fixes them."""
    times = arrivals(rate, num_arrivals, seed=seed)

    assert num_arrivals == len(times)
    assert sorted(times) == times
    assert [0.0] == times[:1] or not num_arrivals
    assert times == arrivals(rate, num_arrivals, seed=seed)


def test_arrivals_are_poisson():
    """Gaps have the mean and the spread of an exponential law, whose two are equal."""
    times = arrivals(5.0, 20_001, seed=1)
    gaps = [later - sooner for sooner, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)

    assert pytest.approx(0.2, rel=0.03) == mean
    assert pytest.approx(0.2, rel=0.05) == variance**0.5


def test_all_arms_meet_the_same_arrivals():
    """The seed of an open loop's moments is the window's but for the arm."""
    plan = serving_plan(loads=(RATE, Load(rate=4.0)))

    order = windows_in_order(plan, make_prompts(6))

    seeds = {(w.load, w.group.index): arrival_seed(plan, w) for w in order}
    assert 6 == len(set(seeds.values()))
    assert all(seeds[w.load, w.group.index] == arrival_seed(plan, w) for w in order)
