"""What a verdict under load speaks of: the load decided on first, then the others that differ."""

from collections.abc import Sequence
from itertools import groupby

from specmeasure.brief.names import plain
from specmeasure.brief.servers import say_loads, short_load
from specmeasure.records.decision import Decision, LoadVerdict, Verdict
from specmeasure.records.serving import Load

Group = Sequence[LoadVerdict]  # neighbours with the same verdict


def write_scope(decision: Decision) -> str:
    """Behind the verdict's word: " at concurrency 16", ", …" where other loads say otherwise.

    Empty where nothing was put under load.
    """
    if decision.load is None:
        return ""
    groups = [list(group) for _, group in groupby(decision.by_load, key=_what)]
    decided = next((group for group in groups if decision.load in _loads(group)), None)
    if decided is None or len(groups) == 1:
        return f" at {decision.load}"
    first = f" {_where(decided, groups, is_first=True)}"
    others = [
        f"{group[0].verdict.value} {_where(group, groups, is_first=False)}{_with(group, decision)}"
        for group in groups
        if group is not decided
    ]
    return ", ".join([first, *others])


def write_deciding_load(decision: Decision) -> str | None:
    """Which load the numbers are of, and why that one; None where nothing was put under load."""
    if decision.load is None:
        return None
    why = (
        "the highest load that was measured"
        if decision.policy.at_concurrency is None
        else "the load that the policy names"
    )
    return f"{decision.load}, {why}"


def _what(one: LoadVerdict) -> tuple[Verdict, str | None]:
    """What neighbours have in common: a GO of another arm is another answer."""
    return one.verdict, one.arm if one.verdict is Verdict.GO else None


def _loads(group: Group) -> list[Load]:
    return [one.load for one in group]


def _where(group: Group, groups: Sequence[Group], *, is_first: bool) -> str:
    loads, in_full = _loads(group), is_first or _is_mixed(groups)
    if group is groups[0] and len(loads) > 1:
        return f"up to {loads[-1] if in_full else short_load(loads[-1])}"
    said = say_loads(loads)
    if not in_full:
        said = said.removeprefix("concurrency ").removesuffix(" requests/s")
    return f"at {said}"


def _is_mixed(groups: Sequence[Group]) -> bool:
    """Whether the loads have more than one unit, so that a number alone would not tell."""
    return len({one.load.concurrency is None for group in groups for one in group}) > 1


def _with(group: Group, decision: Decision) -> str:
    one = group[0]
    if one.verdict is not Verdict.GO or one.arm == decision.arm:
        return ""
    return f" with {plain(one.arm)}"
