"""Runs on serving engines: servers started or attached to, put under load, recorded."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from specmeasure.api.answers import grading_notes
from specmeasure.api.beginnings import open_folder, state
from specmeasure.api.prompts import (
    asked_samplings,
    budget_notes,
    keep_fitting,
    sample_fitting,
)
from specmeasure.errors import ModelError, ServerLost, UsageError
from specmeasure.estimate.running import RunningSums
from specmeasure.records.corpus import Corpus, CorpusOptions, Dropped, Prompt
from specmeasure.records.plan import BASELINE, Arm, Method, Plan
from specmeasure.records.request import Request
from specmeasure.records.serving import Endpoint, Evidence, ServerFacts, Serving, ServingEngine
from specmeasure.records.trace import Manifest, Trace
from specmeasure.run.cores import free_cores
from specmeasure.run.environment import busy_notes, environment, load_average
from specmeasure.run.load_recorder import LoadRecorder
from specmeasure.run.requests import Contexts
from specmeasure.run.watch import WatchedJournal, Watchers
from specmeasure.run.windows import planned_by_load
from specmeasure.servers import detect
from specmeasure.servers.attach import connect
from specmeasure.servers.attached import AttachedFleet
from specmeasure.servers.commands import launch_for
from specmeasure.servers.launch import num_threads
from specmeasure.servers.limits import Limits
from specmeasure.servers.managed import ManagedFleet
from specmeasure.servers.plain import PlainContexts, tools_unsent
from specmeasure.servers.server import Fleet
from specmeasure.trace import store

if TYPE_CHECKING:
    from specmeasure.engines.engine import Engine

LOGS = "servers"  # below a run's folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What one session of a run on servers is about.

    Args:
        folder: of the run.
        plan: with ``serving``.
        corpus: its prompts.
        watchers: told what happens.
        run_code: whether answers may be run to grade them.
    """

    folder: Path
    plan: Plan
    corpus: Corpus
    watchers: Watchers
    run_code: bool


def told_length(serving: Serving, stated: int | None) -> int:
    """K of an attached speculative server: as it tells it, or else as its user states it.

    Raises:
        UsageError: neither does, or they differ.
        ServerError: it cannot be reached.
    """
    told = asyncio.run(_told_length(serving)) if len(serving.endpoints) > 1 else None
    known = {length for length in (told, stated) if length is not None}
    if not known:
        raise UsageError(
            "how many tokens the server drafts is not known; state it with --k, as it is set up."
        )
    if len(known) > 1:
        raise UsageError(f"--k {stated}: the server drafts up to {told} tokens a block.")
    return known.pop()


def with_timeout(plan: Plan, request_timeout_s: float | None) -> Plan:
    """The plan with another limit on one answer, if there is one."""
    if request_timeout_s is None or plan.serving is None:
        return plan
    return replace(plan, serving=replace(plan.serving, request_timeout_s=request_timeout_s))


def engine_at(url: str) -> ServingEngine:
    """The kind of a server that runs already; see ``servers.detect``."""
    return asyncio.run(detect.engine_at(url, Limits()))


def start(session: Session, request: Request, *, replace_run: bool) -> Trace:
    """Record a new run; see ``runs.start``.

    One that measures a server before and after its owner sets it up anew comes back unsealed from
    its first half.
    """
    store.refuse_busy(session.folder)
    plan, watchers = session.plan, session.watchers
    machine = environment(num_threads(plan), load_average())
    asked = _Asked.of(session, request.options)
    notes = [*asked.warnings, *budget_notes(plan, asked.prompts)]
    notes += grading_notes(plan, asked.prompts)
    notes += busy_notes(machine)
    for note in notes:
        watchers.warning(note)
    planned = planned_by_load(plan, asked.prompts)
    manifest = replace(
        state(request, session.corpus, asked.prompts, asked.misfits, machine),
        num_planned_trials=sum(planned),
        planned_by_load=planned,
        warnings=tuple(notes),
    )
    return asyncio.run(_start(session, manifest, asked, replace_run=replace_run))


def resume(session: Session, manifest: Manifest, endpoints: Sequence[Endpoint]) -> Trace:
    """Go on with a run; see ``runs.resume``.

    Args:
        session: with the run's own plan.
        manifest: of the run.
        endpoints: where attached servers are now, if they moved or were not there yet.
    """
    store.refuse_busy(session.folder)
    serving = _serving(session.plan)
    if endpoints and serving.is_managed:
        raise UsageError(f"{session.folder}: this run starts its servers itself; leave out URLs.")
    asked = _Asked.of(session, manifest.corpus.options)
    by_arm = {one.arm: one for one in (*serving.endpoints, *endpoints)}
    if serving.is_before_and_after and endpoints:  # the one server is set up anew
        by_arm = {one.arm: one for one in endpoints}
    return asyncio.run(_resume(session, manifest, asked, tuple(by_arm.values())))


async def _start(
    session: Session, manifest: Manifest, asked: "_Asked", *, replace_run: bool
) -> Trace:
    endpoints = _serving(session.plan).endpoints
    shutil.rmtree(session.folder / LOGS, ignore_errors=True)  # of the run that is replaced
    async with _opened(session, endpoints) as (fleet, servers):
        manifest = replace(
            manifest, servers=servers, warnings=(*manifest.warnings, *fleet.warnings)
        )
        open_folder(session.folder, manifest, replace_run=replace_run)
        return await _record(session, asked, fleet, servers)


