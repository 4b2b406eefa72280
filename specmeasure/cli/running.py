"""From parsed options to a run, its progress and its result."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from specmeasure import api, demo
from specmeasure.api.arms import arms_at, between_baselines
from specmeasure.api.candidates import plan_candidates
from specmeasure.brief.console import summary_table
from specmeasure.brief.pace import machine_notes
from specmeasure.cli import drafting, fleets, serving
from specmeasure.cli.progress import warn, watched
from specmeasure.decide import override, read_policy
from specmeasure.errors import ModelError, UnusablePlan, UnusablePolicy, UsageError
from specmeasure.planfile import read_request
from specmeasure.records.corpus import CorpusOptions
from specmeasure.records.decision import Policy
from specmeasure.records.plan import (
    AnswerCheck,
    Arm,
    ModelOptions,
    Plan,
    Sampling,
)
from specmeasure.records.request import Request
from specmeasure.records.serving import Serving
from specmeasure.records.trace import Trace
from specmeasure.trace import store

EXIT_BY_VERDICT = {"GO": 0, "NO_GO": 10, "INCONCLUSIVE": 20}
WITH_RESUME = {
    "resume",
    "prompts",
    "run_code",
    "check",
    "as_json",
    "quiet",
    "baseline_url",
    "speculative_url",
    "beside",
    "request_timeout",
    "ray",
    *fleets.COMPANIONS,
}
WITH_PLAN = {
    *("plan", "until_decided", "out", "force", "run_code", "check", "as_json", "quiet"),
    *("ray", *fleets.COMPANIONS),
}
GIB = 2**30
PIPE_WIDTH = 110


def start(context: typer.Context) -> tuple[Path, Trace]:
    """Record a new run."""
    asked = context.params
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")  # noqa: DTZ005 - the user's own clock
    folder: Path = asked["out"] or Path("reports") / stamp
    with watched(folder, quiet=asked["quiet"]) as watchers:
        asked_for = _planned(context) if asked["plan"] else request(context, watchers)
        trace = api.start(
            asked_for,
            folder,
            replace_run=asked["force"],
            run_code=asked["run_code"],
            watchers=watchers,
        )
    return folder, trace


def request(context: typer.Context, watchers: api.Watchers) -> Request:
    """What the options ask for."""
    asked = context.params
    if not asked["prompts"]:
        raise UsageError("no prompts: name files, folders or - for stdin (or --resume a run).")
    rules = drafting.lossy_rules(asked)
    served = serving.serving(asked, given_names(context)) if "engine" in asked else None
    plan = (
        plan_for(asked, watchers, lambda found: arms_at(found, _lengths(asked["k"]), rules))
        if served is None
        else _served_plan(context, served, watchers)
    )
    stated = policy(context, Policy())
    if served is not None:
        serving.refuse_unmeasured_load(served, stated)
    return Request(
        plan=plan,
        sources=tuple(asked["prompts"]),
        options=replace(corpus_options(asked), limit=_limit(asked)),
        policy=stated,
        until_decided=asked.get("until_decided", False),
        fleet=fleets.fleet(asked) if "ray" in asked else None,
        argv=tuple(sys.argv),
    )


def _served_plan(context: typer.Context, served: Serving, watchers: api.Watchers) -> Plan:
    """The plan of a run on servers."""
    asked = context.params
    for name in ("early_exit", "lossy", "until_decided"):
        if asked[name]:
            raise UsageError(f"--{name.replace('_', '-')} is for runs in process, not for servers.")
    lengths = _lengths(asked["k"])
    if served.is_managed:
        configured = serving.configured_arms(asked)
        plan = plan_for(
            asked,
            watchers,
            lambda found: between_baselines(
                [*(arm.at(length) for arm in found for length in lengths), *configured]
            ),
            is_enough=bool(configured),
        )
    else:
        stated = serving.one_length(lengths) if "k" in given_names(context) else None
        arms = between_baselines([serving.attached_arm(api.told_length(served, stated))])
        name = served.model or served.tokenizer or "served model"
        plan = plan_for({**asked, "target": name}, watchers, lambda _: arms, is_enough=True)
    return replace(plan, serving=serving.with_own_tokenizer(served, plan.target))


def _planned(context: typer.Context) -> Request:
    """What a plan file asks for; nothing else may be said beside it."""
    path: Path = context.params["plan"]
    refuse_beside(context, "--plan", WITH_PLAN)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnusablePlan(f"--plan {path}: cannot be read: {error}") from error
    planned = read_request(text, str(path))
    return replace(
        planned,
        until_decided=planned.until_decided or context.params["until_decided"],
        fleet=fleets.fleet(context.params, planned.fleet),
        argv=tuple(sys.argv),
    )


def _limit(asked: dict[str, Any]) -> int | None:
    """The most prompts of a run, by whichever option names them."""
    limit: int | None = asked["limit"]
    most: int | None = asked.get("max_prompts")
    if most is None:
        return limit
    if not asked["until_decided"]:
        raise UsageError("--max-prompts is for --until-decided; without it, --limit sets the size.")
    if limit is not None:
        raise UsageError("--limit and --max-prompts say the same here; leave out --limit.")
    return most


def corpus_options(asked: dict[str, Any]) -> CorpusOptions:
    """How to read the prompts, from parsed options."""
    named = {name: asked[name] for name in CorpusOptions.__dataclass_fields__ if name in asked}
    return CorpusOptions(**{**named, "slice_by": tuple(asked["slice_by"] or ())})


def resume(context: typer.Context) -> tuple[Path, Trace]:
    """Finish an interrupted run; everything but the place of the prompts is in its manifest."""
    refuse_beside(context, "--resume", WITH_RESUME)
    folder: Path = context.params["resume"]
    with watched(folder, quiet=context.params["quiet"]) as watchers:
        return folder, api.resume(
            folder,
            context.params["prompts"] or (),
            endpoints=serving.endpoints(context.params),
            request_timeout_s=(
                context.params["request_timeout"]
                if "request_timeout" in given_names(context)
                else None
            ),
            fleet=fleets.fleet(context.params, store.read_manifest(folder).fleet),
            run_code=context.params["run_code"],
            watchers=watchers,
        )


def refuse_beside(context: typer.Context, flag: str, allowed: set[str]) -> None:
    rest = given_names(context) - allowed
    if rest:
        names = ", ".join("--" + name.replace("_", "-") for name in sorted(rest))
        taken = {"--plan": "the file", "--resume": "the run"}.get(flag, "the runs")
        raise UsageError(f"{flag} takes its settings from {taken}; leave out {names}.")


def given_names(context: typer.Context) -> set[str]:
    """The parameters that were typed."""
    return {
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", None) == "COMMANDLINE"
    }


def conclude(context: typer.Context, folder: Path, trace: Trace, *, policy: Policy | None) -> None:
    """Estimate, decide, write the brief, print the result; exit by the verdict with --check."""
    if not trace.sealed and serving.is_half_done(trace):
        warn(serving.way_on(trace, folder))
        return
    report = api.conclude(trace, policy=policy)
    beside: Path | None = context.params.get("beside")
    if beside is not None:
        report = api.beside_one(report, api.read_trace(beside), name=str(beside))
    for note in machine_notes(report.estimates, report.decision.policy):
        warn(note)
    brief = api.write_report(report, folder, detokenise=_detokeniser(trace))
    if context.params["as_json"]:
        print(api.as_json(report))
    else:
        console = wide_console()
        console.print(
            summary_table(trace.manifest, report.estimates, report.decision, report.served)
        )
        console.print(f"Brief: {brief}", soft_wrap=True, highlight=False)
    if context.params["check"]:
        raise typer.Exit(EXIT_BY_VERDICT[report.decision.verdict])


def _detokeniser(trace: Trace) -> Callable[[Sequence[int]], str] | None:
    """The target's tokenizer, where it is needed and at hand."""
    try:
        return api.detokeniser(trace)
    except ModelError as error:
        warn(f"report.html shows ids in place of text: {error}")
        return None


