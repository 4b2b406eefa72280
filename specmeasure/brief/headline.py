"""The verdict in one line and two sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

from specmeasure.brief.joined import JoinedArm
from specmeasure.brief.names import listed, plain
from specmeasure.brief.numbers import NOT_MEASURED, chance, count, noise, rate, speedup
from specmeasure.records.decision import (
    ArmDecision,
    RuleFinding,
    RuleOutcome,
    SliceVerdict,
    Verdict,
)
from specmeasure.records.estimates import (
    Estimate,
    Interval,
    Losslessness,
    SampledLosslessness,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The first line: verdict and ``scope``, then ``before``, the arm's name, ``after``."""

    verdict: Verdict
    before: str
    arm: str
    after: str
    scope: str = ""  # " at concurrency 16", of a run on servers


def write_headline(
    verdict: Verdict, arm: JoinedArm, *, noise_beyond: Interval | None = None, scope: str = ""
) -> Headline:
    """The verdict with the number or the rule that decided it.

    Args:
        verdict: of the run.
        arm: that it speaks of.
        noise_beyond: the A/A interval where it excludes what the policy tolerates.
        scope: the loads that it speaks of, see ``scope.write_scope``.
    """
    if noise_beyond is not None and verdict is Verdict.INCONCLUSIVE:
        return Headline(
            verdict=verdict,
            before="the machine was too noisy to judge ",
            arm=plain(arm.plan.name),
            after=f": the target ran at {noise(noise_beyond)} its own speed",
            scope=scope,
        )
    finding = _decisive_finding(verdict, arm.decision)
    decisive = _reason(finding)
    match verdict:
        case Verdict.GO:
            before, after = (
                "turn on ",
                f": your prompts decode at {speedup(arm.decode_speedup)} the target's speed",
            )
            if not isinstance(arm.decode_speedup, Interval):
                after = f"; decode speedup {NOT_MEASURED}"
        case Verdict.NO_GO:
            before, after = "leave speculation off; ", f" failed on {decisive}"
        case Verdict.INCONCLUSIVE:
            before = "no clear answer on "
            after = f": it is open on {decisive}; {_what_settles(finding, arm)}"
    name = plain(arm.plan.name)
    return Headline(verdict=verdict, before=before, arm=name, after=after, scope=scope)


def write_summary(
    verdict: Verdict, arm: JoinedArm, noise_floor: Estimate, *, is_greedy: bool, at: str = ""
) -> tuple[str, str]:
    """What was measured, and what follows, in a sentence each.

    Args:
        verdict: of the run.
        arm: that it speaks of.
        noise_floor: the target against itself.
        is_greedy: whether every answer was.
        at: the load that was decided on, as in "At concurrency 16, "; empty: no server.
    """
    speed = _speed_clause(arm, noise_floor, is_greedy=is_greedy)
    if at:
        speed = f"{at}{speed[0].lower()}{speed[1:]}"
    measured = f"{speed}{_price_clause(arm)}."
    return measured, _conclusion(verdict, arm)


def routing(slices: Sequence[SliceVerdict]) -> str | None:
    """How slices differ in verdict: by an axis to route by, or the first; None when all agree.

    >>> routing([SliceVerdict(axis="category", name="chat", verdict=Verdict.GO),
    ...          SliceVerdict(axis="category", name="code", verdict=Verdict.NO_GO)])
    'by category: GO for chat; NO_GO for code: route'
    """
    to_route = axis_to_route(slices)
    differing = [axis for axis, found in _verdicts_by_axis(slices).items() if len(found) > 1]
    chosen = to_route or next(iter(differing), None)
    if chosen is None:
        return None
    own = [one for one in slices if one.axis == chosen]
    return f"by {plain(chosen)}: {_by_verdict(own)}{': route' if to_route else ''}"


