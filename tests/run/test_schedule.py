from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from specmeasure.records.plan import BASELINE, Arm, Method, Plan
from specmeasure.run.schedule import group_order


def plan_of(num_arms, num_repeats=1):
    drafts = [
        Arm(name=f"k={k}", method=Method.DRAFT_MODEL, num_speculative_tokens=k, draft="d")
        for k in range(1, num_arms)
    ]
    return Plan(target="t", arms=(BASELINE, *drafts), num_repeats=num_repeats)


@given(st.integers(1, 6), st.integers(0, 50), st.integers(0, 3))
def test_every_arm_takes_every_place_equally_often(num_arms, first, turn):
    """Over as many prompts as there are arms, each arm stands at each place once."""
    plan = plan_of(num_arms)

    places = Counter(
        (place, arm.name)
        for index in range(first, first + num_arms)
        for place, (_, arm) in enumerate(group_order(plan, index, turn))
    )

    assert {(place, arm.name): 1 for place in range(num_arms) for arm in plan.arms} == places


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 20), st.integers(0, 3))
def test_a_turn_holds_every_trial_once(num_arms, num_repeats, index, turn):
    """Repeats and arms of a turn: each pair once, whatever the rotation."""
    plan = plan_of(num_arms, num_repeats)

    order = [(repeat, arm.name) for repeat, arm in group_order(plan, index, turn)]

    assert sorted((r, arm.name) for r in range(num_repeats) for arm in plan.arms) == sorted(order)


def test_repeats_rotate_too():
    """The arms of one repeat run back to back, and the next repeat starts with another arm."""
    order = [(repeat, arm.name) for repeat, arm in group_order(plan_of(2, 2), 0, 0)]

    assert [(0, "baseline"), (0, "k=1"), (1, "k=1"), (1, "baseline")] == order


def test_turns_rotate_too():
    """A conversation does not start every turn with the same arm."""
    plan = plan_of(3)

    assert 3 == len({group_order(plan, 0, turn)[0][1].name for turn in range(3)})
