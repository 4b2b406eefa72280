"""Serving engines in words: whose servers, how they were put under load, what they reveal."""

from collections.abc import Sequence

from specmeasure.brief.names import command_line, listed, plain
from specmeasure.brief.numbers import NOT_APPLICABLE, count
from specmeasure.brief.tables import Table
from specmeasure.records.plan import BASELINE_AGAIN
from specmeasure.records.serving import Evidence, Load, ServerFacts, Serving, ServingEngine
from specmeasure.records.trace import Manifest

ONE_AT_A_TIME = (
    "Measured at concurrency 1. This does not transfer to batched serving, where verifying costs "
    "more of a step."
)
_MEANINGS = {
    Evidence.BLOCKS: "drafted and accepted tokens of every verifying pass of every request",
    Evidence.HISTOGRAM: "of each request, how many passes accepted how many drafts",
    Evidence.COUNTERS: "drafted and accepted tokens in all, of a request or of a window, not of "
    "single passes",
    Evidence.NONE: "nothing of its drafts: what clocks show is measured, acceptance is not",
}
_CACHES = "prefix caches off, so that no prompt is answered from an earlier arm's"


def own_servers(manifest: Manifest) -> list[ServerFacts]:
    """By arm; the baseline's A/A twin is the baseline's own server."""
    return [one for one in manifest.servers if one.arm != BASELINE_AGAIN.name]


def describe_server(server: ServerFacts) -> str:
    """Engine, version, model, and where it is or how it was started."""
    version = f" {plain(server.version)}" if server.version else ", version not told"
    place = (
        f"at {plain(server.url)}"
        if server.url
        else f"started by this run: {command_line(server.command)}"
    )
    return f"{server.engine.display_name}{version}, model {plain(server.model)}, {place}"


def describe_engines(manifest: Manifest) -> str:
    """The engines alone, each once."""
    versions = {
        f"{_engine(one.engine)}{f' {plain(one.version)}' if one.version else ''}"
        f" serving {plain(one.model)}": None
        for one in own_servers(manifest)
    }
    return listed(list(versions))


def describe_setup(serving: Serving) -> str:
    """Who started the servers, and whether they were up together."""
    if serving.is_before_and_after:
        return "one server, measured before and after somebody else set it up anew"
    if not serving.is_managed:
        return "started by somebody else, and known only as far as they tell"
    if serving.keep_apart:
        return "started by this run, one at a time, restarted in the order A B B A; " + _CACHES
    return "started by this run, all up together; " + _CACHES


def describe_loads(serving: Serving) -> str:
    """How requests arrived, and in how many windows."""
    closed = [load for load in serving.loads if load.concurrency is not None]
    rates = [load for load in serving.loads if load.concurrency is None]
    said = []
    if closed:
        said.append(f"closed loop at {say_loads(closed)}: a request is sent when one has ended")
    if rates:
        said.append(
            f"open loop at {say_loads(rates)}: requests are sent at random times (Poisson), "
            "whether or not others have ended"
        )
    return f"{'; '.join(said)}; up to {count(serving.num_windows, 'window')} of each arm and load"


def say_loads(loads: Sequence[Load]) -> str:
    """Loads of one kind, the unit said once.

    >>> say_loads([Load(concurrency=1), Load(concurrency=16)])
    'concurrency 1 and 16'
    >>> say_loads([Load(rate=2.5)])
    '2.5 requests/s'
    """
    if all(load.concurrency is not None for load in loads):
        return f"concurrency {listed([short_load(load) for load in loads], at_most=9)}"
    if all(load.rate is not None for load in loads):
        return f"{listed([short_load(load) for load in loads], at_most=9)} requests/s"
    return listed([str(load) for load in loads], at_most=9)


def load_unit(load: Load) -> str:
    """What its number counts."""
    return "concurrency" if load.rate is None else "requests/s"


def short_load(load: Load) -> str:
    """Its number alone."""
    return f"{load.rate:g}" if load.concurrency is None else str(load.concurrency)


def write_order(manifest: Manifest) -> str:
    """In which order arms took their turns, and what that is good for."""
    serving = manifest.plan.serving
    if serving is None:
        return (
            "every prompt went through all arms back to back, in rotated order, so that a drift "
            "of the machine meets all arms alike."
        )
    if serving.is_before_and_after:
        return (
            "all prompts went through the baseline, then the server was set up anew and they went "
            "through it again: what the machine did in between is not told apart from speculation."
        )
    if serving.is_managed and serving.keep_apart:
        return (
            "one server was up at a time, restarted in the order A B B A, so that a steady drift "
            "of the machine meets all arms alike."
        )
    return (
        "each group of prompts went through all arms back to back, in rotated order, at one load "
        "after the other, so that a drift of the machine meets all arms alike."
    )


def write_transfer(manifest: Manifest) -> str | None:
    """For what a run on servers holds; None: one request at a time, in this process."""
    serving = manifest.plan.serving
    if serving is None:
        return None
    hardware = "this hardware" if serving.is_managed else "its hardware"
    return (
        f"This holds for {describe_engines(manifest)}, on {hardware}, at "
        f"{say_loads(serving.loads)}, for these prompts; not for another engine or version, nor "
        "for a heavier load."
    )


def write_transfers(manifests: Sequence[Manifest]) -> tuple[str, ...]:
    """For what the numbers of several runs hold, each kind once."""
    return tuple(dict.fromkeys(write_transfer(one) or ONE_AT_A_TIME for one in manifests))


def server_table(manifest: Manifest) -> Table:
    """What each server reveals, and so what can be known of its drafts."""
    return Table(
        columns=("Arm", "Engine", "Version", "Evidence", "Token ids", "K, as it tells"),
        rows=tuple(
            (
                plain(one.arm),
                one.engine.display_name,
                plain(one.version) if one.version else "not told",
                _evidence(manifest, one),
                "given" if one.gives_ids else "not given: answers are compared as text",
                NOT_APPLICABLE
                if one.num_speculative_tokens is None
                else count(one.num_speculative_tokens),
            )
            for one in own_servers(manifest)
        ),
    )


def write_evidence_levels(manifest: Manifest) -> tuple[str, ...]:
    """What the levels in the table of servers mean, most first."""
    used = {one.evidence for one in own_servers(manifest) if not _is_baseline(manifest, one)}
    return tuple(
        f"Evidence {level.name}: the server tells {meaning}."
        for level, meaning in _MEANINGS.items()
        if level in used
    )


def _evidence(manifest: Manifest, server: ServerFacts) -> str:
    return "it drafts nothing" if _is_baseline(manifest, server) else server.evidence.name


def _is_baseline(manifest: Manifest, server: ServerFacts) -> bool:
    return any(arm.is_baseline for arm in manifest.plan.arms if arm.name == server.arm)


def _engine(engine: ServingEngine) -> str:
    """As one says it inside a sentence."""
    article = "an " if engine is ServingEngine.OPENAI else ""
    return f"{article}{engine.display_name}"
