"""How to turn the recommended arm on: of a run on servers, first where it was measured.

Engines that this run did not use come after, and are said to be untested.
"""

import json
import shlex
from collections.abc import Mapping, Sequence

from specmeasure.brief.caveats import method_caveats, mixture_caveats, sampling_caveats
from specmeasure.brief.names import listed, plain
from specmeasure.brief.numbers import reason
from specmeasure.brief.pasting import draws_drafts, dtype_name, target_name
from specmeasure.brief.servers import say_loads
from specmeasure.brief.settings import (
    EngineSettings,
    code_by_engine,
    language_of,
    write_caveats,
    write_settings,
)
from specmeasure.brief.settings_vllm import vllm_config
from specmeasure.brief.watch import write_watch
from specmeasure.records.estimates import Costs, Unmeasured
from specmeasure.records.load_curve import BatchSizes, LoadCurve
from specmeasure.records.plan import Arm, Method
from specmeasure.records.serving import ServerFacts, Serving, ServingEngine
from specmeasure.records.trace import Manifest

_BY_BATCH_SIZE = "num_speculative_tokens_per_batch_size"
_PORTABLE = (Method.DRAFT_MODEL, Method.NGRAM)  # that other engines have, too
_COUNTING = (ServingEngine.VLLM, ServingEngine.LLAMACPP, ServingEngine.SGLANG)  # by Prometheus
_CONFIG_FLAG = "--speculative-config"


def write_turn_on(
    manifest: Manifest,
    arm: Arm,
    costs: Costs | Unmeasured | None,
    curve: LoadCurve | None = None,
) -> tuple[EngineSettings, ...]:
    """What to paste, engine by engine; the one that was measured comes first."""
    serving = manifest.plan.serving
    if serving is None:
        return write_settings(manifest, arm, costs)
    name = serving.engine.display_name
    measured = EngineSettings(
        engine=name,
        language="sh",
        code=_measured_code(manifest, serving, arm, curve),
        watch=_watch(serving, arm, costs),
    )
    others = [
        EngineSettings(
            engine=engine,
            language=language_of(engine),
            code=code,
            watch=None,
        )
        for engine, code in _other_codes(manifest, serving, arm).items()
    ]
    return measured, *others


def write_turn_on_caveats(
    manifest: Manifest, arm: Arm, costs: Costs | Unmeasured | None
) -> tuple[str, ...]:
    """What a reader must know before pasting."""
    serving = manifest.plan.serving
    if serving is None:
        return write_caveats(manifest, arm)
    engine, others = serving.engine.display_name, _other_codes(manifest, serving, arm)
    said = f"This run measured these settings on {engine}, at {say_loads(serving.loads)}"
    said += (
        "; how its server was started stands in the details under “What was run”."
        if serving.is_managed
        else "."
    )
    if others:
        said += f" Those of {listed(list(others))} it did not test: measure there before relying."
    return (
        said,
        *_name_caveats(manifest, serving, arm),
        _threshold_caveat(costs),
        *mixture_caveats(manifest),
        *(method_caveats(manifest, arm, code_by_engine(manifest, arm)) if others else ()),
        *(sampling_caveats(manifest, arm) if others else ()),
    )


def write_schedules(manifest: Manifest, curve: LoadCurve) -> str | None:
    """VLLM's setting of K by the number of requests, for each candidate; None where there is none.

    Its JSON holds ranges of first and last number of requests and K; K itself is the largest.
    """
    serving = manifest.plan.serving
    if serving is None or serving.engine is not ServingEngine.VLLM or not serving.is_managed:
        return None
    configs = {one.candidate: _scheduled(manifest, one) for one in curve.batch_sizes}
    lines = [
        f"# {plain(candidate)}\n{_vllm_serve(manifest, serving, config)}"
        for candidate, config in configs.items()
        if config is not None
    ]
    return "\n".join(lines) or None


def _watch(serving: Serving, arm: Arm, costs: Costs | Unmeasured | None) -> str | None:
    if not isinstance(costs, Costs) or serving.engine not in _COUNTING:
        return None
    return write_watch(serving.engine.display_name, arm.method, costs)


def _name_caveats(manifest: Manifest, serving: Serving, arm: Arm) -> list[str]:
    """Where names in the settings are no names of files."""
    models = [manifest.plan.target, *([arm.draft] if arm.draft else [])]
    if not serving.is_managed:
        return []
    if serving.engine is ServingEngine.LLAMACPP and not all(m.endswith(".gguf") for m in models):
        return ["GGUF names stand for the models that were converted."]
    if any(model.startswith("embedded:") for model in models):
        said = (
            "This run used the embedded demo pair, which no engine can load by these names: the "
            "settings show the shape only."
        )
        return [said]
    return []


def _threshold_caveat(costs: Costs | Unmeasured | None) -> str:
    if isinstance(costs, Costs):
        return (
            "Break-even is that of one load: more requests in flight make verifying dearer and "
            "raise it."
        )
    why = plain(reason(costs) or "no pass was timed").removesuffix(".")
    return (
        f"Below which acceptance length to turn it off was not measured ({why}): measure again "
        "when traffic or load changes."
    )


def _other_codes(manifest: Manifest, serving: Serving, arm: Arm) -> dict[str, str]:
    """Of engines that load the same files: llama.cpp's are its own."""
    if not serving.is_managed or serving.engine is not ServingEngine.VLLM:
        return {}
    if arm.method not in _PORTABLE:
        return {}
    codes = code_by_engine(manifest, arm)
    return {
        engine: code
        for engine, code in codes.items()
        if isinstance(code, str) and engine != serving.engine.display_name
    }


