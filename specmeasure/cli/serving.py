"""What the options say of servers."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from specmeasure import api
from specmeasure.cli import drafting
from specmeasure.errors import UsageError
from specmeasure.records.decision import Policy
from specmeasure.records.plan import Arm, Method
from specmeasure.records.serving import Endpoint, Load, Serving, ServingEngine, Slo
from specmeasure.records.trace import Trace
from specmeasure.servers.address import base_url

MANAGED = (ServingEngine.VLLM, ServingEngine.LLAMACPP)
_ATTACHED_ONLY = ("baseline_url", "speculative_url", "model")
_MANAGED_ONLY = ("engine_args", "vllm_python", "llama_server", "speculative_config", "keep_apart")
_EITHER = (
    "concurrency",
    "rate",
    "windows",
    "slo",
    "tokenizer",
    "start_timeout",
    "request_timeout",
    "beside",
    "at_concurrency",
)
_SPECULATIVE = "speculative"  # the name of the attached arm


def serving(asked: dict[str, Any], given: set[str]) -> Serving | None:
    """How the run uses servers; None where no option names one.

    Args:
        asked: parsed options.
        given: names of those that were typed.

    Raises:
        UsageError: options that contradict each other, or a value that cannot be read.
    """
    if not given & {"engine", "baseline_url", "speculative_url"}:
        loose = given & {*_ATTACHED_ONLY, *_MANAGED_ONLY, *_EITHER}
        if loose:
            raise UsageError(
                f"{_flags(loose)}: for servers; name an --engine to be started, or the "
                "--baseline-url and --speculative-url of running ones."
            )
        return None
    return _attached(asked, given) if asked["baseline_url"] else _managed(asked, given)


def endpoints(asked: dict[str, Any]) -> tuple[Endpoint, ...]:
    """The URLs of attached servers by arm."""
    urls = (("baseline", asked["baseline_url"]), (_SPECULATIVE, asked["speculative_url"]))
    return tuple(Endpoint(arm=arm, url=base_url(url)) for arm, url in urls if url)


def one_length(lengths: Sequence[int]) -> int:
    """K as stated for an attached server, which has one."""
    if len(lengths) != 1:
        raise UsageError("--k: an attached server has one K; measure others in runs of theirs.")
    return lengths[0]


def attached_arm(length: int) -> Arm:
    """What the attached server with speculation does."""
    return Arm(name=_SPECULATIVE, method=Method.SERVED, num_speculative_tokens=length)


def configured_arms(asked: dict[str, Any]) -> tuple[Arm, ...]:
    """Arms of --speculative-config."""
    return tuple(map(_configured, asked["speculative_config"] or ()))


def with_own_tokenizer(served: Serving, target: str) -> Serving:
    """A started server's target renders its prompts, unless it is one file."""
    if served.tokenizer or not served.is_managed or target.endswith(".gguf"):
        return served
    return replace(served, tokenizer=target)


def refuse_unmeasured_load(served: Serving, policy: Policy) -> None:
    """Raise UsageError where the policy decides at a load that the run does not measure."""
    wanted = policy.at_concurrency
    levels = [load.concurrency for load in served.loads]
    if wanted is not None and wanted not in levels:
        measured = ", ".join(map(str, served.loads))
        raise UsageError(
            f"--at-concurrency {wanted}: the run measures {measured}; add {wanted} to "
            "--concurrency, or decide at one of these."
        )


def is_half_done(trace: Trace) -> bool:
    """Whether one server was measured before its owner sets it up with speculation."""
    served = trace.manifest.plan.serving
    return served is not None and served.is_before_and_after and len(trace.manifest.servers) == 1


def way_on(trace: Trace, folder: Path) -> str:
    """What to do between the two halves."""
    url = trace.manifest.plan.serving.endpoints[0].url if trace.manifest.plan.serving else ""
    return (
        "the baseline is measured. Set the server up with speculation, then go on: specmeasure run "
        f"--resume {folder} --speculative-url {url}"
    )