def policy(context: typer.Context, stated: Policy) -> Policy:
    """The stated policy, replaced by --policy's file, then by single flags."""
    asked = context.params
    path: Path | None = asked["policy"]
    if path is not None:
        try:
            stated = read_policy(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise UnusablePolicy(f"--policy {path}: cannot be read: {error}") from error
    memory = asked.get("max_memory_gib")
    flags = {
        "min_decode_speedup": asked.get("min_speedup"),
        "min_slice_speedup": asked.get("min_slice_speedup"),
        "max_memory_bytes": None if memory is None else int(memory * GIB),
        "min_prompts": asked.get("min_prompts"),
        "max_divergent_trials": asked.get("max_divergent"),
        "max_noise": asked.get("max_noise"),
        "max_failed_share": asked.get("max_failed_share"),
        "at_concurrency": asked.get("at_concurrency"),
    }
    return override(stated, flags, "flags")


def wide_console() -> Console:
    """Stdout as wide as the terminal, or wide enough for every table where it is a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, PIPE_WIDTH))


def plan_for(
    asked: dict[str, Any],
    watchers: api.Watchers,
    arms: Callable[[Sequence[Arm]], tuple[Arm, ...]],
    *,
    most: int = 1,
    is_enough: bool = False,
) -> Plan:
    """The plan that options ask for.

    Args:
        asked: parsed options.
        watchers: told where the embedded pair stands in.
        arms: what is made of the candidates.
        most: drafts that candidates are looked at with.
        is_enough: whether there is something to measure without candidates.
    """
    target: str | None = asked["target"]
    default_drafts: tuple[str, ...] = ()
    if target is None:
        target, default_drafts = demo.TARGET, (demo.DRAFT,)
        watchers.stage("no --target: using the embedded pair")
    names = [name for name in ModelOptions.__dataclass_fields__ if name in asked]
    options = ModelOptions(**{name: asked[name] for name in names}, num_threads=asked["threads"])
    named = drafting.drafters(asked, target, options, default_drafts=default_drafts)
    if not named.are_named and not is_enough:
        raise UsageError(
            "nothing to measure against the baseline: name a --draft, --medusa, --early-exit, "
            "--ngram or --suffix."
        )
    for note in drafting.notes_on_heads(named, _lengths(asked["k"]) if "k" in asked else ()):
        watchers.warning(note)
    candidates = plan_candidates(named, most=most)
    return Plan(
        target=target,
        arms=arms(candidates),
        sampling=sampling(asked),
        max_new_tokens=asked["max_new_tokens"],
        num_repeats=asked.get("repeats", 1),
        seed=asked["seed"],
        ignore_eos=asked["ignore_eos"],
        use_asked_sampling=asked["row_sampling"],
        include_text=asked["include_text"],
        answer_check=_answer_check(asked.get("check_answers")),
        options=options,
    )


def sampling(asked: dict[str, Any]) -> Sampling:
    """How tokens are picked, from parsed options."""
    try:
        stated = Sampling(
            temperature=asked["temperature"], top_k=asked["top_k"], top_p=asked["top_p"]
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    if stated.is_greedy and (stated.top_k or stated.top_p):
        raise UsageError("--top-k and --top-p need a --temperature above 0.")
    return stated


def _answer_check(text: str | None) -> AnswerCheck | None:
    try:
        return None if text is None else AnswerCheck(text)
    except ValueError:
        raise UsageError(f"--check-answers {text}: use one of {', '.join(AnswerCheck)}.") from None


def _lengths(text: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise UsageError(f"--k {text}: use whole numbers, e.g. --k 2,4,8.") from None