def axis_to_route(slices: Sequence[SliceVerdict]) -> str | None:
    """The first axis with a GO and a NO_GO."""
    verdicts = _verdicts_by_axis(slices)
    return next((a for a, found in verdicts.items() if found >= {Verdict.GO, Verdict.NO_GO}), None)


def _verdicts_by_axis(slices: Sequence[SliceVerdict]) -> dict[str, set[Verdict]]:
    axes = dict.fromkeys(one.axis for one in slices)
    return {axis: {one.verdict for one in slices if one.axis == axis} for axis in axes}


def _by_verdict(slices: Sequence[SliceVerdict]) -> str:
    groups = {
        verdict: [plain(s.name) for s in slices if s.verdict is verdict] for verdict in Verdict
    }
    return "; ".join(
        f"{verdict.value} for {listed(names)}" for verdict, names in groups.items() if names
    )


def _reason(finding: RuleFinding | None) -> str:
    if finding is None:
        return "no rule of the policy"
    return f"“{plain(finding.rule)}” with {plain(finding.observed)}"


def _decisive_finding(verdict: Verdict, decision: ArmDecision) -> RuleFinding | None:
    """The first rule that by itself forces the verdict."""
    failed = [f for f in decision.findings if f.outcome is RuleOutcome.FAILED]
    still_open = [f for f in decision.findings if f.outcome is RuleOutcome.OPEN]
    if verdict is Verdict.NO_GO:
        failed.sort(key=lambda finding: finding.blocks_no_go)  # stable
    return next(iter(failed + still_open), None)


def _what_settles(finding: RuleFinding | None, arm: JoinedArm) -> str:
    has_failed = finding is not None and finding.outcome is RuleOutcome.FAILED
    speed, num_prompts = arm.decode_speedup, arm.decision.num_prompts_to_settle
    if isinstance(speed, Interval) and speed.cluster == "window" and not has_failed:
        return "how many more windows would settle it was not estimated"
    if num_prompts is None or has_failed:
        return "more prompts would not settle it"
    return f"about {count(num_prompts, 'prompt')} in all would settle it"


def _speed_clause(arm: JoinedArm, noise_floor: Estimate, *, is_greedy: bool) -> str:
    name = plain(arm.plan.name)
    if not isinstance(arm.decode_speedup, Interval):
        return f"How fast {name} decodes your prompts was not measured"
    prompts = count(arm.estimates.num_prompts, "prompt")
    per_token = "" if is_greedy else ", per emitted token,"
    return (
        f"Decoding your {prompts} with {name} ran{per_token} at {speedup(arm.decode_speedup)} "
        f"the speed of the target alone (the target against itself, A/A: {noise(noise_floor)})"
    )


def _price_clause(arm: JoinedArm) -> str:
    """What was paid for it: prompts that got slower, answers that changed."""
    clauses = []
    if isinstance(arm.estimates.share_slower, Interval):
        clauses.append(f"{rate(arm.estimates.share_slower)} of them got slower")
    audit = arm.estimates.losslessness
    if isinstance(audit, Losslessness) and audit.num_trials:
        audited = count(audit.num_trials, "audited answer")
        clauses.append(f"{count(audit.num_divergent)} of {audited} diverged from the target's own")
    sampled = arm.estimates.sampled_losslessness
    if isinstance(sampled, SampledLosslessness):
        clauses.append(
            "were its output unchanged, sampled tokens as odd as these would come with a chance of "
            f"p = {chance(sampled.p_value)} (small is bad)"
        )
    return "".join(f"; {clause}" for clause in clauses)


def _conclusion(verdict: Verdict, arm: JoinedArm) -> str:
    match verdict:
        case Verdict.GO:
            said = "Every rule of the policy is met"
        case Verdict.NO_GO:
            said = "A rule of the policy fails even at the optimistic end of the evidence"
        case Verdict.INCONCLUSIVE:
            said = "The evidence neither meets every rule of the policy nor breaks one for good"
    split = routing(arm.measured_slices)
    return f"{said}; {split}." if split else f"{said}."
