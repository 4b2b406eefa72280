"""What was run, where and with what; enough to repeat it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from specmeasure.brief.names import listed, plain, shortened
from specmeasure.brief.numbers import byte_size, count
from specmeasure.records.plan import Plan, Sampling
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
        Fact(label="Decoding", text=_decoding(manifest.plan)),
        Fact(label="Machine", text=_machine(manifest.environment)),
        Fact(label="Software", text=_software(manifest.environment)),
        Fact(label="Started", text=plain(manifest.started_at)),
    )


def command_line(argv: Sequence[str]) -> str:
    """What was typed, quoted for a shell."""
    return plain(shlex.join(argv))


def say_sampling(sampling: Sampling) -> str:
    """How the target picked tokens.

    >>> say_sampling(Sampling(temperature=0.7, top_p=0.9))
    'temperature 0.7, top-p 0.9'
    """
    if sampling.is_greedy:
        return "greedy"
    limits = [("top-k", sampling.top_k), ("top-p", sampling.top_p)]
    said = [f"{name} {value:g}" for name, value in limits if value is not None]
    return ", ".join([f"temperature {sampling.temperature:g}", *said])


def _model(model: ModelFacts) -> str:
    return (
        f"{plain(model.name)} ({_digest(model.fingerprint)}), {_parameters(model.num_parameters)} "
        f"parameters, {plain(model.dtype).removeprefix('torch.')} on {plain(model.device)}, "
        f"cache rollback: {plain(model.cache)}"
    )


def _prompts(corpus: CorpusFacts) -> str:
    places = [f.path for f in corpus.files] or list(corpus.sources)
    options = [f"{plain(k)}={plain(str(v))}" for k, v in corpus.options.items() if v]
    return ", ".join(
        [
            f"{count(corpus.num_prompts)} from {listed([plain(p) for p in places], at_most=4)}",
            f"fingerprint {_digest(corpus.fingerprint)}",
            *options,
        ]
    )


def _decoding(plan: Plan) -> str:
    eos = ", ignoring EOS" if plan.ignore_eos else ""
    tokens = count(plan.max_new_tokens, "new token")
    return f"{say_sampling(plan.sampling)}, up to {tokens}{eos}, seed {plan.seed}, concurrency 1"


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
