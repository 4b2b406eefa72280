"""What was run, where and with what; enough to repeat it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from specmeasure.brief.names import listed, plain, shortened
from specmeasure.brief.numbers import byte_size, count, duration
from specmeasure.brief.servers import (
    describe_engines,
    describe_loads,
    describe_server,
    describe_setup,
    own_servers,
)
from specmeasure.records.corpus import CorpusOptions, SourceFile
from specmeasure.records.estimates import ArmEstimates
from specmeasure.records.machine import Environment
from specmeasure.records.plan import Plan
from specmeasure.records.replay import ReplayManifest
from specmeasure.records.trace import CorpusFacts, Manifest, ModelFacts

_FINGERPRINT_DIGITS = 12
_NO_CACHE = "none"  # of heads, which read the target's states


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One labelled line."""

    label: str
    text: str


def write_provenance(manifest: Manifest, arms: Sequence[ArmEstimates] = ()) -> tuple[Fact, ...]:
    """Models or servers, prompts, decoding, machine and software, a line each.

    With what the models' graphs cost, where these arms made some.
    """
    decoding = _decoding(manifest.plan, manifest.corpus)
    at = "" if manifest.plan.serving else ", concurrency 1"
    return (
        *_model_facts(manifest.models),
        *_graph_facts(arms),
        *_server_facts(manifest),
        Fact(label="Prompts", text=_prompts(manifest.corpus)),
        Fact(label="Decoding", text=f"{decoding}{at}"),
        *_place_and_time(manifest.environment, manifest.started_at, machine=_role(manifest)),
    )


def write_short_provenance(manifest: Manifest) -> tuple[Fact, ...]:
    """Traffic, decoding, models or servers, and hardware in a few lines, for one page."""
    environment = manifest.environment
    machine = listed([*map(plain, environment.accelerators), plain(environment.cpu)])
    threads = count(environment.num_threads, "thread")
    models = [
        f"{plain(one.name)} in {plain(one.dtype).removeprefix('torch.')} on {plain(one.device)}"
        for one in manifest.models
    ]
    decoding = _decoding(manifest.plan, manifest.corpus)
    prompts = Fact(label="Prompts", text=f"{_prompts(manifest.corpus)}; {decoding}")
    if manifest.plan.serving is None:
        return prompts, Fact(label="Models", text=f"{listed(models)}; {machine}, {threads}")
    where = machine if manifest.plan.serving.is_managed else f"asked from {machine}"
    servers = f"{describe_engines(manifest)}, {describe_setup(manifest.plan.serving)}; {where}"
    return (
        prompts,
        Fact(label="Servers", text=servers),
        Fact(label="Load", text=describe_loads(manifest.plan.serving)),
    )


def write_replay_provenance(
    manifest: ReplayManifest, drafts: Sequence[ModelFacts]
) -> tuple[Fact, ...]:
    """The same of a replay, whose answers were recorded in batches."""
    plan, corpus = manifest.request.request.plan, manifest.corpus
    recorded = (
        "recorded responses"
        if manifest.request.use_references
        else f"recorded in batches of {manifest.request.batch_size}"
    )
    return (
        *_model_facts((manifest.target, *drafts)),
        Fact(label="Prompts", text=_prompts(corpus)),
        Fact(label="Decoding", text=f"{_decoding(plan, corpus)}, {recorded}"),
        *_place_and_time(manifest.environment, manifest.started_at),
    )


def _model_facts(models: Sequence[ModelFacts]) -> tuple[Fact, ...]:
    """The target, its drafts and heads, a line each; none of a run on servers."""
    drafts = ("Heads" if one.cache == _NO_CACHE else "Draft" for one in models[1:])
    labels = ("Target", *drafts)[: len(models)]
    return tuple(
        Fact(label=label, text=_model(model)) for label, model in zip(labels, models, strict=True)
    )


def _graph_facts(arms: Sequence[ArmEstimates]) -> tuple[Fact, ...]:
    """What capturing them took; none where passes were launched one operation at a time."""
    spent = [arm.capture_s for arm in arms if arm.capture_s is not None]
    if not spent:
        return ()
    said = f"captured in {duration(sum(spent))} before trials, in no time shown"
    return (Fact(label="Graphs", text=said),)


def _server_facts(manifest: Manifest) -> tuple[Fact, ...]:
    """Every arm's server, how they were kept and loaded; none of a run in this process."""
    serving = manifest.plan.serving
    if serving is None:
        return ()
    return (
        *(
            Fact(label=f"Server of {plain(one.arm)}", text=describe_server(one))
            for one in own_servers(manifest)
        ),
        Fact(label="Servers", text=describe_setup(serving)),
        Fact(label="Load", text=describe_loads(serving)),
    )