async def _resume(
    session: Session, manifest: Manifest, asked: "_Asked", endpoints: Sequence[Endpoint]
) -> Trace:
    async with _opened(session, endpoints) as (fleet, servers):
        known = {facts.arm: _lasting(facts) for facts in manifest.servers}
        changed = [one.arm for one in servers if known.get(one.arm, _lasting(one)) != _lasting(one)]
        if changed:
            raise UsageError(
                f"{session.folder}: the server of {changed[0]} is not the one of the interrupted "
                "run (its model or version differs). Serve the same, or start a new run."
            )
        store.add_servers(session.folder, [one for one in servers if one.arm not in known])
        return await _record(session, asked, fleet, servers)


@asynccontextmanager
async def _opened(
    session: Session, endpoints: Sequence[Endpoint]
) -> AsyncIterator[tuple[Fleet, tuple[ServerFacts, ...]]]:
    """The fleet, and what is known of each server that is there; all is closed in the end."""
    plan, serving = session.plan, _serving(session.plan)
    fleet: ManagedFleet | AttachedFleet
    if serving.is_managed:
        fleet = ManagedFleet(
            plan,
            session.folder / LOGS,
            connect=connect,
            launch=launch_for(plan),
            say=session.watchers.stage,
        )
    else:
        fleet = AttachedFleet(endpoints, partial(connect, serving=serving))
    there = {endpoint.arm for endpoint in endpoints} or {arm.name for arm in plan.arms}
    distinct = (plan.arms[0], *plan.speculative_arms)
    try:
        servers = [(await fleet.server(arm)).facts for arm in distinct if arm.name in there]
        for warning in fleet.warnings:
            session.watchers.warning(warning)
        yield fleet, tuple(servers)
    except ServerLost as error:
        ends = [f"{arm.name}: {end}" for arm in distinct if (end := fleet.how_it_ended(arm))]
        raise ServerLost("\n".join([str(error), *ends])) from error
    finally:
        await fleet.close()


async def _record(
    session: Session, asked: "_Asked", fleet: Fleet, servers: Sequence[ServerFacts]
) -> Trace:
    folder, plan, watchers = session.folder, session.plan, session.watchers
    there = {facts.arm for facts in servers}
    baseline = plan.arms[0].name
    arms = [arm for arm in plan.arms if (baseline if arm.is_baseline else arm.name) in there]
    with store.Journal(folder) as journal:
        journal.drop_torn_line()
        trace = store.read_trace(folder)
        sums = RunningSums(plan.arms)
        for trial in trace.trials:
            sums.add(trial)
        recorder = LoadRecorder(
            plan=plan,
            fleet=fleet,
            contexts=asked.contexts,
            journal=WatchedJournal(journal=journal, sums=sums, watchers=watchers),
            folder=folder,
            recorded=trace.trials,
            arms=arms,
            judge=_judge(session, asked.prompts),
            run_code=session.run_code,
            watchers=watchers,
        )
        watchers.stage("warming up")
        await recorder.warm_up(asked.prompts)
        watchers.planned(trace.manifest.num_planned_trials)
        await recorder.record(asked.prompts)
        if len(store.read_trace(folder).trials) == trace.manifest.num_planned_trials:
            store.seal_run(folder)
    return store.read_trace(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The prompts that are sent, in which form, and those that are not, with reasons."""

    contexts: Contexts
    prompts: tuple[Prompt, ...]
    misfits: tuple[Dropped, ...]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, session: Session, options: CorpusOptions) -> Self:
        """As token ids where a tokenizer is named, else as text."""
        corpus, tokenizer = session.corpus, _serving(session.plan).tokenizer
        contexts: Contexts
        warnings: tuple[str, ...] = ()
        if tokenizer is None:
            contexts = PlainContexts()
            fitting, misfits = tools_unsent(corpus.prompts)
        else:
            from specmeasure.engines.rendering import Renderer

            session.watchers.stage("loading the tokenizer")
            contexts = Renderer(tokenizer, session.plan.options)
            warnings = contexts.warnings(corpus.prompts)
            limit = contexts.context_limit()
            fitting, misfits = keep_fitting(corpus, contexts, session.plan, limit)
        prompts = sample_fitting(fitting, corpus, options)
        return cls(contexts=contexts, prompts=prompts, misfits=misfits, warnings=warnings)


def _judge(session: Session, prompts: Sequence[Prompt]) -> "Engine | None":
    """The target in this process, for sampled answers, if its weights are at hand."""
    plan, serving = session.plan, _serving(session.plan)
    samplings = asked_samplings(plan, prompts)
    if serving.tokenizer is None or all(one.is_greedy for one in samplings):
        return None
    from specmeasure.engines.transformers import TransformersEngine

    drafting = [arm for arm in plan.speculative_arms if arm.method is Method.DRAFT_MODEL]
    own = replace(
        plan,
        target=serving.tokenizer,
        arms=(BASELINE, *drafting),
        options=replace(plan.options, device="cpu"),  # the servers hold the accelerators
        serving=None,
    )
    session.watchers.stage("loading the target here, to audit sampled answers")
    try:
        return TransformersEngine.load(own, most_threads=free_cores())
    except ModelError as error:
        session.watchers.warning(f"sampled answers are not audited: {error}")
        return None


def _serving(plan: Plan) -> Serving:
    if plan.serving is None:
        raise ValueError("the plan uses no servers")
    return plan.serving


def _lasting(facts: ServerFacts) -> ServerFacts:
    """The facts without what differs from one start, or one first look, to the next."""
    return replace(facts, url=None, command=(), evidence=Evidence.NONE, num_speculative_tokens=None)


async def _told_length(serving: Serving) -> int | None:
    baseline, *others = serving.endpoints
    endpoint = others[0] if others else baseline
    unknown = Arm(name=endpoint.arm, method=Method.SERVED, num_speculative_tokens=1)
    server = await connect(endpoint.url, arm=unknown, serving=serving)
    await server.close()
    return server.facts.num_speculative_tokens
