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

from specmeasure.api import fleets, reports, runs
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
from specmeasure.api.replay_sessions import Session, replaying
from specmeasure.api.texts import detokeniser
from specmeasure.errors import UsageError
from specmeasure.estimate.intervals import Intervals
from specmeasure.estimate.prediction import predict
from specmeasure.records.corpus import Prompt
from specmeasure.records.machine import Fleet, Worker
from specmeasure.records.plan import Arm, Plan
from specmeasure.records.prediction import Predictions
from specmeasure.records.replay import ReplayManifest, ReplayRequest, ReplayTrace
from specmeasure.run.alike import unlikeness
from specmeasure.run.watch import SILENT, Watchers
from specmeasure.trace import replays, store
from specmeasure.trace.replays import is_replay

if TYPE_CHECKING:
    from specmeasure.engines.models import LoadedModels

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
    if request.request.fleet is not None:
        fleets.refuse_unshared(request.request, is_timed=request.num_confirmed > 0)
    corpus = read_prompts(request.request.sources, request.request.options)
    for line in describe_files(corpus):
        watchers.stage(line)
    if not replace_replay:
        replays.refuse_existing(folder)
    with replaying(request, asked_samplings(plan, corpus.prompts), watchers) as session:
        fitting, misfits = keep_fitting(corpus, session.target, plan, session.target.context_limit)
        prompts = sample_fitting(fitting, corpus, request.request.options)
        notes = [*corpus.warnings, *budget_notes(plan, prompts)]
        notes += session.busy_notes()
        for note in notes:
            watchers.warning(note)
        manifest = ReplayManifest(
            schema_version=replays.REPLAY_SCHEMA_VERSION,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            request=request,
            corpus=corpus_facts(request.request, corpus, prompts, misfits),
            environment=session.environment,
            target=session.target.known.facts,
            warnings=(*session.warnings, *notes),
            workers=session.workers,
        )
        replays.create_replay(folder, manifest, replace=replace_replay)
        for name in REPLAY_FILES:
            (folder / name).unlink(missing_ok=True)  # an old report speaks for no new replay
        trace = _record(manifest, session, prompts, folder, watchers)
    _confirm(trace, folder, watchers, session.loaded)
    return trace


def resume_replay(
    folder: Path,
    sources: Sequence[str] = (),
    *,
    fleet: Fleet | None = None,
    watchers: Watchers = SILENT,
) -> ReplayTrace:
    """Finish an interrupted replay and its real runs; a finished one is returned as it is.

    Args:
        folder: of the replay.
        sources: where the prompts are now, if they moved or came from stdin.
        fleet: workers now, if the replay had workers and they are to be others; None: as before.
        watchers: told what happens.

    Raises:
        UsageError: prompts, models or machine are not those of the replay.
    """
    manifest = replays.read_replay_manifest(folder)
    if fleet is not None:
        manifest = _over(fleet, manifest, folder)
    request = manifest.request
    if replays.is_sealed(folder):
        replays.drop_parts(folder)
        trace = replays.read_replay(folder)
        _confirm(replace(trace, manifest=manifest), folder, watchers, None)
        return trace
    if request.request.fleet is None:
        refuse_other_machine(manifest.environment, folder)
    else:
        fleets.refuse_shares(
            request.request.plan.options,
            request.request.fleet,
            is_timed=request.num_confirmed > 0,
        )
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
    plan = _same_threads(manifest)
    request = replace(request, request=replace(request.request, plan=plan))
    samplings = asked_samplings(plan, corpus.prompts)
    with replaying(request, samplings, watchers, before=manifest.workers) as session:
        _refuse_other_software(manifest.workers, session.workers, folder)
        if session.target.known.facts != manifest.target:
            raise UsageError(
                f"{folder}: the target is not that of the interrupted replay (or dtype or device "
                "differ). Give the same model, or start a new replay."
            )
        fitting, _ = keep_fitting(corpus, session.target, plan, session.target.context_limit)
        prompts = sample_fitting(fitting, corpus, manifest.corpus.options)
        trace = _record(manifest, session, prompts, folder, watchers)
    _confirm(replace(trace, manifest=manifest), folder, watchers, session.loaded)
    return trace


def _over(fleet: Fleet, manifest: ReplayManifest, folder: Path) -> ReplayManifest:
    """The manifest as if these workers had been asked for.

    Raises:
        UsageError: none were.
    """
    request = manifest.request
    if request.request.fleet is None:
        raise UsageError(f"{folder}: this replay has no workers; leave --ray out.")
    asked = replace(request.request, fleet=fleet)
    return replace(manifest, request=replace(request, request=asked))


def _refuse_other_software(before: Sequence[Worker], now: Sequence[Worker], folder: Path) -> None:
    """Raise UsageError where workers go on with other versions than those before them.

    Other hardware may: counts do not depend on it, and what steps cost is then timed again.
    """
    for one, other in zip(before, now, strict=False):
        reason = unlikeness(one, other, pools_hardware=True)
        if reason is not None:
            raise UsageError(f"{folder}: {reason} Or start a new replay.")


def _same_threads(manifest: ReplayManifest) -> Plan:
    """The plan with the threads that the replay began with; workers of a fleet find theirs."""
    request = manifest.request.request
    if request.fleet is not None:
        return request.plan
    options = replace(request.plan.options, num_threads=manifest.environment.num_threads)
    return replace(request.plan, options=options)


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


def _record(
    manifest: ReplayManifest,
    session: Session,
    prompts: tuple[Prompt, ...],
    folder: Path,
    watchers: Watchers,
) -> ReplayTrace:
    from specmeasure.run.replayer import Replayer

    workers = session.target.workers
    workers.watchers = watchers
    with replays.ReplayJournal(folder) as journal:
        if replays.is_sealed(folder):  # by another process, while the models were loading
            replays.drop_parts(folder)
            return replays.read_replay(folder)
        if manifest.request.request.fleet is not None:
            pool = workers.pool
            replays.add_workers(folder, pool.workers, manifest.request.request.fleet)
            workers.joined = lambda worker: replays.add_workers(folder, (worker,))
        Replayer(
            request=manifest.request,
            target=session.target,
            journal=journal,
            machine=session.machine,
            watchers=watchers,
        ).record(prompts)
    trace = replays.read_replay(folder)
    (folder / "costs.json").write_bytes(store.plain(trace.costs))
    return trace


def _confirm(
    trace: ReplayTrace, folder: Path, watchers: Watchers, loaded: "LoadedModels | None"
) -> None:
    """Run the best configurations for real, beside the replay; finish what was begun."""
    request, confirmed = trace.manifest.request, folder / CONFIRMED
    if not request.num_confirmed or store.is_sealed(confirmed):
        return
    if (confirmed / store.MANIFEST).is_file():
        runs.resume(confirmed, fleet=request.request.fleet, watchers=watchers)
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