def _model(model: ModelFacts) -> str:
    rollback = "" if model.cache == _NO_CACHE else f", cache rollback: {plain(model.cache)}"
    return (
        f"{plain(model.name)} ({_digest(model.fingerprint)}), {_parameters(model.num_parameters)} "
        f"parameters, {plain(model.dtype).removeprefix('torch.')} on {plain(model.device)}"
        f"{rollback}{_other_vocabulary(model)}"
    )


def _other_vocabulary(model: ModelFacts) -> str:
    """How the tokens of a draft with another tokenizer became the target's."""
    other = model.other_vocabulary
    if other is None:
        return ""
    drawn = "drafted among these where answers are sampled"
    way = f"matched by text where answers are greedy, {drawn}" if other.matches_text else drawn
    return (
        f"; another tokenizer: {other.num_shared_tokens} of the target's {other.num_target_tokens} "
        f"tokens are also its own, {way}"
    )


def _prompts(corpus: CorpusFacts) -> str:
    places = [_place(file) for file in corpus.files] or list(corpus.sources)
    return ", ".join(
        [
            f"{count(corpus.num_prompts)} from {listed([plain(p) for p in places], at_most=4)}",
            f"fingerprint {_digest(corpus.fingerprint)}",
            *_options(corpus.options),
        ]
    )


def _role(manifest: Manifest) -> str:
    """Of this machine: where servers are somebody else's, it only asked."""
    serving = manifest.plan.serving
    return "Machine" if serving is None or serving.is_managed else "Client"


def _place_and_time(
    environment: Environment, started_at: str, *, machine: str = "Machine"
) -> tuple[Fact, ...]:
    return (
        Fact(label=machine, text=_machine(environment)),
        Fact(label="Software", text=_software(environment)),
        Fact(label="Started", text=plain(started_at)),
    )


def _place(file: SourceFile) -> str:
    return file.path if file.revision is None else f"{file.path} at {file.revision}"


def _options(options: CorpusOptions) -> list[str]:
    """Those that are not what they are by default."""
    chosen = ((one.name, getattr(options, one.name), one.default) for one in fields(options))
    return [
        f"{name}={plain(', '.join(value) if isinstance(value, tuple) else str(value))}"
        for name, value, default in chosen
        if value != default
    ]


def _decoding(plan: Plan, corpus: CorpusFacts) -> str:
    eos = ", ignoring EOS" if plan.ignore_eos else ""
    tokens = count(plan.max_new_tokens, "new token")
    used = corpus.samplings or ((plan.sampling, corpus.num_prompts),)
    mixed = [f"{said} for {count(number, 'prompt')}" for said, number in used]
    sampling = "; ".join(mixed) if len(mixed) > 1 else str(used[0][0])
    return f"{sampling}, up to {tokens}{eos}, seed {plan.seed}"


def _machine(environment: Environment) -> str:
    parts = [
        *(plain(accelerator) for accelerator in environment.accelerators),
        plain(environment.cpu),
        f"{_threads(environment)} on {_cores(environment)}",
        f"{byte_size(environment.memory_bytes)} memory",
        plain(environment.platform),
    ]
    if environment.load_average is not None:
        parts.append(f"load {environment.load_average:.2f} before the run")
    if environment.other_cores is not None:
        parts.append(f"{environment.other_cores:.1f} cores busy with other work before it")
    return ", ".join(parts)


def _threads(environment: Environment) -> str:
    cap = environment.threads_capped_by
    return f"{count(environment.num_threads, 'thread')}{'' if cap is None else f' ({plain(cap)})'}"


def _cores(environment: Environment) -> str:
    """With what makes them fewer than they look: shared arithmetic, a container's quota."""
    number, physical = environment.num_cores, environment.num_physical_cores
    fewer = [
        f"{physical} physical" if physical is not None and physical < number else "",
        f"granted {environment.cpu_quota:g}" if environment.cpu_quota is not None else "",
    ]
    said = ", ".join(part for part in fewer if part)
    return f"{count(number, 'core')}{f' ({said})' if said else ''}"


def _software(environment: Environment) -> str:
    versions = sorted(environment.versions.items())
    return ", ".join(f"{plain(package)} {plain(version)}" for package, version in versions)


def _digest(fingerprint: str) -> str:
    return shortened(fingerprint[:_FINGERPRINT_DIGITS])


def _parameters(number: int) -> str:
    for size, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g} {suffix}"
    return str(number)