def _managed(asked: dict[str, Any], given: set[str]) -> Serving:
    wrong = given & set(_ATTACHED_ONLY)
    if wrong:
        raise UsageError(
            f"{_flags(wrong)}: for attached servers, which need --baseline-url; a server that "
            "--engine starts has none of these."
        )
    engine = _engine(asked["engine"])
    if engine not in MANAGED:
        raise UsageError(
            f"--engine {engine}: specmeasure starts {' and '.join(MANAGED)}; attach to a running "
            f"{engine.display_name} with --baseline-url and --speculative-url."
        )
    other = {ServingEngine.VLLM: "llama_server", ServingEngine.LLAMACPP: "vllm_python"}[engine]
    if asked[other]:
        raise UsageError(f"{_flags({other})} is for another engine than --engine {engine}.")
    return Serving(
        engine=engine,
        tokenizer=asked["tokenizer"],
        engine_args=_split(asked["engine_args"] or ()),
        program=asked["vllm_python"] or asked["llama_server"],
        keep_apart=asked["keep_apart"],
        **_common(asked),
    )


def _attached(asked: dict[str, Any], given: set[str]) -> Serving:
    wrong = given & set(_MANAGED_ONLY)
    if wrong:
        raise UsageError(f"{_flags(wrong)}: for servers that --engine starts; these run already.")
    for name in (*drafting.NAMING, "tree", "target"):
        if asked[name]:
            raise UsageError(
                f"{_flags({name})}: the attached server is set up already. Its model is named with "
                "--model, its tokenizer with --tokenizer."
            )
    named = endpoints(asked)
    engine = asked["engine"]
    return Serving(
        engine=api.engine_at(named[0].url) if engine is None else _engine(engine),
        endpoints=named,
        model=asked["model"],
        tokenizer=asked["tokenizer"],
        **_common(asked),
    )


def _common(asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "loads": _loads(asked["concurrency"], asked["rate"]),
        "num_windows": asked["windows"],
        "slo": _slo(asked["slo"]),
        "start_timeout_s": asked["start_timeout"],
        "request_timeout_s": asked["request_timeout"],
    }


def _engine(name: str) -> ServingEngine:
    try:
        return ServingEngine(name)
    except ValueError:
        raise UsageError(f"--engine {name}: use one of {', '.join(ServingEngine)}.") from None


def _loads(concurrency: str | None, rate: str | None) -> tuple[Load, ...]:
    if concurrency and rate:
        raise UsageError("--concurrency and --rate are two ways to put a load on; name one.")
    try:
        if rate:
            rates = sorted({float(part) for part in rate.split(",")})
            return tuple(Load(rate=one) for one in rates)
        levels = sorted({int(part) for part in (concurrency or "1").split(",")})
        return tuple(Load(concurrency=one) for one in levels)
    except ValueError:
        wanted = (
            f"--rate {rate}: use numbers above 0, e.g. 0.5,2."
            if rate
            else f"--concurrency {concurrency}: use whole numbers above 0, e.g. 1,4,16."
        )
        raise UsageError(wanted) from None


def _slo(text: str | None) -> Slo | None:
    if text is None:
        return None
    names = {"ttft": "ttft_s", "tpot": "tpot_s", "e2e": "end_to_end_s"}
    try:
        pairs = [part.partition("=") for part in text.split(",")]
        return Slo(**{names[name.strip()]: float(number) for name, _, number in pairs})
    except (KeyError, ValueError):
        raise UsageError(
            f"--slo {text}: use seconds above 0 by name, ttft, tpot or e2e, e.g. "
            "ttft=0.5,tpot=0.05."
        ) from None


def _split(texts: Sequence[str]) -> tuple[str, ...]:
    try:
        return tuple(word for text in texts for word in shlex.split(text))
    except ValueError as error:
        raise UsageError(f"--engine-args: {error}.") from None


def _configured(text: str) -> Arm:
    """The arm of one --speculative-config."""
    try:
        config = json.loads(text)
        method, length = config["method"], config["num_speculative_tokens"]
        return Arm(
            name=f"{method} k={length}",
            method=Method.SERVED,
            num_speculative_tokens=int(length),
            speculative_config=text,
        )
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"--speculative-config {text}: use vLLM's JSON with method and "
            'num_speculative_tokens, e.g. \'{"method": "eagle", "model": "path", '
            '"num_speculative_tokens": 3}\'.'
        ) from None


def _flags(names: set[str]) -> str:
    return ", ".join("--" + name.replace("_", "-") for name in sorted(names))
