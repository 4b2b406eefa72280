"""Which prompts share a window, and in which order windows run. Pure.

The same groups of prompts serve all loads and arms, so that arms are compared on the same requests.
"""

import hashlib
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Arm, Plan
from specmeasure.records.serving import Load
from specmeasure.records.trace import WindowKey

ROUNDS_OF_WORKERS = 4  # requests of a closed loop's window, at least, per request in flight
FEWEST_OPEN = 20  # requests of an open loop's window, at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Prompts that go through one window together, each so many times."""

    index: int
    prompts: tuple[Prompt, ...]
    num_rounds: int  # the ``repeat`` of its trials counts them

    @property
    def num_requests(self) -> int:
        return self.num_rounds * _num_turns(self.prompts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One group at one load, through one arm."""

    load: Load
    group: Group
    arm: Arm

    @property
    def key(self) -> WindowKey:
        return WindowKey(load=self.load, group=self.group.index, arm=self.arm.name)


def groups_of(prompts: Sequence[Prompt], load: Load, plan: Plan) -> tuple[Group, ...]:
    """All prompts, each in one group, dealt so that groups are alike in category and length.

    A window is long enough for its ramp-down to be a small part: a closed loop sends at least four
    requests per request in flight, an open loop at least 20; the plan's repeats multiply.
    """
    return tuple(
        Group(
            index=index,
            prompts=own,
            num_rounds=math.ceil(_fewest_requests(load) / _num_turns(own)) * plan.num_repeats,
        )
        for index, own in enumerate(_dealt(prompts, plan))
    )


def windows_in_order(plan: Plan, prompts: Sequence[Prompt]) -> list[Window]:
    """All windows of a run on servers.

    Loads are outermost, lightest first, then groups, and within a group arms take turns, another
    one first each time. Servers that are kept apart run in the order A B … B A instead: the first
    half of the groups at every load, then, servers reversed, the second half.
    """
    if plan.serving is None:
        raise ValueError("a plan without servers has no windows")
    loads = plan.serving.loads
    groups = {load: groups_of(prompts, load, plan) for load in loads}
    if not plan.serving.keep_apart:
        return list(_taking_turns(plan.arms, groups))
    half = math.ceil(len(groups[loads[0]]) / 2)
    early = {load: own[:half] for load, own in groups.items()}
    late = {load: own[half:] for load, own in groups.items()}
    servers = arms_by_server(plan)
    order = [window for arms in servers for window in _taking_turns(arms, early)]
    return order + [window for arms in reversed(servers) for window in _taking_turns(arms, late)]


def planned_by_load(plan: Plan, prompts: Sequence[Prompt]) -> tuple[int, ...]:
    """Trials of a run on servers, over all arms, in the order of the plan's loads."""
    loads = plan.serving.loads if plan.serving else ()
    groups = (groups_of(prompts, load, plan) for load in loads)
    return tuple(len(plan.arms) * sum(one.num_requests for one in own) for own in groups)


def arms_by_server(plan: Plan) -> list[tuple[Arm, ...]]:
    """The baselines, which share a server, then each other arm by itself."""
    baselines = tuple(arm for arm in plan.arms if arm.is_baseline)
    return [baselines, *((arm,) for arm in plan.speculative_arms)]


def arrival_seed(plan: Plan, window: Window) -> int:
    """Of an open loop's moments: the same for all arms."""
    text = f"{plan.seed}\0{window.load}\0{window.group.index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def arrivals(rate: float, num_arrivals: int, *, seed: int) -> list[float]:
    """Seconds from a window's start, the first at 0, with independent exponential gaps."""
    rng = random.Random(seed)
    times = [0.0]
    while len(times) < num_arrivals:
        times.append(times[-1] + rng.expovariate(rate))
    return times[:num_arrivals]


def length_of(prompt: Prompt) -> int:
    """Roughly, in characters or in tokens: a category's prompts are of one kind."""
    if prompt.token_ids is not None:
        return len(prompt.token_ids)
    return len(prompt.text or "") + sum(len(message.content) for message in prompt.messages)


def _taking_turns(arms: Sequence[Arm], groups: dict[Load, tuple[Group, ...]]) -> Iterator[Window]:
    for load, own in groups.items():
        for group in own:
            shift = group.index % len(arms)
            for arm in (*arms[shift:], *arms[:shift]):
                yield Window(load=load, group=group, arm=arm)


def _fewest_requests(load: Load) -> int:
    return FEWEST_OPEN if load.concurrency is None else ROUNDS_OF_WORKERS * load.concurrency


def _dealt(prompts: Sequence[Prompt], plan: Plan) -> list[tuple[Prompt, ...]]:
    """Category by category, prompts of like length one to each group, the groups in random order.

    Sizes of groups differ by at most one, also within a category.
    """
    num_windows = plan.serving.num_windows if plan.serving else 1
    rng = random.Random(plan.seed)
    hands: list[list[Prompt]] = [[] for _ in range(min(num_windows, len(prompts)))]
    by_category: defaultdict[str, list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        by_category[prompt.category].append(prompt)
    num_dealt = 0
    for own in by_category.values():
        own.sort(key=length_of)
        for start in range(0, len(own), len(hands)):
            alike = own[start : start + len(hands)]
            rng.shuffle(alike)
            for prompt in alike:
                hands[num_dealt % len(hands)].append(prompt)
                num_dealt += 1
    for hand in hands:
        rng.shuffle(hand)
    return [tuple(hand) for hand in hands]


def _num_turns(prompts: Sequence[Prompt]) -> int:
    return sum(len(prompt.turns) for prompt in prompts)
