"""Runs cut down to the prompts that they share, and what forbids comparing them.

A prompt is the same where its id and the digest of what is asked agree. Whether another target
gave the same replies in the turns before is not looked at.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

from specmeasure.errors import UnpairedPrompts, UsageError
from specmeasure.records.comparison import ComparedRun
from specmeasure.records.machine import Environment
from specmeasure.records.plan import Plan
from specmeasure.records.trace import Manifest, Trace, TrialRecord

_DECODING = {  # fields of a plan that must agree, by the flags that set them
    "sampling": "--temperature, --top-k and --top-p",
    "max_new_tokens": "--max-new-tokens",
    "ignore_eos": "--ignore-eos",
    "use_asked_sampling": "--row-sampling",
}
_NOT_THE_MACHINE = ("load_average", "versions")  # the one changes by itself, the other has its say


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A recorded run under the name that tells it from the others."""

    name: str
    trace: Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is answered: a prompt's turn, in one repeat."""

    prompt_id: str
    prompt_hash: str
    turn: int
    repeat: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRun:
    """A run with the trials of common contexts only, and what it lost by that."""

    run: Run
    facts: ComparedRun

    @property
    def baseline_trials(self) -> list[TrialRecord]:
        """The target alone; what its trials are called names the slices."""
        baseline = self.run.trace.manifest.plan.arms[0]
        return [trial for trial in self.run.trace.trials if trial.key.arm == baseline.name]


def share_prompts(runs: Sequence[Run]) -> tuple[SharedRun, ...]:
    """Every run on the contexts that all of them recorded, whatever became of the trials.

    Raises:
        UsageError: the runs decode differently.
        UnpairedPrompts: no prompt is in all of them.
    """
    refuse_other_decoding(runs)
    recorded = [{context_of(trial) for trial in run.trace.trials} for run in runs]
    common = set.intersection(*recorded)
    if not common:
        raise UnpairedPrompts(_nothing_shared(runs, recorded))
    return tuple(
        SharedRun(run=_cut(run, common, own), facts=_facts(run, common, own))
        for run, own in zip(runs, recorded, strict=True)
    )


def context_of(trial: TrialRecord) -> Context:
    """The context that a trial answered."""
    return Context(
        prompt_id=trial.key.prompt_id,
        prompt_hash=trial.prompt_hash,
        turn=trial.key.turn,
        repeat=trial.key.repeat,
    )


def refuse_other_decoding(runs: Sequence[Run]) -> None:
    """Raise UsageError where answers were decoded by other rules or to other lengths."""
    first = runs[0]
    for other in runs[1:]:
        ours, theirs = first.trace.manifest.plan, other.trace.manifest.plan
        differing = [name for name in _DECODING if getattr(ours, name) != getattr(theirs, name)]
        if differing:
            said = "; ".join(
                f"{_called(name, ours)} and {_called(name, theirs)}" for name in differing
            )
            raise UsageError(
                f"{first.name} and {other.name} decode differently ({said}), so neither their "
                "times nor their acceptance can be compared. Record both with the same "
                f"{' and '.join(_DECODING[name] for name in differing)}."
            )


def timing_obstacle(one: Manifest, other: Manifest) -> str | None:
    """Why times of two runs cannot be compared; None where machine and software are the same."""
    here, there = one.environment, other.environment
    differing = [
        field.name.removeprefix("num_").replace("_", " ")
        for field in fields(Environment)
        if field.name not in _NOT_THE_MACHINE
        and getattr(here, field.name) != getattr(there, field.name)
    ]
    differing += sorted(
        package
        for package in here.versions.keys() | there.versions.keys()
        if here.versions.get(package) != there.versions.get(package)
    )
    if {model.device for model in one.models[:1]} != {model.device for model in other.models[:1]}:
        differing.append("device")
    if not differing:
        return None
    return f"timed on different machines or software ({', '.join(differing)} differ)"


def _called(name: str, plan: Plan) -> str:
    return f"{name.replace('_', ' ')} {getattr(plan, name)}"


def _cut(run: Run, common: set[Context], own: set[Context]) -> Run:
    """What is missing of a run that was interrupted stays missing, in proportion."""
    manifest = run.trace.manifest
    planned = manifest.num_planned_trials * len(common) // len(own)
    return replace(
        run,
        trace=replace(
            run.trace,
            manifest=replace(manifest, num_planned_trials=planned),
            trials=tuple(trial for trial in run.trace.trials if context_of(trial) in common),
        ),
    )


def _facts(run: Run, common: set[Context], own: set[Context]) -> ComparedRun:
    return ComparedRun(
        name=run.name,
        target=run.trace.manifest.plan.target,
        num_prompts=_num_prompts(own),
        num_common_prompts=_num_prompts(common),
        num_answers=len(own),
        num_common_answers=len(common),
        is_finished=run.trace.sealed,
    )


def _nothing_shared(runs: Sequence[Run], recorded: Sequence[set[Context]]) -> str:
    """Names the first two runs without a common prompt, or all where any two have some."""
    apart = [
        (place, later)
        for later in range(len(runs))
        for place in range(later)
        if not recorded[place] & recorded[later]
    ]
    places = apart[0] if apart else range(len(runs))
    named = [f"{runs[place].name} ({_num_prompts(recorded[place])})" for place in places]
    ids = set.intersection(*({one.prompt_id for one in recorded[place]} for place in places))
    why = (
        f" {len(ids)} ids agree, but what is asked there, or its turn or repeat, does not."
        if ids
        else ""
    )
    return (
        f"{' and '.join(named)} have no prompt in common.{why} Prompts are the same where id and "
        "content agree: record the runs over the same files, with the same --limit and --seed."
    )


def _num_prompts(contexts: Iterable[Context]) -> int:
    return len({context.prompt_id for context in contexts})
