"""Replays: every K and every candidate from one recording, then real runs of the best.

    request = ReplayRequest(request=Request(plan=plan, sources=("prompts/",)), num_confirmed=2)
    trace = start_replay(request, Path("reports/mine"))

``replay_reports`` reads what was recorded to its conclusion.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from specmeasure.api import reports, runs
from specmeasure.api.arms import between_baselines
from specmeasure.api.beginnings import refuse_other_machine
from specmeasure.api.prompts import (
    asked_samplings,
    budget_notes,
    corpus_facts,
    describe_files,
    keep_fitting,
    read_prompts,
    sample_fitting,
)
from specmeasure.api.texts import detokeniser
from specmeasure.errors import UsageError
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.prediction import predict
from specmeasure.records.corpus import Corpus, Prompt
from specmeasure.records.plan import Arm
from specmeasure.records.prediction import Predictions
from specmeasure.records.replay import ReplayManifest, ReplayRequest, ReplayTrace
from specmeasure.run.environment import environment, free_cores, load_average, load_warning
from specmeasure.run.watch import SILENT, Watchers
from specmeasure.trace import replays, store
from specmeasure.trace.replays import is_replay

if TYPE_CHECKING:
    from specmeasure.engines.models import LoadedModels
    from specmeasure.engines.replay import ReplayEngine

CONFIRMED = "confirm"  # the folder of the real run, inside the replay's
REPLAY_FILES = (
    *("replay.md", "lengths.svg", "predictions.json", "costs.json"),
    *("replay-elsewhere.md", "lengths-elsewhere.svg", "predictions-elsewhere.json"),
)


def start_replay(
    request: ReplayRequest,
    folder: Path,
    *,
    replace_replay: bool = False,
    watchers: Watchers = SILENT,
) -> ReplayTrace:
    """Record a replay into ``folder``, seal it, and run its best configurations for real.

    Args:
        request: what to replay.
        folder: where; it must not hold a replay.
        replace_replay: delete the replay that it holds.
        watchers: told what happens.

    Raises:
        SpecmeasureError: bad input (before any model is loaded), models, responses that are not
            the target's, or an interruption.
    """
    plan = request.request.plan
    corpus = read_prompts(request.request.sources, request.request.options)
    for line in describe_files(corpus):
        watchers.stage(line)
    if not replace_replay:
        replays.refuse_existing(folder)
    load_before = load_average()
    engine = _load(request, corpus, watchers)
    machine = environment(engine.num_threads, load_before)
    fitting, misfits = keep_fitting(corpus, engine, plan, engine.context_limit)
    prompts = sample_fitting(fitting, corpus, request.request.options)
    notes = [*corpus.warnings, *budget_notes(plan, prompts)]
    notes += [busy] if (busy := load_warning(machine)) else []
    for note in notes:
        watchers.warning(note)
    manifest = ReplayManifest(
        schema_version=replays.REPLAY_SCHEMA_VERSION,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        request=request,
        corpus=corpus_facts(request.request, corpus, prompts, misfits),
        environment=machine,
        target=engine.target_facts,
        warnings=(*engine.warnings, *notes),
    )
    replays.create_replay(folder, manifest, replace=replace_replay)
    for name in REPLAY_FILES:
        (folder / name).unlink(missing_ok=True)  # an old report does not speak for a new replay
    return _record(manifest, engine, prompts, folder, watchers)


def resume_replay(
    folder: Path, sources: Sequence[str] = (), *, watchers: Watchers = SILENT
) -> ReplayTrace:
    """Finish an interrupted replay and its real runs; a finished one is returned as it is.

    Raises:
        UsageError: prompts, models or machine are not those of the replay.
    """
    manifest = replays.read_replay_manifest(folder)
    request = manifest.request
    if replays.is_sealed(folder):
        replays.drop_parts(folder)
        trace = replays.read_replay(folder)
        _confirm(trace, folder, watchers, None)
        return trace
    refuse_other_machine(manifest.environment, folder)
    given = sources or manifest.corpus.sources
    if "-" in manifest.corpus.sources and not sources:
        raise UsageError(
            f"{folder}: its prompts came from stdin. Pipe them in again: specmeasure replay - "
            f"--resume {folder}"
        )
    corpus = read_prompts(given, manifest.corpus.options)
    if corpus.fingerprint != manifest.corpus.fingerprint:
        raise UsageError(
            f"{folder}: the prompts are not those of the interrupted replay (fingerprint "
            f"{corpus.fingerprint[:12]}, then {manifest.corpus.fingerprint[:12]}). Give the same "
            "files, or start a new replay."
        )
    plan = request.request.plan
    same_threads = replace(plan.options, num_threads=manifest.environment.num_threads)
    threaded = replace(request.request, plan=replace(plan, options=same_threads))
    engine = _load(replace(request, request=threaded), corpus, watchers)
    if engine.target_facts != manifest.target:
        raise UsageError(
            f"{folder}: the target is not that of the interrupted replay (or dtype or device "
            "differ). Give the same model, or start a new replay."
        )
    fitting, _ = keep_fitting(corpus, engine, plan, engine.context_limit)
    prompts = sample_fitting(fitting, corpus, manifest.corpus.options)
    return _record(manifest, engine, prompts, folder, watchers)


def read_replay(folder: Path) -> ReplayTrace:
    """A finished replay."""
    return replays.read_replay(folder)


def replay_targets(
    requests: Sequence[ReplayRequest],
    folder: Path,
    *,
    replace_replays: bool = False,
    watchers: Watchers = SILENT,
) -> dict[Path, ReplayTrace]:
    """Replay and confirm each target's drafts in a folder of its own, one target after the other.

    A replay that an earlier call finished or began is gone on with, unless it is to be replaced.

    Raises:
        UsageError: there is one candidate alone, or a replay there was asked for otherwise.
    """
    if sum(len(one.request.plan.speculative_arms) for one in requests) < 2:
        raise UsageError(
            "one candidate, and nothing to compare it with: name another --draft, --medusa or "
            "--ngram, or use specmeasure replay --confirm 1."
        )
    names = [request.request.plan.target for request in requests]
    replayed = {}
    for name, request in zip(_folder_names(names), requests, strict=True):
        own = folder / name
        if is_replay(own) and not replace_replays:
            _refuse_other_request(replays.read_replay_manifest(own).request, request, own)
            watchers.stage(f"going on with {own}")
            replayed[own] = resume_replay(own, watchers=watchers)
        else:
            replayed[own] = start_replay(
                request, own, replace_replay=replace_replays, watchers=watchers
            )
    return replayed


def _refuse_other_request(before: ReplayRequest, now: ReplayRequest, folder: Path) -> None:
    """Raise UsageError where the same command was not what began the replay."""
    if replace(before, request=replace(before.request, argv=())) != replace(
        now, request=replace(now.request, argv=())
    ):
        raise UsageError(
            f"{folder} holds a replay that was asked for otherwise. Name another folder with "
            "--out, or replace it with --force."
        )


def is_recorded(folder: Path) -> bool:
    """Whether a folder holds a run, or a replay with real runs."""
    return (folder / store.MANIFEST).is_file() or is_replay(folder)


def run_folder(folder: Path) -> Path:
    """The run in a folder; of a replay, what it ran for real.

    Raises:
        UsageError: a replay that ran nothing.
    """
    if not is_replay(folder):
        return folder
    if not (folder / CONFIRMED / store.MANIFEST).is_file():
        raise UsageError(
            f"{folder}: this replay ran nothing for real, so there is nothing to compare. Replay "
            "with --confirm 1 or more."
        )
    return folder / CONFIRMED


def _load(request: ReplayRequest, corpus: Corpus, watchers: Watchers) -> "ReplayEngine":
    from specmeasure.engines.replay import ReplayEngine

    watchers.stage("loading the target")
    plan = request.request.plan
    engine = ReplayEngine.load(
        plan, most_threads=free_cores(), samplings=asked_samplings(plan, corpus.prompts)
    )
    for warning in engine.warnings:
        watchers.warning(warning)
    return engine


def _record(
    manifest: ReplayManifest,
    engine: "ReplayEngine",
    prompts: tuple[Prompt, ...],
    folder: Path,
    watchers: Watchers,
) -> ReplayTrace:
    from specmeasure.run.replayer import Replayer

    with replays.ReplayJournal(folder) as journal:
        Replayer(
            request=manifest.request,
            engine=engine,
            journal=journal,
            machine=f"{manifest.environment.cpu}, {manifest.environment.num_threads} threads",
            watchers=watchers,
        ).record(prompts)
    trace = replays.read_replay(folder)
    (folder / "costs.json").write_bytes(store.plain(trace.costs))
    _confirm(trace, folder, watchers, engine.loaded)
    return trace


def _confirm(
    trace: ReplayTrace, folder: Path, watchers: Watchers, loaded: "LoadedModels | None"
) -> None:
    """Run the best configurations for real, beside the replay; finish what was begun."""
    request, confirmed = trace.manifest.request, folder / CONFIRMED
    if not request.num_confirmed or store.is_sealed(confirmed):
        return
    if (confirmed / store.MANIFEST).is_file():
        runs.resume(confirmed, watchers=watchers)
        return
    best = best_arms(trace, predict(trace, Intervals()))[: request.num_confirmed]
    watchers.stage(f"running for real: {', '.join(arm.name for arm in best)}")
    plan = replace(request.request.plan, arms=between_baselines(best))
    run = replace(request.request, plan=plan, sources=trace.manifest.corpus.sources)
    report = reports.conclude(runs.start(run, confirmed, watchers=watchers, loaded=loaded))
    reports.write_report(report, confirmed, detokenise=detokeniser(report.trace))


def best_arms(trace: ReplayTrace, predictions: Predictions) -> list[Arm]:
    """Every candidate at its best K, fastest first."""
    arms = {arm.name: arm for arm in trace.manifest.request.request.plan.speculative_arms}
    return [arms[one.name].at(one.choice.best) for one in predictions.candidates]


def _folder_names(targets: Sequence[str]) -> list[str]:
    """A folder name for each target, numbered where two would be the same."""
    short = [target.rstrip("/").rpartition("/")[2].replace("embedded:", "") for target in targets]
    uses = [short[: place + 1].count(name) for place, name in enumerate(short)]
    return [f"{name}-{use}" if use > 1 else name for name, use in zip(short, uses, strict=True)]