def _measured_code(manifest: Manifest, serving: Serving, arm: Arm, curve: LoadCurve | None) -> str:
    if not serving.is_managed:
        return _elsewhere(_server_of(manifest, arm))
    match serving.engine:
        case ServingEngine.VLLM:
            config = _told_config(manifest, arm) or vllm_config(manifest, arm) or {}
            code = _vllm_serve(manifest, serving, config)
            sizes = curve.batch_sizes if curve else ()
            scheduled = _own_schedule(manifest, arm, sizes)
            if scheduled is None:
                return code
            return (
                f"# as it was measured\n{code}\n# with the best K for the number of requests in "
                "flight: put together from this run's arms, not run as a whole\n"
                f"{_vllm_serve(manifest, serving, scheduled)}"
            )
        case ServingEngine.LLAMACPP:
            return _llamacpp(manifest, serving, arm)
    return _elsewhere(_server_of(manifest, arm))


def _elsewhere(server: ServerFacts | None) -> str:
    """A comment, since what configured the server is not ours to repeat."""
    if server is None:
        return "# configured outside this run: leave the server as it was measured"
    version = f" {plain(server.version)}" if server.version else ""
    length = server.num_speculative_tokens
    told = "" if length is None else f", K = {length} as it tells"
    return (
        f"# configured outside this run: leave the server as it was measured\n"
        f"# {server.engine.display_name}{version}, model {plain(server.model)}{told}"
        + (f", at {plain(server.url)}" if server.url else "")
    )


def _server_of(manifest: Manifest, arm: Arm) -> ServerFacts | None:
    return next((one for one in manifest.servers if one.arm == arm.name), None)


def _vllm_serve(manifest: Manifest, serving: Serving, config: Mapping[str, object]) -> str:
    dtype = dtype_name(manifest)
    words = [] if dtype == "auto" else [f"--dtype {dtype}"]
    words += [shlex.join(serving.engine_args)] if serving.engine_args else []
    first = " ".join(["vllm serve", target_name(manifest), *map(plain, words)])
    return f"{first} \\\n  {_CONFIG_FLAG} {shlex.quote(json.dumps(config))}"


def _llamacpp(manifest: Manifest, serving: Serving, arm: Arm) -> str:
    """As the arm's server was started: all K drafts in every block, whatever their chances."""
    target, length = _gguf(manifest.plan.target, "target.gguf"), arm.num_speculative_tokens
    match arm:
        case Arm(draft=str(draft)):
            sampled = " --spec-draft-sampling probabilistic" if draws_drafts(manifest, arm) else ""
            code = (
                f"llama-server -m {target} --spec-draft-model {_gguf(draft, 'draft.gguf')} "
                f"--metrics \\\n  --spec-type draft-simple --spec-draft-n-max {length} "
                f"--spec-draft-n-min 1 --spec-draft-p-min 0{sampled}"
            )
        case Arm(min_ngram=int(shortest)):
            code = (
                f"llama-server -m {target} --metrics \\\n  --spec-type ngram-simple "
                f"--spec-ngram-simple-size-n {shortest} --spec-ngram-simple-size-m {length}"
            )
        case _:
            return _elsewhere(_server_of(manifest, arm))
    added = serving.engine_args if serving.program else ()  # else they are no options of a binary
    return f"{code} {plain(shlex.join(added))}".rstrip()


def _gguf(model: str, otherwise: str) -> str:
    """The file, or what stands for the one it was converted to."""
    return shlex.quote(model) if model.endswith(".gguf") else otherwise


def _told_config(manifest: Manifest, arm: Arm) -> dict[str, object] | None:
    """The very JSON that the arm's server was started with, or the user's own."""
    server = _server_of(manifest, arm)
    words = list(server.command) if server else []
    text = arm.speculative_config
    if _CONFIG_FLAG in words[:-1]:
        text = words[words.index(_CONFIG_FLAG) + 1]
    try:
        config = json.loads(text or "")
    except ValueError:
        return None
    return config if isinstance(config, dict) else None


def _own_schedule(
    manifest: Manifest, arm: Arm, sizes: Sequence[BatchSizes]
) -> dict[str, object] | None:
    """That of the arm's candidate."""
    found = next((one for one in sizes if arm in _arms_of(manifest, one)), None)
    return _scheduled(manifest, found) if found else None


def _scheduled(manifest: Manifest, sizes: BatchSizes) -> dict[str, object] | None:
    """The candidate's configuration with K by batch size; None where no K helps anywhere."""
    longest = max((length for _, _, length in sizes.ranges), default=0)
    arm = next(
        (one for one in _arms_of(manifest, sizes) if one.num_speculative_tokens == longest), None
    )
    if arm is None:
        return None
    config = _told_config(manifest, arm) or vllm_config(manifest, arm)
    if config is None:
        return None
    ranges = [list(one) for one in sizes.ranges]
    return {**config, "num_speculative_tokens": longest, _BY_BATCH_SIZE: ranges}


def _arms_of(manifest: Manifest, sizes: BatchSizes) -> list[Arm]:
    """The candidate at its several K."""
    return [
        arm
        for arm in manifest.plan.speculative_arms
        if arm.name.removesuffix(f" k={arm.num_speculative_tokens}") == sizes.candidate
    ]
