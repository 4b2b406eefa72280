"""What was run, where and with what; enough to repeat it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields

from specmeasure.brief.names import listed, plain, shortened
from specmeasure.brief.numbers import byte_size, count
from specmeasure.records.corpus import CorpusOptions, SourceFile
from specmeasure.records.plan import Plan
from specmeasure.records.trace import CorpusFacts, Environment, Manifest, ModelFacts

_FINGERPRINT_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One labelled line."""

    label: str
    text: str


def write_provenance(manifest: Manifest) -> tuple[Fact, ...]:
    """Models, prompts, decoding, machine and software, a line each."""
    target, *drafts = manifest.models
    return (
        Fact(label="Target", text=_model(target)),
        *(Fact(label="Draft", text=_model(draft)) for draft in drafts),
        Fact(label="Prompts", text=_prompts(manifest.corpus)),
        Fact(label="Decoding", text=_decoding(manifest.plan, manifest.corpus)),
        Fact(label="Machine", text=_machine(manifest.environment)),
        Fact(label="Software", text=_software(manifest.environment)),
        Fact(label="Started", text=plain(manifest.started_at)),
    )


def command_line(argv: Sequence[str]) -> str:
    """What was typed, quoted for a shell."""
    return plain(shlex.join(argv))


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
    return f"{sampling}, up to {tokens}{eos}, seed {plan.seed}, concurrency 1"


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
