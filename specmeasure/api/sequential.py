"""Runs that end at the first look that decides them.

The looks are fixed before the first trial and stand in the manifest. What a look shows follows
from the records of its prompts alone, so a run that was killed and resumed sees the same again.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from specmeasure.decide import decide
from specmeasure.errors import InsufficientEvidence
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.sequential import look_levels, plan_looks
from specmeasure.estimate.summary import estimate
from specmeasure.records.corpus import Prompt
from specmeasure.records.decision import Policy, Verdict
from specmeasure.records.estimates import Estimates, Stopping
from specmeasure.records.plan import Plan
from specmeasure.records.trace import Look, Trace

LEVEL = Intervals().level  # at which the intervals of all looks hold together


def num_trials(plan: Plan, prompts: Sequence[Prompt]) -> int:
    """Trials that a plan makes of these prompts."""
    return sum(len(prompt.turns) for prompt in prompts) * plan.num_repeats * len(plan.arms)


def shuffled(prompts: Sequence[Prompt], seed: int) -> tuple[Prompt, ...]:
    """The prompts in an order that tells nothing of where they stood or of what they ask.

    Files are often sorted by category or by date; a look must see a sample of them all. The order
    is not the one that ``sample_prompts`` draws by: that one stands rare categories later.
    """

    def rank(prompt: Prompt) -> bytes:
        named = f"{seed}\0{prompt.content_hash}\0{prompt.prompt_id}"
        return hashlib.sha256(named.encode()).digest()

    return tuple(sorted(prompts, key=rank))


def looks_over(plan: Plan, prompts: Sequence[Prompt], policy: Policy) -> tuple[Look, ...]:
    """When a run over these prompts, in this order, may stop; the last look is the whole run."""
    trials = list(accumulate(num_trials(plan, [prompt]) for prompt in prompts))
    return tuple(
        Look(num_prompts=num_prompts, num_trials=trials[num_prompts - 1])
        for num_prompts in plan_looks(len(prompts), policy.min_prompts)
    )


def announce_looks(looks: Sequence[Look]) -> str:
    """When a run may stop, in words."""
    places = [str(look.num_prompts) for look in looks]
    listed = " and ".join([", ".join(places[:-1]), places[-1]] if places[:-1] else places)
    return f"looks after {listed} prompts; the run ends at the first that is GO or NO_GO"


def until_decided(
    prompts: Sequence[Prompt],
    looks: Sequence[Look],
    *,
    read_trace: Callable[[], Trace],
    say: Callable[[str], None],
) -> Iterator[Prompt]:
    """The prompts one after another, up to the first look at which the run is GO or NO_GO.

    Without looks, all of them. GO is final though a second arm may still be open: some arm is to
    be turned on. NO_GO means that every arm failed, by speed or by its output.

    Args:
        prompts: in the order of the run.
        looks: of its manifest.
        read_trace: the records so far; all of the prompts that were given out are in it.
        say: told what each look showed.
    """
    begun = 0
    for number, look in enumerate(looks[:-1], start=1):
        yield from prompts[begun : look.num_prompts]
        begun = look.num_prompts
        verdict = _verdict_at(read_trace(), number)
        going_on = "going on" if verdict is Verdict.INCONCLUSIVE else "the run ends here"
        say(f"look {number} of {len(looks)}, {begun} prompts: {verdict}, {going_on}")
        if verdict is not Verdict.INCONCLUSIVE:
            return
    yield from prompts[begun:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What of a trace may be read, and how sure it is."""

    trace: Trace  # as that of a run of a fixed size
    level: float  # of its intervals
    stopping: Stopping | None = None  # None: a run of a fixed size, or no look was reached


def read_at_last_look(trace: Trace) -> Reading:
    """A run as it stood at its last complete look; one of a fixed size as it stands.

    A look is complete when all trials of its prompts are recorded. Prompts behind it are not read:
    nothing was set aside for a look there, and whoever interrupts a run may have seen it go well.
    Before its first look a run is an unfinished one of the full size at the first look's level:
    unless that look is the last, too, it misses too many trials to be GO.

    The intervals hold at this look whatever made the run stop (repeated confidence intervals,
    Jennison & Turnbull 1989): also under a policy that was stated afterwards.
    """
    looks = trace.manifest.looks
    if not looks:
        return Reading(trace=trace, level=LEVEL)
    passed = _num_complete_looks(trace)
    if passed:
        return _read_at(trace, passed)
    return Reading(trace=_of_fixed_size(trace, looks[-1]), level=_levels(looks)[0])


def estimate_run(trace: Trace, *, seed: int = 0) -> Estimates:
    """The estimates of what may be read of a trace, see ``read_at_last_look``.

    Raises:
        InsufficientEvidence: nothing was recorded, or nothing succeeded.
    """
    return _estimate(read_at_last_look(trace), seed=seed)


def _estimate(reading: Reading, *, seed: int = 0) -> Estimates:
    found = estimate(reading.trace, Intervals(level=reading.level, seed=seed))
    return replace(found, stopping=reading.stopping)


def _verdict_at(trace: Trace, number: int) -> Verdict:
    """What the run's own policy says at one of its looks, from 1."""
    try:
        estimates = _estimate(_read_at(trace, number))
    except InsufficientEvidence:  # every answer failed so far
        return Verdict.INCONCLUSIVE
    return decide(estimates, trace.manifest.policy).verdict


def _read_at(trace: Trace, number: int) -> Reading:
    looks = trace.manifest.looks
    look, level = looks[number - 1], _levels(looks)[number - 1]
    return Reading(
        trace=_of_fixed_size(trace, look),
        level=level,
        stopping=Stopping(
            look=number,
            num_looks=len(looks),
            num_prompts=look.num_prompts,
            max_prompts=looks[-1].num_prompts,
            level=level,
        ),
    )


def _levels(looks: Sequence[Look]) -> tuple[float, ...]:
    return look_levels([look.num_prompts for look in looks], LEVEL)


def _of_fixed_size(trace: Trace, look: Look) -> Trace:
    """The trials of a look's prompts, as if no more had been planned."""
    chosen = set(list(_num_trials_by_prompt(trace))[: look.num_prompts])
    return replace(
        trace,
        manifest=replace(trace.manifest, num_planned_trials=look.num_trials, looks=()),
        trials=tuple(trial for trial in trace.trials if trial.key.prompt_id in chosen),
    )


def _num_complete_looks(trace: Trace) -> int:
    recorded = list(accumulate(_num_trials_by_prompt(trace).values()))
    return sum(
        look.num_prompts <= len(recorded) and recorded[look.num_prompts - 1] == look.num_trials
        for look in trace.manifest.looks
    )


def _num_trials_by_prompt(trace: Trace) -> Counter[str]:
    """Trials recorded of each prompt, prompts in the order of the run."""
    return Counter(trial.key.prompt_id for trial in trace.trials)
