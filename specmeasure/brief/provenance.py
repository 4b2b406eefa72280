"""What was run, where and with what; enough to repeat it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import PurePath

from specmeasure.brief.names import listed, plain, shortened
from specmeasure.brief.numbers import byte_size, count
from specmeasure.records.corpus import CorpusOptions, SourceFile
from specmeasure.records.plan import Plan
from specmeasure.records.replay import ReplayManifest
from specmeasure.records.trace import CorpusFacts, Environment, Manifest, ModelFacts

_FINGERPRINT_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One labelled line."""

    label: str
    text: str


def write_provenance(manifest: Manifest) -> tuple[Fact, ...]:
    """Models, prompts, decoding, machine and software, a line each."""
    return (
        *_model_facts(manifest.models),
        Fact(label="Prompts", text=_prompts(manifest.corpus)),
        Fact(label="Decoding", text=f"{_decoding(manifest.plan, manifest.corpus)}, concurrency 1"),
        *_place_and_time(manifest.environment, manifest.started_at),
    )


def write_short_provenance(manifest: Manifest) -> tuple[Fact, ...]:
    """Traffic, decoding, models and hardware in two lines, for one page."""
    environment = manifest.environment
    machine = listed([*map(plain, environment.accelerators), plain(environment.cpu)])
    threads = count(environment.num_threads, "thread")
    models = [
        f"{plain(one.name)} in {plain(one.dtype).removeprefix('torch.')} on {plain(one.device)}"
        for one in manifest.models
    ]
    decoding = _decoding(manifest.plan, manifest.corpus)
    return (
        Fact(label="Prompts", text=f"{_prompts(manifest.corpus)}; {decoding}"),
        Fact(label="Models", text=f"{listed(models)}; {machine}, {threads}"),
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
    """The target and its drafts, a line each."""
    target, *drafts = models
    return (
        Fact(label="Target", text=_model(target)),
        *(Fact(label="Draft", text=_model(draft)) for draft in drafts),
    )


def command_line(argv: Sequence[str]) -> str:
    """What was typed, quoted for a shell; where the program itself lies is left out."""
    program = [PurePath(word).name for word in argv[:1]]
    return plain(shlex.join([*program, *argv[1:]]))


def _model(model: ModelFacts) -> str:
    return (
        f"{plain(model.name)} ({_digest(model.fingerprint)}), {_parameters(model.num_parameters)} "
        f"parameters, {plain(model.dtype).removeprefix('torch.')} on {plain(model.device)}, "
        f"cache rollback: {plain(model.cache)}"
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


def _place_and_time(environment: Environment, started_at: str) -> tuple[Fact, ...]:
    return (
        Fact(label="Machine", text=_machine(environment)),
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
        f"{count(environment.num_threads, 'thread')} on {count(environment.num_cores, 'core')}",
        f"{byte_size(environment.memory_bytes)} memory",
        plain(environment.platform),
    ]
    if environment.load_average is not None:
        parts.append(f"load {environment.load_average:.2f} before the run")
    return ", ".join(parts)


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
