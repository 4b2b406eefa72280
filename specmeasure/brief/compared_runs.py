"""The runs that are compared: what of them, how sure, and where they took place."""

from collections.abc import Sequence
from dataclasses import dataclass

from specmeasure.brief.names import command_line, listed, plain, shortened
from specmeasure.brief.numbers import count
from specmeasure.brief.provenance import Fact, write_provenance
from specmeasure.records.comparison import ComparedRun
from specmeasure.records.trace import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNotes:
    """Where one of the runs took place and how it was started."""

    name: str
    facts: tuple[Fact, ...]
    command: str


def write_runs(runs: Sequence[ComparedRun], manifests: Sequence[Manifest]) -> tuple[RunNotes, ...]:
    """Every run, as its own brief tells it."""
    return tuple(
        RunNotes(
            name=plain(run.name),
            facts=write_provenance(manifest),
            command=command_line(manifest.argv),
        )
        for run, manifest in zip(runs, manifests, strict=True)
    )


def write_pairing(runs: Sequence[ComparedRun], manifests: Sequence[Manifest]) -> tuple[str, ...]:
    """What is paired, what of each run is left out for that, and what differs between the runs."""
    prompts = count(runs[0].num_common_prompts, "prompt")
    answers = count(runs[0].num_common_answers, "answer")
    pairing = (
        f"{prompts}, {answers} of each arm, paired by id and by a digest of what is asked; each "
        "prompt is one cluster that is left out whole, with what both did on it. Intervals: "
        "jackknife-t."
    )
    return (
        pairing,
        *_left_out(runs),
        *_interrupted(runs),
        *_targets(manifests),
        *_policies(manifests),
    )


def _left_out(runs: Sequence[ComparedRun]) -> tuple[str, ...]:
    said = []
    for run in runs:
        name, num_lost = plain(run.name), run.num_prompts - run.num_common_prompts
        if num_lost:
            lost = f"{count(num_lost)} of {count(run.num_prompts, 'prompt')}"
            said.append(f"Left out of {name}: {lost}, which not every run has.")
        elif run.num_answers > run.num_common_answers:
            kept = f"{count(run.num_common_answers)} of {count(run.num_answers, 'answer')}"
            said.append(
                f"Compared of {name}: {kept} of each arm; its other turns or repeats have no pair."
            )
    return tuple(said) or ("All runs have the same prompts; nothing was left out.",)


def _interrupted(runs: Sequence[ComparedRun]) -> tuple[str, ...]:
    names = [plain(run.name) for run in runs if not run.is_finished]
    return (f"Interrupted, and compared as far as it got: {listed(names)}.",) if names else ()


def _targets(manifests: Sequence[Manifest]) -> tuple[str, ...]:
    models = {
        (
            model.fingerprint,
            model.dtype,
        ): f"{plain(model.name)} ({shortened(model.fingerprint[:12])}, "
        f"{plain(model.dtype).removeprefix('torch.')})"
        for manifest in manifests
        for model in manifest.models[:1]
    }
    said = (
        f"The runs have different targets: {listed(list(models.values()))}. Each speedup is over "
        "its own run's target alone."
    )
    return (said,) if len(models) > 1 else ()


def _policies(manifests: Sequence[Manifest]) -> tuple[str, ...]:
    if all(manifest.policy == manifests[0].policy for manifest in manifests):
        return ()
    return ("Verdicts are by each run's own policy, and these policies differ.",)
