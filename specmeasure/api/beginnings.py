"""How every run begins and goes on: its prompts read and checked, its folder made ready."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from specmeasure.api.answers import refuse_ungradable
from specmeasure.api.prompts import corpus_facts, describe_files, read_prompts
from specmeasure.api.reports import REPORT_FILES
from specmeasure.errors import UsageError
from specmeasure.records.corpus import Corpus, Dropped, Prompt
from specmeasure.records.machine import Environment
from specmeasure.records.request import Request
from specmeasure.records.trace import Manifest
from specmeasure.run.environment import environment
from specmeasure.run.watch import Watchers
from specmeasure.trace import store

OF_A_MACHINE = (
    "versions",
    "platform",
    "cpu",
    "num_cores",
    "cpu_quota",
    "memory_bytes",
    "accelerators",
)
OF_A_DRIVER = ("versions",)  # of workers, which are compared by themselves


def read_asked(
    request: Request, folder: Path, *, replace_run: bool, run_code: bool, watchers: Watchers
) -> Corpus:
    """The prompts of a new run, before anything is loaded or started.

    Raises:
        UsageError: prompts or folder are not what the request takes them for.
    """
    corpus = read_prompts(request.sources, request.options)
    for line in describe_files(corpus):
        watchers.stage(line)
    if request.corpus_fingerprint not in (None, corpus.fingerprint):
        raise UsageError(
            f"the prompts are not those that were planned for (fingerprint "
            f"{corpus.fingerprint[:12]}, planned {str(request.corpus_fingerprint)[:12]}). Plan "
            "again, or give the same files."
        )
    refuse_ungradable(request.plan, corpus.prompts, run_code=run_code)
    if not replace_run:
        store.refuse_existing(folder)
    return corpus


def state(
    request: Request,
    corpus: Corpus,
    prompts: Sequence[Prompt],
    misfits: tuple[Dropped, ...],
    machine: Environment,
) -> Manifest:
    """What is known of every new run; models or servers, their warnings and trials are not yet."""
    return Manifest(
        schema_version=store.SCHEMA_VERSION,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        argv=request.argv,
        plan=request.plan,
        corpus=corpus_facts(request, corpus, prompts, misfits),
        environment=machine,
        models=(),
        num_planned_trials=0,
        policy=request.policy,
    )


def open_folder(folder: Path, manifest: Manifest, *, replace_run: bool) -> None:
    """Write the manifest; an old brief does not speak for a new run."""
    store.create_run(folder, manifest, replace_run=replace_run)
    for name in REPORT_FILES:
        (folder / name).unlink(missing_ok=True)


def read_again(
    manifest: Manifest, folder: Path, sources: Sequence[str], *, run_code: bool
) -> Corpus:
    """The prompts of an interrupted run, on the machine that it began on.

    With workers that is any machine: they are compared by themselves.

    Raises:
        UsageError: the prompts, or the machine, are not those of the run.
    """
    facts = manifest.corpus
    names = OF_A_MACHINE if manifest.fleet is None else OF_A_DRIVER
    refuse_other_machine(manifest.environment, folder, names)
    if "-" in facts.sources and not sources:
        raise UsageError(
            f"{folder}: its prompts came from stdin. Pipe them in again: specmeasure run - "
            f"--resume {folder}"
        )
    corpus = read_prompts(sources or facts.sources, facts.options)
    if corpus.fingerprint != facts.fingerprint:
        raise UsageError(
            f"{folder}: the prompts are not those of the interrupted run (fingerprint "
            f"{corpus.fingerprint[:12]}, then {facts.fingerprint[:12]}). Give the same files, or "
            "start a new run."
        )
    refuse_ungradable(manifest.plan, corpus.prompts, run_code=run_code)
    return corpus


def refuse_other_machine(
    recorded: Environment, folder: Path, compared: Sequence[str] = OF_A_MACHINE
) -> None:
    """Times of two machines or versions cannot be paired."""
    here = environment(recorded.num_threads, recorded.load_average)
    names = [name for name in compared if getattr(here, name) != getattr(recorded, name)]
    if names:
        raise UsageError(
            f"{folder}: this is not the machine, or not the software, that the run began with "
            f"({', '.join(names)} differ). Go on there, or start a new run."
        )
